//! The processor architectures that documents speak of, as the names of vendors' machines rather than instruction sets:
//! nesting differs between AMD and Intel though both run the same instructions.

use super::word::{Word, word_traits};

/// The architecture of the machine that L0 runs on, and so of every level of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// AMD64 with SVM.
    Amd,
    /// Intel 64 with VMX.
    Intel,
    /// IBM POWER9.
    Power9,
    /// 64-bit Arm.
    Arm,
    /// IBM Z.
    IbmZ,
}

impl Architecture {
    /// The instruction set that images must be built for, by Debian's name for it.
    pub fn isa(self) -> &'static str {
        match self {
            Self::Amd | Self::Intel => "amd64",
            Self::Power9 => "ppc64el",
            Self::Arm => "arm64",
            Self::IbmZ => "s390x",
        }
    }
}

impl Word for Architecture {
    const WHAT: &'static str = "architecture";
    const ALL: &'static [Self] = &[Self::Amd, Self::Intel, Self::Power9, Self::Arm, Self::IbmZ];

    fn word(self) -> &'static str {
        match self {
            Self::Amd => "amd",
            Self::Intel => "intel",
            Self::Power9 => "power9",
            Self::Arm => "arm",
            Self::IbmZ => "ibm-z",
        }
    }
}
word_traits!(Architecture);
