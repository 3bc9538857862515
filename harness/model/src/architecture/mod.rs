//! The architectures that documents speak of: one table, and one file of data for each.
//!
//! Their names are those of vendors' machines, not of instruction sets: AMD and Intel nest differently, though both run the
//! same instructions. A new architecture is a file here, its `mod` line, and its line in the table.

mod amd;
mod arm;
mod crash_kernel;
mod host;
mod ibm_z;
mod info;
mod intel;
mod machine;
mod power9;

pub use crash_kernel::CrashKernel;
pub use host::{NestingSwitch, Procedure, Processors, TraceEvent, UnsuitableProcessor};
pub use info::ArchInfo;
pub use machine::{
    BOCHS, BareMachine, BochsMachine, BootShortcuts, HerculesMachine, InnermostMachine, MachineType, Nesting,
};

use crate::Isa;
use crate::word::Word;
use crate::word_traits;

/// Makes the enum and its table of lines `VARIANT: FILE`.
macro_rules! architectures {
    ($($(#[$doc:meta])* $variant:ident: $file:ident,)*) => {
        /// The architecture of the machine that L0 runs on, and so of every level of the stack.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Architecture {
            $($(#[$doc])* $variant,)*
        }

        impl ArchInfo {
            /// What differs between `architecture` and the others.
            pub fn of(architecture: Architecture) -> &'static Self {
                match architecture {
                    $(Architecture::$variant => &$file::INFO,)*
                }
            }
        }

        impl Word for Architecture {
            const WHAT: &'static str = "architecture";
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn word(self) -> &'static str {
                ArchInfo::of(self).word
            }
        }
    };
}

architectures! {
    /// AMD64 with SVM.
    Amd: amd,
    /// Intel 64 with VMX.
    Intel: intel,
    /// IBM POWER9.
    Power9: power9,
    /// 64-bit Arm.
    Arm: arm,
    /// IBM Z.
    IbmZ: ibm_z,
}
word_traits!(Architecture);

impl Architecture {
    /// The instruction set that images must be built for.
    pub fn isa(self) -> Isa {
        ArchInfo::of(self).isa
    }

    /// The architecture of a machine with this instruction set. `processor` is its vendor or model, and `has_flag` says which CPU
    /// flags it has, both as in /proc/cpuinfo. None if the documents name no such machine.
    pub fn of_machine(isa: Isa, processor: &str, has_flag: impl Fn(&str) -> bool) -> Option<Self> {
        let same_isa = || Self::ALL.iter().copied().filter(|one| one.isa() == isa);
        let nests = |one: &Self| ArchInfo::of(*one).virtualization_flag.is_some_and(&has_flag);
        let is_made_for = |one: &Self| ArchInfo::of(*one).processors.include(processor);
        // The flag decides: other vendors make such processors, too.
        same_isa().find(nests).or_else(|| same_isa().find(is_made_for))
    }
}
