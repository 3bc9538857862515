//! Intel: QEMU's TCG has no VMX. Bochs has it, with EPT, unrestricted guests, VPID and VMCS shadowing. Everything else is as on
//! AMD.

use super::{ArchInfo, BareMachine, BochsMachine, Nesting, Procedure, Processors, TraceEvent, amd};
use crate::Viommu;

pub(super) const INFO: ArchInfo = ArchInfo {
    word: "intel",
    name: "Intel 64",
    processor: "an Intel processor",
    runner_label: "intel",
    processors: Processors::Vendors(&["GenuineIntel", "CentaurHauls"]),
    cpu_models: &[
        "486",
        "Broadwell",
        "Cascadelake",
        "ClearwaterForest",
        "Conroe",
        "Cooperlake",
        "Denverton",
        "GraniteRapids",
        "Haswell",
        "Icelake",
        "IvyBridge",
        "KnightsMill",
        "Nehalem",
        "Penryn",
        "SandyBridge",
        "SapphireRapids",
        "SierraForest",
        "Skylake",
        "Snowridge",
        "Westmere",
        "core2duo",
        "coreduo",
        "n270",
        "pentium",
    ],
    virtualization_flag: Some("vmx"),
    documented_flags: &["vmx", "ept"],
    kvm_module: "kvm_intel",
    procedure: Some(Procedure { unload_claim: "unload", stops_vms: false, l0_is_bare_metal: true }),
    metal: BareMachine::Bochs(BochsMachine {
        // On Skylake-X, KVM would need enable_apicv=0.
        processor: "corei7_haswell_4770",
        // Cloud kernels have no driver for its network cards.
        variant: "generic",
    }),
    typical_seconds: 110,
    missing_in_tcg: Some("VMX"),
    nesting: Nesting::CpuFeature("vmx"),
    cpus: 1,
    spare_first_cpu: false,
    viommu: Viommu::Device("intel-iommu"),
    // tsc=reliable: the kernel must not compare the emulated clock with another one, since it would reject it.
    kernel_parameters: "console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check tsc=reliable",
    // arch/x86/kvm/vmx/nested.c of 5.10: emitted when the processor has left a nested guest. With bit 31
    // (VMX_EXIT_REASONS_FAILED_VMENTRY) it is no exit: the processor refused to enter.
    nested_event: Some(TraceEvent {
        system: "kvm",
        name: "kvm_nested_vmexit",
        filter: "!(exit_reason & 0x80000000)",
    }),
    ..amd::INFO
};
