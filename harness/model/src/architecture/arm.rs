//! Arm: QEMU's TCG emulates EL2 and FEAT_NV2, with which KVM can nest since Linux 6.16. QEMU can request it since 10.1.

use super::{
    ArchInfo, BareMachine, BootShortcuts, CrashKernel, InnermostMachine, MachineType, Nesting, NestingSwitch,
    Processors, TraceEvent,
};
use crate::{Isa, TpmDevice, Viommu};

const VIRT_WITH_EL2: MachineType = MachineType {
    name: "virt",
    properties: &["virtualization=on", "gic-version=3"],
    devices: &[],
    bus: None,
};

pub(super) const INFO: ArchInfo = ArchInfo {
    word: "arm",
    isa: Isa::Arm64,
    name: "64-bit Arm",
    processor: "a 64-bit Arm processor",
    runner_label: "arm",
    processors: Processors::All,
    cpu_models: &[],
    model_without_cpu: None,
    // The first with Linux 6.16 and QEMU 10.1.
    usual_system: "debian 14",
    unsuitable_processor: None,
    virtualization_flag: None,
    documented_flags: &[],
    kvm_module: "kvm",
    nesting_switch: NestingSwitch::KernelParameter {
        parameter: "kvm-arm.mode=nested",
        since: "Linux 6.16 and QEMU 10.1 or later",
        documents: "the documents say that nesting does not work on Arm",
        claim: "not-on-arm",
    },
    huge_pages_exclude_nesting: false,
    procedure: None,
    first_nesting_qemu: Some([10, 1]),
    qemu: "qemu-system-aarch64",
    metal: BareMachine::Qemu(VIRT_WITH_EL2),
    metal_processors: None,
    no_snapshot: None,
    typical_seconds: 60,
    missing_in_tcg: None,
    emulated_cpu: "max",
    // The architected algorithm of pointer authentication would take most of the emulator's time.
    emulated_cpu_with: &["pauth-impdef"],
    emulated_cpu_without: &[],
    host: VIRT_WITH_EL2,
    innermost_machines: &[InnermostMachine::plain(
        MachineType { name: "virt", properties: &["gic-version=3"], devices: &[], bus: None },
        "virt-",
    )],
    nesting: Nesting::MachineProperty("virtualization"),
    cpus: 1,
    spare_first_cpu: false,
    viommu: Viommu::Property("smmuv3"),
    tpm: TpmDevice::Device { name: "tpm-tis-device", driver: "tpm_tis" },
    metal_without_tpm: None,
    no_memory_plugging: Some(
        "QEMU's virt machine announces memory through ACPI, and its levels boot with a device tree",
    ),
    no_device_plugging: None,
    watchdog: "i6300esb",
    kernel_parameters: "console=ttyAMA0 quiet panic=-1 cryptomgr.notests",
    transport: "pci",
    boot_shortcuts: BootShortcuts::NONE,
    innermost_memory_mib: 384,
    overhead_memory_mib: 1024,
    crash_kernel: CrashKernel {
        memory_mib: 256,
        offset_mib: None,
        parameters: "nr_cpus=1 irqpoll reset_devices",
    },
    kvm_as_seen_by_guest: "KVM",
    exit_counters: &["exits"],
    nested_counter: None,
    // arch/arm64/kvm/trace_arm.h: a guest hypervisor's returns from exceptions. Only those with HCR_EL2.VM enter its guest: it does
    // not use the second stage of translation for itself.
    nested_event: Some(TraceEvent { system: "kvm", name: "kvm_nested_eret", filter: "hcr_el2 & 0x1" }),
    exit_loop: None,
};
