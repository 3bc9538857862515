//! Intel: QEMU's TCG has no VMX. Bochs has, with EPT, unrestricted guests, VPID and VMCS shadowing.

use super::{BareMachine, BochsMachine, MachineType, Nesting, Profile, TraceEvent};

pub(super) static PROFILE: Profile = Profile {
    qemu: "qemu-system-x86_64",
    metal: BareMachine::Bochs(BochsMachine {
        // With VMX, EPT, unrestricted guests, VPID and VMCS shadowing. On Skylake-X, KVM would need enable_apicv=0.
        processor: "corei7_haswell_4770",
        // The kernels for clouds have no driver for its network cards.
        variant: "generic",
    }),
    metal_processors: None,
    typical_seconds: 110,
    tcg_lacks: Some("VMX"),
    emulated_cpu: "max",
    emulated_cpu_with: &[],
    emulated_cpu_without: &[],
    host: MachineType { name: "q35", properties: &[], devices: &[], bus: None },
    // See amd.rs.
    leaf: MachineType { name: "microvm", properties: &["rtc=on"], devices: &[], bus: None },
    nesting: Nesting::CpuFeature("vmx"),
    virtualization_flag: Some("vmx"),
    documented_flags: &["vmx", "ept"],
    kvm_module: "kvm_intel",
    // See amd.rs. tsc=reliable: an emulated clock that is compared with another is found wanting.
    kernel_parameters: "console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check tsc=reliable",
    transport: "pci",
    nesting_kernel_parameters: "",
    leaf_kernel_parameters: "reboot=t",
    leaf_memory_mib: 256,
    own_memory_mib: 768,
    kvm_as_seen_by_guest: "KVM",
    exit_counters: &["exits"],
    nested_counter: Some("nested_run"),
    // arch/x86/kvm/vmx/nested.c of 5.10: told when the processor has left a guest while that was a nested one. With bit 31
    // (VMX_EXIT_REASONS_FAILED_VMENTRY) it is no exit: the processor refused to enter.
    nested_event: Some(TraceEvent {
        system: "kvm",
        name: "kvm_nested_vmexit",
        filter: "!(exit_reason & 0x80000000)",
    }),
    exit_loop: Some("modprobe cpuid && dd if=/dev/cpu/0/cpuid of=/dev/null bs=16000 count=5 2>/dev/null"),
};
