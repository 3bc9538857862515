//! Instruction-set architectures under Debian's names, with what a package tree's layout makes of each.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An architecture, by the name that Debian's packages give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64
    Amd64,
    /// 64-bit Arm
    Arm64,
    /// 64-bit little-endian POWER
    Ppc64el,
    /// 64-bit IBM Z
    S390x,
}

impl Architecture {
    /// Debian's name, as in `APT::Architecture` and package file names.
    pub fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
            Self::Ppc64el => "ppc64el",
            Self::S390x => "s390x",
        }
    }

    /// The multiarch tuple: the folder under `usr/lib` where the dynamic loader looks first
    /// (`dpkg-architecture -qDEB_HOST_MULTIARCH`).
    pub(crate) fn multiarch(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
            Self::Ppc64el => "powerpc64le-linux-gnu",
            Self::S390x => "s390x-linux-gnu",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.debian())
    }
}
