//! What a level runs its guests with, if a document requires something other than the system's usual hypervisor.

use nestmatrix_model::{Launch, Word, word_traits};

/// The hypervisor that a system must be set up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Windows' hypervisor.
    HyperV,
    /// The Windows Subsystem for Linux in its second version, whose Linux runs in a VM.
    Wsl2,
}

impl Role {
    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::HyperV => "Hyper-V",
            Self::Wsl2 => "WSL2",
        }
    }

    /// What starts the guests of a level with this role.
    pub fn launch(self) -> Launch {
        match self {
            Self::HyperV => Launch::HyperV,
            Self::Wsl2 => Launch::Wsl2,
        }
    }

    /// The role of the level whose guests this launcher starts, if it is one of Windows.
    pub fn of_launch(launch: Launch) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.launch() == launch)
    }
}

impl Word for Role {
    const WHAT: &'static str = "role";
    const ALL: &'static [Self] = &[Self::HyperV, Self::Wsl2];

    fn word(self) -> &'static str {
        match self {
            Self::HyperV => "hyper-v",
            Self::Wsl2 => "wsl2",
        }
    }
}
word_traits!(Role);
