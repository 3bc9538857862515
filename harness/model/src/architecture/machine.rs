//! Machines as data: the emulated bare machine, and the machines that QEMU is asked for.

/// The program of Bochs, as Debian has it.
pub const BOCHS: &str = "bochs-bin";

/// What shortens a boot on emulated metal without changing KVM. One exit of a guest takes as long there as a thousand on a real
/// machine. docs/performance.md shows the gain of each shortcut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootShortcuts {
    /// Kernel command line of the outermost level, if QEMU emulates its machine on a host with the same instruction set: a clock
    /// that is slower than this machine's. A scenario can ask for correct clocks instead.
    pub slow_clock: &'static str,
    /// Kernel command line of every level that hosts another one.
    pub host: &'static str,
    /// In addition, that of a host that is a guest itself.
    pub guest_host: &'static str,
}

impl BootShortcuts {
    /// Nothing.
    pub const NONE: Self = Self { slow_clock: "", host: "", guest_host: "" };
}

/// A machine that the innermost level can be.
#[derive(Debug, PartialEq, Eq)]
pub struct InnermostMachine {
    /// The machine.
    pub machine: MachineType,
    /// How the names of its versioned types begin: `pc-q35-`.
    pub versions: &'static str,
    /// Whether it has a PCI bus, and CPUs can be plugged in.
    pub has_pci: bool,
    /// What is added to its kernel command line.
    pub kernel_parameters: &'static str,
    /// What is also added to it on emulated metal, to shorten the boot.
    pub shortcut_parameters: &'static str,
    /// Properties of the machine that shorten the boot on emulated metal, as `NAME=VALUE`.
    pub shortcut_properties: &'static [&'static str],
    /// Its firmware on emulated metal, if its QEMU has that file. A hosting level from L2 on gets it too if its machine is of this
    /// type.
    pub firmware: Option<&'static str>,
}

impl InnermostMachine {
    /// A machine without any additions.
    pub(super) const fn plain(machine: MachineType, versions: &'static str) -> Self {
        Self {
            machine,
            versions,
            has_pci: true,
            kernel_parameters: "",
            shortcut_parameters: "",
            shortcut_properties: &[],
            firmware: None,
        }
    }

    /// Whether it has this machine type: both `q35` and `pc-q35-10.0` are q35.
    pub fn is(&self, machine_type: &str) -> bool {
        machine_type == self.machine.name || machine_type.starts_with(self.versions)
    }
}

/// The emulator of the bare machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BareMachine {
    /// QEMU's TCG.
    Qemu(MachineType),
    /// Bochs, which emulates VMX.
    Bochs(BochsMachine),
    /// Hercules, which emulates SIE.
    Hercules(HerculesMachine),
}

/// A bare machine that Bochs emulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BochsMachine {
    /// Its processor.
    pub processor: &'static str,
    /// The variant of a system's image that it boots.
    pub variant: &'static str,
}

/// A bare machine that Hercules emulates.
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
    /// The program that emulates it. `qemu` is the program that runs guests.
    pub fn program(&self, qemu: &'static str) -> &'static str {
        match self {
            Self::Qemu(_) => qemu,
            Self::Bochs(_) => BOCHS,
            Self::Hercules(_) => "hercules",
        }
    }

    /// Its processor, if that is not one of QEMU's models.
    pub fn processor(&self) -> Option<&'static str> {
        match self {
            Self::Qemu(_) => None,
            Self::Bochs(machine) => Some(machine.processor),
            Self::Hercules(machine) => Some(machine.processor),
        }
    }

    /// Whether its console is the only channel to it.
    pub fn has_only_a_console(&self) -> bool {
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
    /// Devices that the machine itself needs, before all others.
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
