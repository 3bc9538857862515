//! AMD: QEMU's TCG emulates SVM with nested paging, so emulated metal is QEMU itself.

use super::{
    ArchInfo, BareMachine, BootShortcuts, InnermostMachine, MachineType, Nesting, NestingSwitch, Procedure,
    Processors, TraceEvent,
};
use crate::Isa;

const Q35: MachineType = MachineType { name: "q35", properties: &[], devices: &[], bus: None };

/// What an emulated kernel initializes for longer than nearly all else, and no KVM needs: trace events of kprobes, and a congestion
/// control of TCP.
macro_rules! trace_and_tcp {
    () => {
        "init_kprobe_trace,cubictcp_register"
    };
}

/// One tick, for which the timers of guests wait instead of interrupting them at other times: a third of all exits. It is
/// programmed anew each time: by a tick that comes by itself, a slow level does nothing else than to serve it.
macro_rules! one_tick {
    () => {
        concat!("highres=off nohz=off initcall_blacklist=", trace_and_tcp!())
    };
}

/// All devices are on the first bus. Looking for others costs an exit for each place.
macro_rules! first_bus {
    () => {
        "pci=lastbus=0"
    };
}

/// It has none of the devices whose probing costs a nested guest an exit each.
const MICROVM: InnermostMachine = InnermostMachine {
    // Without a clock, Linux' cmos_init polls for one: minutes in an L2.
    machine: MachineType { name: "microvm", properties: &["rtc=on"], devices: &[], bus: None },
    versions: "microvm-",
    // It has no keyboard controller to reset by, a triple fault is what works.
    kernel_parameters: "reboot=t",
    // It has no PCI, for which its kernel looks all the same, says so over the serial line, and its ordinary firmware does too.
    // No program asks for the time of day.
    shortcut_parameters: concat!("pci=off initcall_blacklist=pci_arch_init,cmos_init,", trace_and_tcp!()),
    // An interrupt controller in QEMU costs a way through L1's userspace for each access.
    shortcut_properties: &["kernel-irqchip=on"],
    firmware: Some("qboot.rom"),
};

/// A machine with PCI, started as one that hosts is.
const OF_PC: InnermostMachine = InnermostMachine {
    machine: MachineType { name: "pc", ..Q35 },
    versions: "pc-i440fx-",
    kernel_parameters: "",
    shortcut_parameters: concat!(one_tick!(), " ", first_bus!()),
    shortcut_properties: &[],
    // SeaBIOS is unreliable in an L2 on emulated AMD metal, whose processor has no NRIPS. It starts a boot by INT 19h. If the page
    // of the vector is not mapped then, KVM of L1 and of L0 (6.1) inject the interrupt again, and it is lost: SeaBIOS runs on into
    // memory that it has given up. That is so in a third of all boots, unless a timer interrupt touches the page first.
    firmware: Some("qboot.rom"),
};

pub(super) const INFO: ArchInfo = ArchInfo {
    word: "amd",
    isa: Isa::Amd64,
    name: "AMD64",
    processor: "an AMD processor",
    runner_label: "amd",
    processors: Processors::Vendors(&["AuthenticAMD", "HygonGenuine"]),
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
    // No AMD processor of the documents' time had 5-level paging. KVM shadows it since Linux 5.15; before, a guest that uses it
    // makes a nested one hang.
    // Kernels and libraries that see erms or fsrm copy and clear memory by single bytes: fast on a processor, the slowest way in
    // its emulation.
    emulated_cpu_without: &["la57", "erms", "fsrm"],
    host: Q35,
    // RHEL's QEMU has no microvm.
    innermost_machines: &[MICROVM, InnermostMachine { machine: Q35, versions: "pc-q35-", ..OF_PC }, OF_PC],
    nesting: Nesting::CpuFeature("svm"),
    // cryptomgr.notests: self-tests of ciphers cost seconds on emulated metal and try nothing of KVM.
    // no_timer_check: where the emulator gets too little of its machine, the check finds that timer interrupts do not come,
    // and panics. KVM guests leave it out by themselves.
    kernel_parameters: "console=ttyS0 quiet panic=-1 cryptomgr.notests no_timer_check",
    transport: "pci",
    boot_shortcuts: BootShortcuts {
        // A clock as slow as the processor. The emulator's time stamp counter is that of its host, 2 to 5 GHz; taken for 16 GHz,
        // all clocks that levels derive from it go 3 to 8 times slower, and as many fewer ticks fall into a boot. L0's own tick
        // comes from the oldest timer: that of the local interrupt controller would first be held against a clock that does not
        // go slower, for a tenth of a second of the slow one, and the HPET sometimes loses its tick in a saved state.
        slow_clock: "tsc_early_khz=16000000 tsc=reliable nolapic_timer hpet=disable",
        host: one_tick!(),
        guest_host: first_bus!(),
    },
    innermost_memory_mib: 256,
    overhead_memory_mib: 768,
    kvm_as_seen_by_guest: "KVM",
    exit_counters: &["exits"],
    // arch/x86/kvm/x86.c, since Linux 5.13.
    nested_counter: Some("nested_run"),
    // arch/x86/kvm/svm/svm.c of 5.10: handle_exit tells it when the processor has left a guest while that was a nested
    // one. SVM_EXIT_ERR (-1) is no exit: the processor refused to enter.
    nested_event: Some(TraceEvent {
        system: "kvm",
        name: "kvm_nested_vmexit",
        filter: "exit_reason != 0xffffffff",
    }),
    // Each 16 bytes that are read are one CPUID instruction (cpuid(4)), which always leaves the guest.
    exit_loop: Some("modprobe cpuid && dd if=/dev/cpu/0/cpuid of=/dev/null bs=16000 count=5 2>/dev/null"),
};
