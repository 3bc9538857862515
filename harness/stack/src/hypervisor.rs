//! The hypervisor that runs a level's machine, and the proof that it is the right one.
//!
//! Documents speak of KVM: each level from L1 on is run by the KVM of the level below it. On emulated metal an emulator runs the
//! outermost level instead: it plays the bare machine of L0, or is itself the hypervisor of L0.

use nestmatrix_model::{Accelerator, LevelNumber};
use nestmatrix_vmm::qemu::KvmReport;

/// What runs a level's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hypervisor {
    /// KVM of the level below. Its QEMU reports that, and KVM counts the exits of its guests.
    Kvm,
    /// An emulator. It has no counters; its guest proves it by showing the features of its CPU.
    Tcg,
}

impl Hypervisor {
    /// The hypervisor that must run a level, depending on whether the emulator is L0's hypervisor.
    pub(super) fn of_guest(level: LevelNumber, emulator_is_l0: bool) -> Self {
        if emulator_is_l0 && level == LevelNumber::ALL[1] { Self::Tcg } else { Self::Kvm }
    }

    /// Whether the answer of a machine's QEMU to `query-kvm` is that of this hypervisor.
    pub fn is_shown_by(self, report: &KvmReport) -> bool {
        match self {
            Self::Kvm => report.enabled,
            Self::Tcg => true,
        }
    }

    /// Whether it counts the exits of its guests.
    pub(super) fn has_counters(self) -> bool {
        self == Self::Kvm
    }

    /// Whether the kernel under its QEMU logs problems of a guest.
    pub(super) fn logs_to_kernel(self) -> bool {
        self == Self::Kvm
    }

    /// The accelerator that is requested from a machine's QEMU if the scenario asks for this one.
    pub(super) fn accelerator(self, asked_for: Accelerator) -> Accelerator {
        match self {
            Self::Kvm => asked_for,
            Self::Tcg => Accelerator::Tcg,
        }
    }
}
