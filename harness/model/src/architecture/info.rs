//! What differs between architectures: one struct, filled in by one file an architecture.

use super::{
    BareMachine, BootShortcuts, CrashKernel, InnermostMachine, MachineType, Nesting, NestingSwitch,
    Procedure, Processors, TraceEvent, UnsuitableProcessor,
};
use crate::{Isa, TpmDevice, Viommu};

/// Everything that differs between architectures.
#[derive(Debug)]
pub struct ArchInfo {
    /// Its word in scenarios, records and the names of cells.
    pub word: &'static str,
    /// The instruction set that images must be built for.
    pub isa: Isa,
    /// Its name in documents.
    pub name: &'static str,
    /// The processor that it needs, as a phrase: `an AMD processor`.
    pub processor: &'static str,
    /// The label of a CI runner that is such a machine.
    pub runner_label: &'static str,

    /// The processors that belong to it.
    pub processors: Processors,
    /// How the names of QEMU's CPU models of these processors begin, if other processors have the same instruction set.
    pub cpu_models: &'static [&'static str],
    /// The CPU model of a machine for which libvirt gets none, if it is not that of the host.
    pub model_without_cpu: Option<&'static str>,
    /// The system of the levels of a stack for which the user named none, as on an axis. It can nest.
    pub usual_system: &'static str,
    /// Related processors that the documents rule out.
    pub unsuitable_processor: Option<UnsuitableProcessor>,
    /// The CPU flag in /proc/cpuinfo that every L0 on a bare machine must have.
    pub virtualization_flag: Option<&'static str>,
    /// The CPU flags in /proc/cpuinfo that the documents require on L0.
    pub documented_flags: &'static [&'static str],
    /// KVM's module for this architecture, which its guests load.
    pub kvm_module: &'static str,
    /// How nesting is switched on.
    pub nesting_switch: NestingSwitch,
    /// Whether KVM can't nest while it backs guests with huge pages (parameter `hpage` of the module `kvm`).
    pub huge_pages_exclude_nesting: bool,
    /// The documents' procedure for switching nesting on, if there is one.
    pub procedure: Option<Procedure>,
    /// The first QEMU that can give a guest nesting (major and minor version), if old ones in use can't.
    pub first_nesting_qemu: Option<[u32; 2]>,

    /// The QEMU program that runs this architecture's guests.
    pub qemu: &'static str,
    /// The emulated bare machine.
    pub metal: BareMachine,
    /// The word that the CPU models begin with that the emulated bare machine accepts; none if it accepts every model.
    pub metal_processors: Option<&'static str>,
    /// Why no snapshot can be taken of a stack on emulated metal, if it can't.
    pub no_snapshot: Option<&'static str>,
    /// About how long a cold stack takes on emulated metal, in seconds, measured on a machine with 2 cores.
    pub typical_seconds: u64,
    /// What QEMU's TCG is missing, so that its guest can't run guests with KVM; none if it can.
    pub missing_in_tcg: Option<&'static str>,
    /// CPU model of a machine that QEMU's TCG runs.
    pub emulated_cpu: &'static str,
    /// Features of that model that are switched on.
    pub emulated_cpu_with: &'static [&'static str],
    /// Features of that model that are switched off.
    pub emulated_cpu_without: &'static [&'static str],
    /// The machine of a level that hosts another one.
    pub host: MachineType,
    /// The machines that the innermost level can be. The first one that its QEMU has is taken.
    pub innermost_machines: &'static [InnermostMachine],
    /// What a machine must have so that its guest can be a hypervisor.
    pub nesting: Nesting,
    /// How many CPUs each level has, unless the scenario says otherwise.
    pub cpus: u32,
    /// Whether the first CPU of the emulated bare machine must run no guest, since the other CPUs spoil its state (erratum
    /// `tcg-smp-reset`). L0 has one more CPU then, and runs its programs on the others.
    pub spare_first_cpu: bool,
    /// The IOMMU that QEMU can give a level.
    pub viommu: Viommu,
    /// The TPM that QEMU can give a level.
    pub tpm: TpmDevice,
    /// Why the emulated bare machine can't have that TPM, if so, although QEMU plays it.
    pub metal_without_tpm: Option<&'static str>,
    /// Why no memory can be plugged into a level that runs, if so.
    pub no_memory_plugging: Option<&'static str>,
    /// Why no device can be plugged into a level that runs, if so.
    pub no_device_plugging: Option<&'static str>,
    /// The watchdog that QEMU can give a level.
    pub watchdog: &'static str,
    /// How devices are attached: the end of the names of QEMU's virtio devices.
    pub transport: &'static str,

    /// Kernel command line of every level that QEMU runs.
    pub kernel_parameters: &'static str,
    /// What shortens a boot on emulated metal.
    pub boot_shortcuts: BootShortcuts,
    /// Memory of the innermost level, in MiB.
    pub innermost_memory_mib: u32,
    /// Memory that a level needs besides that of the levels inside it, in MiB: for its file system, which is in memory, for a
    /// copy of the next level's image, and for QEMU.
    pub overhead_memory_mib: u32,
    /// What a level's crash kernel needs.
    pub crash_kernel: CrashKernel,

    /// What a guest's kernel calls KVM when it reports its hypervisor.
    pub kvm_as_seen_by_guest: &'static str,
    /// KVM's counter of its guests' exits. Kernels name it differently: the first name that exists is used.
    pub exit_counters: &'static [&'static str],
    /// KVM's counter of entries into nested guests, if it has one. In L0's KVM it counts the entries into L2.
    pub nested_counter: Option<&'static str>,
    /// The event that is counted instead if the kernel does not have that counter.
    pub nested_event: Option<TraceEvent>,
    /// A shell command that makes a guest exit to its hypervisor some thousand times, if one is known.
    pub exit_loop: Option<&'static str>,
}

impl ArchInfo {
    /// The machines that the innermost level can have with this hardware, the best one first.
    pub fn innermost_machines_with(
        &self,
        needs_pci: bool,
    ) -> impl Iterator<Item = &'static InnermostMachine> {
        self.innermost_machines.iter().filter(move |innermost| innermost.has_pci || !needs_pci)
    }

    /// The machine for the innermost level if its QEMU has these machine types. None if it has none that fits.
    pub fn innermost_machine_of(
        &self,
        machine_types: &[String],
        needs_pci: bool,
    ) -> Option<&'static InnermostMachine> {
        let has =
            |innermost: &&InnermostMachine| machine_types.iter().any(|name| name == innermost.machine.name);
        self.innermost_machines_with(needs_pci).find(has)
    }

    /// The innermost level's machine that is most like a machine of this type. For an unknown type it is the last one, which is
    /// like those that host.
    pub fn innermost_machine_like(&self, machine_type: &str) -> &'static InnermostMachine {
        self.innermost_machine_of_type(machine_type)
            .unwrap_or(&self.innermost_machines[self.innermost_machines.len() - 1])
    }

    /// The machine of the innermost level that has this type.
    pub fn innermost_machine_of_type(&self, machine_type: &str) -> Option<&'static InnermostMachine> {
        self.innermost_machines.iter().find(|innermost| innermost.is(machine_type))
    }
}
