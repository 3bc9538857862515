//! IBM Z: no emulator runs nested guests. Hercules has SIE, so KVM loads there and can be queried, but guests need more. They run
//! on a real machine only.

use super::{
    ArchInfo, BareMachine, BootShortcuts, CrashKernel, HerculesMachine, InnermostMachine, MachineType,
    Nesting, NestingSwitch, Procedure, Processors,
};
use crate::{Isa, TpmDevice, Viommu};

const S390_CCW: MachineType =
    MachineType { name: "s390-ccw-virtio", properties: &[], devices: &[], bus: None };

pub(super) const INFO: ArchInfo = ArchInfo {
    word: "ibm-z",
    isa: Isa::S390x,
    name: "IBM Z",
    processor: "an IBM Z",
    runner_label: "z",
    processors: Processors::All,
    cpu_models: &[],
    model_without_cpu: None,
    usual_system: "debian 13",
    unsuitable_processor: None,
    virtualization_flag: Some("sie"),
    documented_flags: &["sie"],
    kvm_module: "kvm",
    nesting_switch: NestingSwitch::ModuleParameter,
    huge_pages_exclude_nesting: true,
    procedure: Some(Procedure { unload_claim: "unload", stops_vms: true, l0_is_bare_metal: false }),
    first_nesting_qemu: None,
    qemu: "qemu-system-s390x",
    metal: BareMachine::Hercules(HerculesMachine {
        processor: "2097",
        // con3215_drop: the kernel must wait for a slow console instead of dropping output.
        kernel_parameters: "conmode=3215 condev=0x0009 console=ttyS0 con3215_drop=0 cryptomgr.notests loglevel=3 panic=-1 nest.console=slow",
        no_guests: "Hercules' SIE does not have what QEMU needs from KVM (KVM_CAP_S390_COW)",
    }),
    metal_processors: None,
    no_snapshot: Some("Hercules has no snapshots"),
    typical_seconds: 60,
    missing_in_tcg: Some("SIE"),
    emulated_cpu: "max",
    emulated_cpu_with: &[],
    emulated_cpu_without: &[],
    host: S390_CCW,
    innermost_machines: &[InnermostMachine::plain(S390_CCW, "s390-ccw-virtio-")],
    // QEMU's name for interpretive execution (SIE) in a guest.
    nesting: Nesting::CpuFeature("sief2"),
    cpus: 1,
    spare_first_cpu: false,
    viommu: Viommu::Missing("its channel devices have none"),
    tpm: TpmDevice::Missing("its TPM devices are for x86, Arm and POWER"),
    metal_without_tpm: None,
    no_memory_plugging: Some("a machine of IBM Z has no slots for memory"),
    no_device_plugging: None,
    watchdog: "diag288",
    kernel_parameters: "console=ttysclp0 quiet panic=-1 cryptomgr.notests",
    transport: "ccw",
    boot_shortcuts: BootShortcuts::NONE,
    innermost_memory_mib: 256,
    overhead_memory_mib: 1024,
    crash_kernel: CrashKernel { memory_mib: 256, offset_mib: None, parameters: "nr_cpus=1" },
    kvm_as_seen_by_guest: "KVM",
    // arch/s390/kvm/kvm-s390.c: the instructions of guests that KVM handles, and those of them that are SIE. With SIE, L1 asks L0
    // to run L1's guest.
    exit_counters: &["exit_instruction"],
    nested_counter: Some("instruction_sie"),
    nested_event: None,
    exit_loop: None,
};
