//! The processor architectures that documents speak of, and what differs between them, as data: one file an architecture.
//!
//! They have the names of vendors' machines rather than instruction sets: nesting differs between AMD and Intel though both run
//! the same instructions.

mod amd;
mod arm;
mod ibm_z;
mod intel;
mod power9;

use crate::word::Word;
use crate::word_traits;

/// The architecture of the machine that L0 runs on, and so of every level of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Architecture {
    /// AMD64 with SVM.
    Amd,
    /// Intel 64 with VMX.
    Intel,
    /// IBM POWER9.
    Power9,
    /// 64-bit Arm.
    Arm,
    /// IBM Z.
    IbmZ,
}

impl Architecture {
    /// The instruction set that images must be built for, by Debian's name for it.
    pub fn isa(self) -> &'static str {
        match self {
            Self::Amd | Self::Intel => "amd64",
            Self::Power9 => "ppc64el",
            Self::Arm => "arm64",
            Self::IbmZ => "s390x",
        }
    }
}

impl Word for Architecture {
    const WHAT: &'static str = "architecture";
    const ALL: &'static [Self] = &[Self::Amd, Self::Intel, Self::Power9, Self::Arm, Self::IbmZ];

    fn word(self) -> &'static str {
        match self {
            Self::Amd => "amd",
            Self::Intel => "intel",
            Self::Power9 => "power9",
            Self::Arm => "arm",
            Self::IbmZ => "ibm-z",
        }
    }
}
word_traits!(Architecture);

/// What an architecture's levels are made of and what is looked at in them.
#[derive(Debug)]
pub struct ArchInfo {
    /// The QEMU program that runs this architecture's guests.
    pub qemu: &'static str,
    /// The emulated bare machine.
    pub metal: BareMachine,
    /// How the models of the processors begin that the emulated bare machine can be given, if not with anything.
    pub metal_processors: Option<&'static str>,
    /// Why a stack on emulated metal can't be saved on its way, if it can't.
    pub no_snapshot: Option<&'static str>,
    /// About how long a cold stack takes on emulated metal, in seconds, as measured on a machine with 2 cores.
    pub typical_seconds: u64,
    /// What QEMU's TCG lacks for its guest to run guests with KVM, if anything.
    pub tcg_is_missing: Option<&'static str>,
    /// CPU model of what QEMU's TCG runs.
    pub emulated_cpu: &'static str,
    /// Features of that model that are switched on.
    pub emulated_cpu_with: &'static [&'static str],
    /// Features of that model that are switched off.
    pub emulated_cpu_without: &'static [&'static str],
    /// The machine of a level that hosts another one.
    pub host: MachineType,
    /// The machines that the innermost level can be: the first that the QEMU has which runs it.
    pub innermost_machines: &'static [InnermostMachine],
    /// What a machine must have for its guest to be a hypervisor.
    pub nesting: Nesting,
    /// What /proc/cpuinfo of a bare machine that can be L0 has among its CPU flags.
    pub virtualization_flag: Option<&'static str>,
    /// The CPU flags in /proc/cpuinfo that the documents ask for on L0.
    pub documented_flags: &'static [&'static str],
    /// KVM's module for this architecture, which its guests load.
    pub kvm_module: &'static str,
    /// Kernel command line that every level gets which QEMU runs.
    pub kernel_parameters: &'static str,
    /// How devices are attached: the end of the names of QEMU's virtio devices.
    pub transport: &'static str,
    /// What is added for a level that hosts a level that hosts another one.
    pub nesting_kernel_parameters: &'static str,
    /// What makes a boot on emulated metal shorter.
    pub shorter: BootShortcuts,
    /// Memory of the innermost level, in MiB.
    pub leaf_memory_mib: u32,
    /// Memory that a level needs for itself on top of what it gives to the levels inside it, in MiB: its file system, which
    /// is in memory, a copy of the next level's image, and QEMU.
    pub overhead_memory_mib: u32,
    /// What a guest's kernel calls KVM in its own report of the hypervisor it runs on.
    pub kvm_as_seen_by_guest: &'static str,
    /// KVM's counter of its guests' exits; of several names, what a kernel has.
    pub exit_counters: &'static [&'static str],
    /// The counter of KVM that grows with each entry into a nested guest, if it has one: in L0's KVM, into an L2.
    pub nested_counter: Option<&'static str>,
    /// What is counted in its place by a kernel that does not have it.
    pub nested_event: Option<TraceEvent>,
    /// A shell command that makes a guest leave to its hypervisor some thousand times, where one is known.
    pub exit_loop: Option<&'static str>,
}

/// What makes a boot on emulated metal shorter, where an exit of a guest costs what a thousand do on a real machine, without
/// changing anything about KVM. docs/performance.md tells what each gains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootShortcuts {
    /// Kernel command line of the outermost level, where QEMU plays its machine on a host of the same instruction set: a clock that goes slower
    /// than this machine's. Left out where a scenario wants clocks that go right.
    pub slow_clock: &'static str,
    /// Kernel command line of a level that hosts another one.
    pub host: &'static str,
    /// The same of one that is a guest itself.
    pub guest_host: &'static str,
}

impl BootShortcuts {
    /// Nothing.
    pub const NOT: Self = Self { slow_clock: "", host: "", guest_host: "" };
}

/// A machine that the innermost level can be.
#[derive(Debug, PartialEq, Eq)]
pub struct InnermostMachine {
    /// The machine.
    pub machine: MachineType,
    /// How the names of its versioned types begin: `pc-q35-`.
    pub versions: &'static str,
    /// What is added to its kernel command line.
    pub kernel_parameters: &'static str,
    /// What is added to that on emulated metal, where it makes the boot shorter.
    pub shorter: &'static str,
    /// Properties of the machine that do the same, as `NAME=VALUE`.
    pub shorter_properties: &'static [&'static str],
    /// Firmware that it gets on emulated metal, where its QEMU comes with it. So does a level from L2 on that hosts on a machine of this
    /// type.
    pub firmware: Option<&'static str>,
}

impl InnermostMachine {
    /// A machine that needs nothing but itself.
    const fn plain(machine: MachineType, versions: &'static str) -> Self {
        Self {
            machine,
            versions,
            kernel_parameters: "",
            shorter: "",
            shorter_properties: &[],
            firmware: None,
        }
    }

    /// Whether a machine of this type is one: `q35` and `pc-q35-10.0` are q35.
    pub fn is(&self, machine_type: &str) -> bool {
        machine_type == self.machine.name || machine_type.starts_with(self.versions)
    }
}

/// What plays the bare machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareMachine {
    /// QEMU's TCG.
    Qemu(MachineType),
    /// Bochs, which emulates VMX.
    Bochs(BochsMachine),
    /// Hercules, which emulates SIE.
    Hercules(HerculesMachine),
}

/// A bare machine that Bochs plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BochsMachine {
    /// Its processor.
    pub processor: &'static str,
    /// The variant of a system's image that it boots.
    pub variant: &'static str,
}

/// A bare machine that Hercules plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HerculesMachine {
    /// Its processor.
    pub processor: &'static str,
    /// Kernel command line of L0.
    pub kernel_parameters: &'static str,
    /// Why no guest runs on it.
    pub no_guests: &'static str,
}

impl BareMachine {
    /// The program that plays it, where guests are run by `qemu`.
    pub fn program(&self, qemu: &'static str) -> &'static str {
        match self {
            Self::Qemu(_) => qemu,
            Self::Bochs(_) => "bochs-bin",
            Self::Hercules(_) => "hercules",
        }
    }

    /// The processor that it has, where that is none of QEMU's models.
    pub fn processor(&self) -> Option<&'static str> {
        match self {
            Self::Qemu(_) => None,
            Self::Bochs(machine) => Some(machine.processor),
            Self::Hercules(machine) => Some(machine.processor),
        }
    }

    /// Whether all that can be spoken to in it is its console.
    pub fn has_console_alone(&self) -> bool {
        matches!(self, Self::Hercules(_))
    }

    /// The variant of a system's image that it boots, if that is not the ordinary one.
    pub fn variant(&self) -> Option<&'static str> {
        match self {
            Self::Bochs(machine) => Some(machine.variant),
            Self::Qemu(_) | Self::Hercules(_) => None,
        }
    }

    /// Why no guest runs on it, if none does.
    pub fn no_guests(&self) -> Option<&'static str> {
        match self {
            Self::Qemu(_) | Self::Bochs(_) => None,
            Self::Hercules(machine) => Some(machine.no_guests),
        }
    }
}

/// A machine as QEMU is asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineType {
    /// Its type.
    pub name: &'static str,
    /// Its properties, as `NAME=VALUE`.
    pub properties: &'static [&'static str],
    /// Devices that it needs for itself, before any other.
    pub devices: &'static [&'static str],
    /// The bus for the harness's devices, if it is not the machine's default.
    pub bus: Option<&'static str>,
}

/// What lets a machine's guest be a hypervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nesting {
    /// A feature of its CPU.
    CpuFeature(&'static str),
    /// A property of the machine that must be on.
    MachineProperty(&'static str),
}

impl Nesting {
    /// Whether it is this CPU feature.
    pub fn is_feature(self, feature: &str) -> bool {
        matches!(self, Self::CpuFeature(name) if name == feature)
    }
}

/// A trace event of the kernel (Linux, Documentation/trace/events).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceEvent {
    /// Its subsystem.
    pub system: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Those that count, in the kernel's filter syntax.
    pub filter: &'static str,
}

impl ArchInfo {
    /// The machine for the innermost level where the QEMU that runs it has these machine types; none if it has none of them.
    pub fn innermost_machine_of(&self, machine_types: &[String]) -> Option<&'static InnermostMachine> {
        let has = |leaf: &&InnermostMachine| machine_types.iter().any(|name| name == leaf.machine.name);
        self.innermost_machines.iter().find(has)
    }

    /// The machine of the innermost level that one of this type is most like: of a type that is not known, the last, which is
    /// like those that host.
    pub fn innermost_machine_like(&self, machine_type: &str) -> &'static InnermostMachine {
        self.innermost_machine_of_type(machine_type)
            .unwrap_or(&self.innermost_machines[self.innermost_machines.len() - 1])
    }

    /// The machine of the innermost level that is of this type.
    pub fn innermost_machine_of_type(&self, machine_type: &str) -> Option<&'static InnermostMachine> {
        self.innermost_machines.iter().find(|leaf| leaf.is(machine_type))
    }

    /// The profile of `architecture`.
    pub fn of(architecture: Architecture) -> &'static ArchInfo {
        match architecture {
            Architecture::Amd => &amd::PROFILE,
            Architecture::Intel => &intel::PROFILE,
            Architecture::Power9 => &power9::PROFILE,
            Architecture::Arm => &arm::PROFILE,
            Architecture::IbmZ => &ibm_z::PROFILE,
        }
    }
}
