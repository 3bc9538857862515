//! What a level runs its guests with, if a document requires something other than the system's usual hypervisor.

use nestmatrix_model::{Word, word_traits};

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

    /// Why no machine can run a level with this role, whatever images there are.
    pub fn no_machine(self) -> String {
        format!("nestmatrix starts guests by QEMU alone, and {} is another hypervisor", self.name())
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
