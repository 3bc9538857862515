//! The hypervisor that runs a level's machine, and the proof that it is the right one.
//!
//! Documents speak of KVM: each level from L1 on is run by the KVM of the level below it. On emulated metal an emulator runs the
//! outermost level instead: it plays the bare machine of L0, or is itself the hypervisor of L0. A Windows level runs its guest with
//! its Hyper-V, whether it starts it by Hyper-V's commands or as a distribution of WSL 2.

use nestmatrix_model::Accelerator;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_vmm::qemu::KvmReport;

/// What runs a level's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hypervisor {
    /// KVM of the level below. Its QEMU reports that, and KVM counts the exits of its guests.
    Kvm,
    /// An emulator. It has no counters; its guest proves it by showing the features of its CPU.
    Tcg,
    /// Hyper-V of the Windows level below. It has no QEMU and no counters. Windows reports that its hypervisor runs, and its guest
    /// that it is in it.
    HyperV,
}

/// What Linux calls Hyper-V (arch/x86/kernel/cpu/mshyperv.c).
const HYPER_V: &str = "Microsoft Hyper-V";

impl Hypervisor {
    /// What its guest's kernel calls it, on this architecture.
    pub(super) fn as_seen_by_guest(self, profile: &ArchInfo) -> &'static str {
        match self {
            Self::Kvm | Self::Tcg => profile.kvm_as_seen_by_guest,
            Self::HyperV => HYPER_V,
        }
    }

    /// Whether the answer of a machine's QEMU to `query-kvm` is that of this hypervisor.
    pub fn is_shown_by(self, report: &KvmReport) -> bool {
        match self {
            Self::Kvm => report.enabled,
            Self::Tcg => true,
            // No QEMU runs its guest.
            Self::HyperV => false,
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
            Self::Kvm | Self::HyperV => asked_for,
            Self::Tcg => Accelerator::Tcg,
        }
    }
}
