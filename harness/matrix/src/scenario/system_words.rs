//! What an operating system is, as far as single words of its table in systems.toml say.

use nestmatrix_model::{Word, word_traits};

/// Where the later versions of "and later" end. It is a property of the system: each major version of RHEL has its own
/// documents, which name the next one in addition to "and later"; Windows has only major versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Later {
    /// At the end of the major version.
    MajorVersion,
    /// Never: every later version is meant.
    Always,
}

impl Word for Later {
    const WHAT: &'static str = "end of later versions";
    const ALL: &'static [Self] = &[Self::MajorVersion, Self::Always];

    fn word(self) -> &'static str {
        match self {
            Self::MajorVersion => "major-version",
            Self::Always => "always",
        }
    }
}
word_traits!(Later);

/// Whether documents name versions of a system. The customers of a cloud can't choose one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Versions {
    /// They do, by numbers.
    Numbered,
    /// They do not.
    None,
}

impl Word for Versions {
    const WHAT: &'static str = "kind of versions";
    const ALL: &'static [Self] = &[Self::Numbered, Self::None];

    fn word(self) -> &'static str {
        match self {
            Self::Numbered => "numbered",
            Self::None => "none",
        }
    }
}
word_traits!(Versions);

/// A hypervisor that is not an operating system: an emulator that runs L1 itself, instead of a machine with an L0 on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hypervisor {
    /// QEMU's TCG: what plays the metal elsewhere.
    Tcg,
}

impl Word for Hypervisor {
    const WHAT: &'static str = "hypervisor";
    const ALL: &'static [Self] = &[Self::Tcg];

    fn word(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
        }
    }
}
word_traits!(Hypervisor);
