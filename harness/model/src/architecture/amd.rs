//! AMD: QEMU's TCG emulates SVM with nested paging, so QEMU is the emulated metal.

use super::{
    ArchInfo, BareMachine, BootShortcuts, CrashKernel, InnermostMachine, MachineType, Nesting, NestingSwitch,
    Procedure, Processors, TraceEvent,
};
use crate::{Isa, TpmDevice, Viommu};

const Q35: MachineType = MachineType { name: "q35", properties: &[], devices: &[], bus: None };

/// Initializations of the kernel that are slow in an emulator, and that KVM does not need: trace events of kprobes, a congestion control
/// of TCP, a source of random numbers that measures the jitter of the clock, and the test of a function that derives keys.
macro_rules! unneeded {
    () => {
        "init_kprobe_trace,cubictcp_register,jent_mod_init,crypto_kdf108_init"
    };
}

/// The kernel has no page tables of its own beside those of a program: each switch between the two would empty an emulated TLB. AMD's
/// processors need none, but those of Intel that emulators play do.
macro_rules! one_page_table {
    () => {
        "nopti"
    };
}

/// Timers fire at the periodic tick and not between ticks, which saves a third of all exits. The tick is still programmed each
/// time: with a periodic timer, a slow level would do nothing but serve it.
macro_rules! one_tick {
    () => {
        concat!("highres=off nohz=off ", one_page_table!(), " initcall_blacklist=", unneeded!())
    };
}

/// All devices are on the first bus. Each probe of another slot costs an exit.
macro_rules! first_bus {
    () => {
        "pci=lastbus=0"
    };
}

/// It does not have the devices whose probes each cost a nested guest an exit.
const MICROVM: InnermostMachine = InnermostMachine {
    // Without a clock, Linux' cmos_init polls for one, which takes minutes in an L2.
    machine: MachineType { name: "microvm", properties: &["rtc=on"], devices: &[], bus: None },
    versions: "microvm-",
    has_pci: false,
    // It has no keyboard controller that could reset it. A triple fault works.
    kernel_parameters: "reboot=t",
    // It has no PCI. Its kernel and its ordinary firmware still look for it and print that on the serial line. No program needs
    // the time of day.
    shortcut_parameters: concat!(
        one_page_table!(),
        " pci=off initcall_blacklist=pci_arch_init,cmos_init,",
        unneeded!()
    ),
    // With an interrupt controller in QEMU, each access goes through L1's userspace.
    shortcut_properties: &["kernel-irqchip=on"],
    firmware: Some("qboot.rom"),
};

/// A machine with PCI that starts like one that hosts.
const OF_PC: InnermostMachine = InnermostMachine {
    machine: MachineType { name: "pc", ..Q35 },
    versions: "pc-i440fx-",
    has_pci: true,
    kernel_parameters: "",
    shortcut_parameters: concat!(one_tick!(), " ", first_bus!()),
    shortcut_properties: &[],
    // SeaBIOS is unreliable in an L2 on emulated AMD metal, whose processor has no NRIPS. It starts a boot by INT 19h. If the page
    // of the vector is not mapped then, KVM of L1 injects the interrupt again, and KVM of L0 drops it: SeaBIOS runs on into memory
    // that it has released. This happens in half of all boots, unless a timer interrupt touches the page first.
    firmware: Some("qboot.rom"),
};

pub(super) const INFO: ArchInfo = ArchInfo {
    word: "amd",
    isa: Isa::Amd64,
    name: "AMD64",
    processor: "an AMD processor",
    runner_label: "amd",
    processors: Processors::Vendors(&["AuthenticAMD", "HygonGenuine"]),
    cpu_models: &["EPYC", "Opteron", "Dhyana", "athlon", "phenom"],
    // QEMU's own default (hw/i386/pc.c).
    model_without_cpu: Some("qemu64"),
    usual_system: "debian 13",
    unsuitable_processor: None,
    virtualization_flag: Some("svm"),
    documented_flags: &["svm", "npt"],
    kvm_module: "kvm_amd",
    nesting_switch: NestingSwitch::ModuleParameter,
    huge_pages_exclude_nesting: false,
    procedure: Some(Procedure { unload_claim: "unload", stops_vms: true, l0_is_bare_metal: true }),
    first_nesting_qemu: None,
    qemu: "qemu-system-x86_64",
    metal: BareMachine::Qemu(Q35),
    metal_processors: None,
    no_snapshot: None,
    typical_seconds: 30,
    missing_in_tcg: None,
    emulated_cpu: "max",
    emulated_cpu_with: &[],
    // No AMD processor of the documents' time had 5-level paging. KVM shadows it since Linux 5.15. Before that, a guest that uses
    // it makes a nested guest hang.
    // With erms or fsrm, kernels and libraries copy and clear memory by single bytes: fast on a processor, but the slowest way in
    // an emulator.
    emulated_cpu_without: &["la57", "erms", "fsrm"],
    host: Q35,
    // RHEL's QEMU has no microvm.
    innermost_machines: &[MICROVM, InnermostMachine { machine: Q35, versions: "pc-q35-", ..OF_PC }, OF_PC],
    nesting: Nesting::CpuFeature("svm"),
    cpus: 2,
    spare_first_cpu: true,
    viommu: Viommu::Device("amd-iommu"),
    tpm: TpmDevice::Device { name: "tpm-crb", driver: "tpm_crb" },
    metal_without_tpm: None,
    no_memory_plugging: None,
    no_device_plugging: None,
    watchdog: "i6300esb",
    // cryptomgr.notests: self-tests of ciphers take seconds on emulated metal and do not use KVM.
    // no_timer_check: if the emulator gets too little CPU time, the check misses timer interrupts and panics. KVM guests skip it
    // anyway.
    kernel_parameters: "console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check",
    transport: "pci",
    boot_shortcuts: BootShortcuts {
        // A clock as slow as the processor. The emulator's time stamp counter is that of its host, 2 to 5 GHz. If the kernel takes
        // it for 16 GHz, all clocks that levels derive from it are 3 to 8 times slower, and a boot has as many fewer ticks. L0's
        // tick comes from the oldest timer. The one in the local interrupt controller would first be compared with a clock of
        // normal speed, for a tenth of a second of the slow one. The HPET sometimes loses its tick in a snapshot.
        slow_clock: "tsc_early_khz=16000000 tsc=reliable nolapic_timer hpet=disable",
        host: one_tick!(),
        guest_host: first_bus!(),
    },
    innermost_memory_mib: 256,
    overhead_memory_mib: 768,
    crash_kernel: CrashKernel {
        memory_mib: 192,
        offset_mib: None,
        parameters: "nr_cpus=1 irqpoll reset_devices",
    },
    kvm_as_seen_by_guest: "KVM",
    exit_counters: &["exits"],
    // arch/x86/kvm/x86.c, since Linux 5.13.
    nested_counter: Some("nested_run"),
    // arch/x86/kvm/svm/svm.c of 5.10: handle_exit emits it when the processor has left a nested guest. SVM_EXIT_ERR
    // (-1) is no exit: the processor refused to enter.
    nested_event: Some(TraceEvent {
        system: "kvm",
        name: "kvm_nested_vmexit",
        filter: "exit_reason != 0xffffffff",
    }),
    // Reading 16 bytes is one CPUID instruction (cpuid(4)), which always exits.
    exit_loop: Some(
        "modprobe cpuid && dd if=/dev/cpu/0/cpuid of=/dev/null bs=16000 count=${n:-5} 2>/dev/null",
    ),
};
