//! POWER9: QEMU's TCG emulates its hypervisor mode (powernv9). As a pseries machine, QEMU itself answers the calls of nested KVM-HV.

use super::{
    ArchInfo, BareMachine, BootShortcuts, CrashKernel, InnermostMachine, MachineType, Nesting, NestingSwitch,
    Procedure, Processors, TraceEvent, UnsuitableProcessor,
};
use crate::{Isa, TpmDevice, Viommu};

/// A guest of KVM-HV. An emulated POWER9 has none of the mitigations of speculation that QEMU requests from KVM. With VOF no
/// firmware runs in the guest; SLOF would run for a minute. Kernels with small pages can't back the large pages of a hash page
/// table.
macro_rules! pseries {
    ($($more:expr),*) => {
        MachineType {
            name: "pseries",
            properties: &[
                "cap-cfpc=broken",
                "cap-sbbc=broken",
                "cap-ibs=broken",
                "cap-ccf-assist=off",
                "cap-hpt-max-page-size=4096",
                "x-vof=on",
                $($more),*
            ],
            devices: &[],
            bus: None,
        }
    };
}

pub(super) const INFO: ArchInfo = ArchInfo {
    word: "power9",
    isa: Isa::Ppc64el,
    name: "IBM POWER9",
    processor: "a POWER9",
    runner_label: "power9",
    processors: Processors::Models("POWER9"),
    cpu_models: &[],
    model_without_cpu: None,
    usual_system: "debian 12",
    unsuitable_processor: Some(UnsuitableProcessor { model: "POWER8", claim: "not-on-power8" }),
    virtualization_flag: None,
    documented_flags: &[],
    kvm_module: "kvm_hv",
    nesting_switch: NestingSwitch::ModuleParameter,
    huge_pages_exclude_nesting: false,
    procedure: Some(Procedure { unload_claim: "unload-kvm-hv", stops_vms: true, l0_is_bare_metal: false }),
    first_nesting_qemu: None,
    qemu: "qemu-system-ppc64",
    metal: BareMachine::Qemu(MachineType {
        name: "powernv9",
        properties: &[],
        // Without the board's management controller, a shutdown hangs. A PCI host bridge has one slot, which takes a bridge.
        devices: &[
            "ipmi-bmc-sim,id=bmc0",
            "isa-ipmi-bt,bmc=bmc0,irq=10",
            "pnv-phb,chip-id=0,index=0",
            "pnv-phb-root-port,id=root",
            "pci-bridge,id=slots,bus=root,chassis_nr=1,shpc=off",
        ],
        bus: Some("slots"),
    }),
    metal_processors: Some("POWER9"),
    no_snapshot: Some("QEMU's powernv machine does not run after it is restored from a snapshot"),
    typical_seconds: 40,
    missing_in_tcg: None,
    emulated_cpu: "POWER9",
    emulated_cpu_with: &[],
    emulated_cpu_without: &[],
    host: pseries!("cap-nested-hv=on"),
    innermost_machines: &[InnermostMachine::plain(pseries!(), "pseries-")],
    nesting: Nesting::MachineProperty("cap-nested-hv"),
    cpus: 2,
    spare_first_cpu: false,
    viommu: Viommu::Missing("every pseries machine has one, which is part of the hypervisor's calls"),
    tpm: TpmDevice::Device { name: "tpm-spapr", driver: "tpm_ibmvtpm" },
    metal_without_tpm: Some("tpm-spapr, QEMU's TPM for POWER, is for pseries machines"),
    no_memory_plugging: None,
    no_device_plugging: Some(
        "a new device of a pseries machine must be taken by drmgr, which the images do not have",
    ),
    watchdog: "i6300esb",
    kernel_parameters: "console=hvc0 quiet panic=-1 cryptomgr.notests",
    transport: "pci",
    boot_shortcuts: BootShortcuts::NONE,
    innermost_memory_mib: 512,
    overhead_memory_mib: 1024,
    // The kernel would reserve memory from 128 MiB on, where QEMU has put the end of the initramfs.
    crash_kernel: CrashKernel {
        memory_mib: 256,
        offset_mib: Some(512),
        parameters: "maxcpus=1 irqpoll noirqdistrib reset_devices",
    },
    kvm_as_seen_by_guest: "KVM",
    exit_counters: &["exits", "sum_exits"],
    nested_counter: None,
    // arch/powerpc/kvm/trace_hv.h: the calls of a guest. 0xf804 is H_ENTER_NESTED (asm/hvcall.h), with which L1 asks L0 to run
    // L1's guest.
    nested_event: Some(TraceEvent { system: "kvm_hv", name: "kvm_hcall_enter", filter: "req == 0xf804" }),
    exit_loop: None,
};
