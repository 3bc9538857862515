//! A stack as it is to be booted: every level with its image, CPU and memory, before anything runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use nestmatrix_images::Disk;
use nestmatrix_model::architecture::{
    ArchInfo, BareMachine, BootShortcuts, InnermostMachine, MachineType, Nesting,
};
use nestmatrix_model::{Accelerator, Clock, CpuMode, CpuRequirement, LevelNumber};
use nestmatrix_vmm::qemu::{
    Backing, Boot, ChannelKind, ChannelName, Cpu, ImageFile, Instance, Machine, Memory, Part, Placement,
    Port, quote,
};
use serde::{Deserialize, Serialize};

use super::Inputs;
use crate::host::{WithVirtio, WithoutVirtio};

/// Whether an emulated x86 machine has the time stamp counter of its host's processor.
const SAME_INSTRUCTION_SET: bool = cfg!(target_arch = "x86_64");

/// What L0 runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metal {
    /// This machine and its KVM: this machine is L0.
    Native,
    /// An emulator plays the bare machine, and a real L0 kernel with KVM boots on it.
    Emulated,
}

impl fmt::Display for Metal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Emulated => "emulated",
        })
    }
}

/// One level as it is to be booted.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelPlan {
    /// Which level.
    pub level: LevelNumber,
    /// Kernel, on this machine.
    pub kernel: PathBuf,
    /// Release of that kernel, which the level must say that it runs.
    pub kernel_release: String,
    /// Initramfs, on this machine.
    pub initramfs: PathBuf,
    /// Both on one disk, on this machine; absent for a level that runs in no other.
    pub images: Option<Disk>,
    /// What names its image: the same name means the same files.
    pub image: String,
    /// The CPU that the scenario requires.
    pub cpu: CpuRequirement,
    /// What the QEMU that runs it accelerates it with.
    pub accelerator: Accelerator,
    /// Memory in MiB; the stack's default where the scenario does not say.
    pub memory_mib: Option<u32>,
    /// What the scenario appends to its kernel command line.
    pub kernel_parameters: Vec<String>,
    /// Type of the machine that it runs in, if the scenario sets it.
    pub machine_type: Option<String>,
    /// Properties that the scenario sets of the machine that it runs in.
    pub machine: BTreeMap<String, String>,
    /// An empty disk, on this machine, for what is to survive a reboot of the outermost level.
    pub disk: Option<PathBuf>,
}

/// A stack as it is to be booted.
#[derive(Debug, Clone)]
pub struct StackPlan {
    /// What L0 runs on.
    pub metal: Metal,
    /// What its architecture needs.
    pub profile: &'static ArchInfo,
    /// The levels that are booted, outermost first: from L0 on emulated metal; from L1 on native metal, and where the
    /// emulator itself is the hypervisor of L0.
    pub levels: Vec<LevelPlan>,
    /// What the innermost level must give back.
    pub nonce: String,
    /// Whether the innermost level is to stay once it has reported, and take commands.
    pub stays: bool,
    /// The innermost level's machine, once it is known which the QEMU has that runs it.
    pub leaf: Option<&'static InnermostMachine>,
    /// The levels whose QEMU turned out not to come with the firmware that [`StackPlan::wanted_firmware`] names.
    pub default_firmware: BTreeSet<LevelNumber>,
    /// The level that will have a second machine on the way, if one will.
    pub second: Option<LevelNumber>,
    /// What the memory of the outermost level's machine is, where QEMU emulates that.
    pub memory: Memory,
    /// Whether it goes on from a saved state.
    pub restored_from: bool,
    /// How the levels' clocks must go.
    pub clock: Clock,
    /// Whether the innermost level is started in L0 and not in the level below it, as damage that the evidence must show.
    pub innermost_on_l0: bool,
}

/// What is said of a machine that is not QEMU's.
const NOTHING: MachineType = MachineType { name: "", properties: &[], devices: &[], bus: None };
/// Serial number of a level's own disk.
const OWN_DISK: &str = "own";

impl StackPlan {
    /// The innermost level.
    pub fn innermost(&self) -> LevelNumber {
        // A stack without levels can't be planned: scenarios have at least L0, and one that is the emulator has guests.
        self.levels.last().map_or(LevelNumber::ALL[0], |plan| plan.level)
    }

    /// Whether this level runs nothing and reports.
    pub fn reports(&self, level: LevelNumber) -> bool {
        level == self.innermost() && level.reports()
    }

    /// Whether this level is run by the emulator: L0 on emulated metal, or L1 if the emulator itself is the hypervisor of L0.
    pub fn on_emulator(&self, level: LevelNumber) -> bool {
        self.metal == Metal::Emulated && self.levels.first().is_some_and(|plan| plan.level == level)
    }

    /// Whether the emulator that runs the outermost level is QEMU.
    pub fn runs_on_qemu(&self) -> bool {
        self.emulator_is_l0() || matches!(self.profile.metal, BareMachine::Qemu(_))
    }

    /// Whether the emulator itself is the hypervisor of L0, so that there is no KVM in L0.
    pub fn emulator_is_l0(&self) -> bool {
        self.on_emulator(LevelNumber::ALL[1])
    }

    /// Memory of the level at `index`, in MiB.
    pub fn memory_mib(&self, index: usize) -> u32 {
        let levels_inside = self.levels.len() - 1 - index;
        let ArchInfo { innermost_memory_mib, overhead_memory_mib, .. } = self.profile;
        // A host without guests takes what it needs for itself, too.
        let levels_inside = if self.innermost().reports() { levels_inside } else { levels_inside + 1 };
        let default = innermost_memory_mib
            + overhead_memory_mib * u32::try_from(levels_inside).unwrap_or(u32::MAX / 4096);
        let own = self.levels[index].level;
        let second = self.levels.iter().position(|plan| Some(plan.level) == self.second && plan.level > own);
        let default = default + second.map_or(0, |second| self.memory_mib(second));
        self.levels[index].memory_mib.unwrap_or(default)
    }

    /// The machine of an innermost level that a QEMU of a host runs: the type that the scenario sets, or else what was chosen,
    /// or the first of all while nothing was.
    fn leaf(&self, plan: &LevelPlan) -> &'static InnermostMachine {
        match &plan.machine_type {
            Some(machine_type) => self.profile.innermost_machine_like(machine_type),
            None => self.leaf.unwrap_or(&self.profile.innermost_machines[0]),
        }
    }

    /// The firmware that the machine of the level at `index` is to have instead of its default. Emulated metal is not reliable with the
    /// default one from L2 on, and slow with that of an innermost level ([`InnermostMachine::firmware`]).
    pub fn wanted_firmware(&self, index: usize) -> Option<&'static str> {
        let plan = &self.levels[index];
        if self.metal == Metal::Native || self.on_emulator(plan.level) {
            None
        } else if self.reports(plan.level) {
            self.leaf(plan).firmware
        } else if plan.level.number() >= 2 {
            let machine_type = plan.machine_type.as_deref().unwrap_or(self.profile.host.name);
            self.profile.innermost_machine_like(machine_type).firmware
        } else {
            None
        }
    }

    /// The level that runs this one; none for L0.
    pub fn around(&self, level: LevelNumber) -> Option<LevelNumber> {
        let below = level.below()?;
        Some(if self.innermost_on_l0 && self.reports(level) { LevelNumber::ALL[0] } else { below })
    }

    /// The machine of the level at `index`.
    pub fn machine(&self, index: usize, instance: Instance) -> Machine {
        let plan = &self.levels[index];
        let inside = &self.levels[index + 1..];
        let profile = self.profile;
        // One QEMU alone can open a port: L0's keeps those of an innermost level that it starts itself.
        let passes_innermost = !self.innermost_on_l0 || plan.level.below().is_none();
        let through = |inner: &&LevelPlan| passes_innermost || inner.level != self.innermost();
        let is_leaf = self.reports(plan.level);
        let on_emulator = self.on_emulator(plan.level);

        let on_qemu_metal = on_emulator && self.runs_on_qemu();
        let on_metal = plan.level.below().is_none();
        let metal = on_metal.then_some(profile.metal);
        let leaf = (is_leaf && !on_emulator).then(|| self.leaf(plan));
        let machine = match metal {
            Some(BareMachine::Qemu(machine)) => machine,
            Some(other) => MachineType { name: other.program(profile.qemu), ..NOTHING },
            None => leaf.map_or(profile.host, |leaf| leaf.machine),
        };
        let emulated = self.metal == Metal::Emulated;
        let shorter = if emulated { profile.boot_shortcuts } else { BootShortcuts::NONE };
        let of_leaf = leaf.filter(|_| emulated).map_or(&[][..], |leaf| leaf.shortcut_properties);
        let firmware = self.wanted_firmware(index).filter(|_| !self.default_firmware.contains(&plan.level));
        let firmware = firmware.map(|file| ("firmware", file));
        let properties = machine.properties.iter().chain(of_leaf);
        let properties = properties.filter_map(|property| property.split_once('=')).chain(firmware);
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let properties = properties.chain(plan.machine.clone()).collect();
        let (mut feature, mut require) = (None, Vec::new());
        match profile.nesting {
            // What a scenario's own CPU model needs besides, only the scenario requires.
            Nesting::CpuFeature(name) => {
                let is_needed = on_emulator || (!is_leaf && plan.cpu.mode == CpuMode::HostPassthrough);
                feature = is_needed.then_some(name);
            }
            // A scenario may switch it off on purpose, and a bare machine has no such property.
            Nesting::MachineProperty(name) => {
                let asked_for = !on_metal && !is_leaf && !plan.machine.contains_key(name);
                require.extend(asked_for.then(|| name.to_owned()));
            }
        }
        let mut cpu = Cpu::required(&plan.cpu, feature);
        if let Some(processor) = metal.and_then(|metal| metal.processor()) {
            processor.clone_into(&mut cpu.model);
        } else if on_emulator && plan.cpu.mode == CpuMode::HostPassthrough {
            let owned = |features: &[&str]| features.iter().map(|&feature| feature.to_owned()).collect();
            profile.emulated_cpu.clone_into(&mut cpu.model);
            cpu.with = owned(profile.emulated_cpu_with);
            cpu.without = owned(profile.emulated_cpu_without);
        }
        let mut parameters = vec![match metal {
            Some(BareMachine::Hercules(machine)) => machine.kernel_parameters.to_owned(),
            Some(_) | None => profile.kernel_parameters.to_owned(),
        }];
        if inside.len() > 1 {
            parameters.extend(profile.nesting_switch.kernel_parameter().map(str::to_owned));
        }
        if is_leaf {
            let own = leaf.map_or("", |leaf| leaf.kernel_parameters);
            parameters.extend((!own.is_empty()).then(|| own.to_owned()));
            parameters.extend(self.stays.then(|| "nest.stay".to_owned()));
        } else {
            parameters.push(format!("nest.kvm={}", profile.kvm_module));
        }
        let shorter = match (is_leaf, on_emulator) {
            (true, _) => leaf.filter(|_| emulated).map(|leaf| leaf.shortcut_parameters).into_iter().collect(),
            (false, true) if on_qemu_metal && SAME_INSTRUCTION_SET && self.clock == Clock::Fastest => {
                vec![shorter.slow_clock, shorter.host]
            }
            (false, true) => vec![shorter.host],
            (false, false) => vec![shorter.host, shorter.guest_host],
        };
        let shorter = shorter.into_iter().filter(|parameters| !parameters.is_empty());
        parameters.extend(shorter.map(str::to_owned));
        parameters.extend(inside.is_empty().then(|| format!("nest.nonce={}", self.nonce)));
        parameters.extend(plan.disk.as_ref().map(|_| format!("nest.disk={OWN_DISK}")));
        parameters.extend(plan.kernel_parameters.iter().cloned());

        let mut ports: Vec<Port> =
            inside.iter().filter(through).flat_map(|inner| self.ports(inner, instance.is_second())).collect();
        // What carries the channels of a second machine further in is there from the start, since ports are not plugged in.
        if let Some(second) = self.second.filter(|second| plan.level < *second) {
            let inside = inside.iter().filter(|inner| inner.level >= second);
            let channels = inside.flat_map(|inner| self.ports(inner, true));
            ports.extend(channels.map(|Port { channel, .. }| Port { channel, name: channel.port_name() }));
        }

        Machine {
            level: plan.level,
            instance,
            metal,
            machine: plan.machine_type.clone().unwrap_or_else(|| machine.name.to_owned()),
            properties,
            require,
            devices: machine.devices.iter().map(|&device| device.to_owned()).collect(),
            bus: machine.bus.map(str::to_owned),
            accelerator: if on_emulator { Accelerator::Tcg } else { plan.accelerator },
            cpu,
            memory_mib: self.memory_mib(index),
            memory: if on_qemu_metal { self.memory.clone() } else { Memory::Private },
            incoming: instance == Instance::Incoming || (on_qemu_metal && self.restored_from),
            boot: Boot {
                kernel: self.kernel(plan),
                initramfs: self.initramfs(plan),
                parameters: parameters.join(" "),
            },
            agent: !is_leaf && !metal.is_some_and(|metal| metal.has_only_a_console()),
            ports,
            disks: inside.iter().filter(through).flat_map(|inner| self.disks(inner)).collect(),
            writable_disk: plan.disk.clone().map(|path| image_file(OWN_DISK.to_owned(), &path)),
        }
    }

    /// What a step in a level finds in its environment, as assignments of a shell, so that one scenario serves every
    /// architecture and every image.
    pub fn variables_of_steps(&self, on: LevelNumber) -> String {
        let ArchInfo { kvm_module, documented_flags, qemu, .. } = self.profile;
        let mut variables =
            format!("KVM_MODULE={kvm_module} CPU_FLAGS={}", quote(&documented_flags.join(" ")));
        if self.reports(on) {
            // It has no QEMU, and is typed to: each byte costs exits.
            return variables;
        }
        // Writing to a String can't fail.
        let _ = write!(variables, " QEMU={qemu}");
        let Some(inside) = self.levels.iter().find(|plan| Some(plan.level) == on.next()) else {
            return variables;
        };
        let placement: &dyn Placement =
            if self.images_are_files() && on.below().is_none() { &WithoutVirtio } else { &WithVirtio };
        let (kernel, initramfs) =
            (placement.file(&self.kernel(inside)), placement.file(&self.initramfs(inside)));
        let name = inside.level;
        let _ = write!(variables, " {name}_KERNEL={kernel} {name}_INITRAMFS={initramfs}");
        variables
    }

    fn kernel(&self, plan: &LevelPlan) -> ImageFile {
        let bytes = self.disk(plan).map(|disk| disk.kernel.clone());
        boot_file(plan, "kernel", &plan.kernel, bytes)
    }

    fn initramfs(&self, plan: &LevelPlan) -> ImageFile {
        let bytes = self.disk(plan).map(|disk| disk.initramfs.clone());
        boot_file(plan, "initramfs", &plan.initramfs, bytes)
    }

    /// The disks by which the images of `plan` reach the levels outside it.
    fn disks(&self, plan: &LevelPlan) -> Vec<ImageFile> {
        match self.disk(plan) {
            Some(disk) => vec![image_file(disk_name(plan), &disk.path)],
            None => vec![self.kernel(plan), self.initramfs(plan)],
        }
    }

    fn disk<'a>(&self, plan: &'a LevelPlan) -> Option<&'a Disk> {
        plan.images.as_ref().filter(|_| !self.images_are_files())
    }

    /// Whether images lie in L0 as files, one by one, since its metal has no virtio disks.
    fn images_are_files(&self) -> bool {
        self.metal == Metal::Emulated && !self.runs_on_qemu()
    }

    /// All that goes into the levels up to the one at `index`, by name, without what runs them.
    pub fn inputs(&self, index: usize) -> Inputs {
        let mut inputs = Inputs::new();
        for (index, plan) in self.levels.iter().enumerate().take(index + 1) {
            let machine = Self { memory: Memory::Private, restored_from: false, ..self.clone() }
                .machine(index, Instance::First);
            inputs.insert(format!("{} image", plan.level), plan.image.clone());
            // Not all that is required is asked for on the command line, and what lacks it comes to no state.
            let required = [&machine.cpu.require[..], &machine.require].concat().join(" ");
            inputs.insert(format!("{} requirements", plan.level), required);
            inputs.insert(format!("{} machine", plan.level), machine.arguments(&Anywhere).join(" "));
        }
        inputs
    }

    /// The ports by which the channels of `plan` pass through a machine further out. Inside it they are called the same
    /// whether it is the first or the second of its level.
    fn ports(&self, plan: &LevelPlan, second: bool) -> Vec<Port> {
        let is_leaf = self.reports(plan.level);
        let kinds = ChannelKind::ALL.into_iter().filter(|kind| !is_leaf || *kind != ChannelKind::Agent);
        let first = |kind| ChannelName { level: plan.level, kind, second: false };
        let port =
            |kind| Port { channel: ChannelName { second, ..first(kind) }, name: first(kind).port_name() };
        kinds.map(port).collect()
    }
}

/// A host that is none in particular, for what is the same on all.
struct Anywhere;

impl Placement for Anywhere {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        Some(Backing::Socket(channel.to_string()))
    }

    fn file(&self, file: &ImageFile) -> String {
        file.serial.clone()
    }

    fn disk(&self, file: &ImageFile) -> String {
        file.serial.clone()
    }
}

/// Serial number of the disk with a level's images.
fn disk_name(plan: &LevelPlan) -> String {
    format!("l{}", plan.level.number())
}

fn boot_file(plan: &LevelPlan, name: &str, path: &Path, bytes: Option<Range<u64>>) -> ImageFile {
    let part = bytes.map(|bytes| Part { disk: disk_name(plan), bytes });
    ImageFile { part, ..image_file(format!("{}-{name}", disk_name(plan)), path) }
}

fn image_file(serial: String, path: &Path) -> ImageFile {
    ImageFile { serial, path: path.to_owned(), part: None }
}

#[cfg(test)]
mod tests {
    use nestmatrix_model::{Architecture, Clock};

    use super::*;

    fn plan(levels: std::ops::RangeInclusive<u8>, metal: Metal) -> StackPlan {
        plan_of(Architecture::Amd, levels, metal)
    }

    fn plan_of(architecture: Architecture, levels: std::ops::RangeInclusive<u8>, metal: Metal) -> StackPlan {
        let level = |n| LevelPlan {
            level: LevelNumber::new(n).unwrap(),
            kernel: format!("/k{n}").into(),
            kernel_release: "6.12.1".into(),
            initramfs: format!("/i{n}").into(),
            images: Some(Disk { path: format!("/d{n}").into(), kernel: 0..10, initramfs: 64..100 }),
            image: format!("image {n}"),
            cpu: CpuRequirement::default(),
            accelerator: Accelerator::Kvm,
            memory_mib: None,
            kernel_parameters: Vec::new(),
            machine_type: None,
            machine: BTreeMap::new(),
            disk: None,
        };
        let profile = ArchInfo::of(architecture);
        StackPlan {
            metal,
            profile,
            levels: levels.map(level).collect(),
            nonce: "17".into(),
            stays: false,
            leaf: None,
            default_firmware: BTreeSet::new(),
            second: None,
            memory: Memory::Private,
            restored_from: false,
            clock: Clock::Fastest,
            innermost_on_l0: false,
        }
    }

    fn names(machine: &Machine) -> Vec<String> {
        machine.ports.iter().map(|port| port.name.clone()).collect()
    }

    #[test]
    fn every_level_passes_up_the_channels_and_images_of_all_levels_inside_it() {
        let plan = plan(0..=3, Metal::Emulated);
        assert_eq!(names(&plan.machine(3, Instance::First)), Vec::<String>::new());
        assert_eq!(names(&plan.machine(2, Instance::First)), ["nest.l3.qmp", "nest.l3.console"]);
        assert_eq!(
            names(&plan.machine(1, Instance::First)),
            ["nest.l2.qmp", "nest.l2.console", "nest.l2.agent", "nest.l3.qmp", "nest.l3.console"]
        );
        let serials: Vec<_> = plan.machine(0, Instance::First).disks.into_iter().map(|d| d.serial).collect();
        assert_eq!(serials, ["l1", "l2", "l3"]);
    }

    #[test]
    fn an_innermost_level_in_l0_is_not_passed_through_the_levels_between() {
        let plan = StackPlan { innermost_on_l0: true, ..plan(0..=3, Metal::Emulated) };
        assert!(names(&plan.machine(0, Instance::First)).contains(&"nest.l3.qmp".to_owned()));
        let l1 = plan.machine(1, Instance::First);
        assert_eq!(names(&l1), ["nest.l2.qmp", "nest.l2.console", "nest.l2.agent"]);
        assert_eq!(l1.disks.into_iter().map(|disk| disk.serial).collect::<Vec<_>>(), ["l2"]);
        assert!(names(&plan.machine(2, Instance::First)).is_empty());
    }

    #[test]
    fn only_the_metal_is_emulated_and_only_the_innermost_level_gets_the_nonce() {
        let plan = plan(0..=2, Metal::Emulated);
        let accelerators = [0, 1, 2].map(|i| plan.machine(i, Instance::First).accelerator);
        assert_eq!(accelerators, [Accelerator::Tcg, Accelerator::Kvm, Accelerator::Kvm]);
        let with_nonce =
            [0, 1, 2].map(|i| plan.machine(i, Instance::First).boot.parameters.contains("nest.nonce=17"));
        assert_eq!(with_nonce, [false, false, true]);
    }

    #[test]
    fn an_l1_that_is_the_innermost_level_is_one_that_runs_nothing() {
        let plan = plan(0..=1, Metal::Emulated);
        let [l0, l1] = [0, 1].map(|index| plan.machine(index, Instance::First));
        assert_eq!(names(&l0), ["nest.l1.qmp", "nest.l1.console"]);
        assert!(l0.agent && !l1.agent && l1.disks.is_empty());
        assert!(l1.machine == "microvm" && l1.boot.parameters.contains("nest.nonce=17"));
        assert!(l1.cpu.require.is_empty());
    }

    #[test]
    fn a_level_that_hosts_another_must_have_the_virtualization_extension() {
        let plan = plan(1..=2, Metal::Native);
        assert_eq!(plan.machine(0, Instance::First).cpu.require, ["svm"]);
        assert!(plan.machine(1, Instance::First).cpu.require.is_empty());
        assert!(plan.memory_mib(0) > plan.memory_mib(1));
    }

    #[test]
    fn the_extension_of_a_model_that_the_scenario_chooses_is_required_by_the_scenario_alone() {
        let mut plan = plan(0..=2, Metal::Emulated);
        plan.levels[1].cpu.mode = CpuMode::Custom { model: "EPYC-IBPB".into() };
        let cpu = |plan: &StackPlan, index| plan.machine(index, Instance::First).cpu;
        assert!(cpu(&plan, 1).require.is_empty());
        assert_eq!(cpu(&plan, 0).require, ["svm"], "emulated metal always has it");
        plan.levels[1].cpu.require = vec!["svm".into()];
        assert_eq!(
            (cpu(&plan, 1).model.as_str(), cpu(&plan, 1).require),
            ("EPYC-IBPB", vec!["svm".to_owned()])
        );
    }

    #[test]
    fn where_a_machine_property_lets_a_level_host_it_is_required_unless_the_scenario_sets_it() {
        let mut plan = plan_of(Architecture::Power9, 0..=2, Metal::Emulated);
        let [l0, l1, l2] = [0, 1, 2].map(|index| plan.machine(index, Instance::First));
        assert_eq!((l0.machine.as_str(), l1.machine.as_str()), ("powernv9", "pseries"));
        assert_eq!(
            (l1.require.as_slice(), l1.properties["cap-nested-hv"].as_str()),
            (&["cap-nested-hv".to_owned()][..], "on")
        );
        assert!(
            l0.require.is_empty() && l2.require.is_empty() && !l2.properties.contains_key("cap-nested-hv")
        );
        plan.levels[1].machine.insert("cap-nested-hv".into(), "off".into());
        let l1 = plan.machine(1, Instance::First);
        assert!(l1.require.is_empty() && l1.properties["cap-nested-hv"] == "off");
    }

    #[test]
    fn only_a_level_that_hosts_a_host_is_told_to_let_its_guests_host() {
        let plan = plan_of(Architecture::Arm, 0..=2, Metal::Emulated);
        let nested = [0, 1, 2].map(|index| {
            plan.machine(index, Instance::First).boot.parameters.contains("kvm-arm.mode=nested")
        });
        assert_eq!(nested, [true, false, false]);
    }

    #[test]
    fn a_second_machine_has_channels_of_its_own_through_every_level_outside_it_and_looks_alike_from_inside() {
        let plan = StackPlan { second: LevelNumber::new(1), ..plan(0..=2, Metal::Emulated) };
        let outer: Vec<String> =
            plan.machine(0, Instance::First).ports.iter().map(|port| port.name.clone()).collect();
        for name in ["nest.l1.qmp", "nest.l1-second.qmp", "nest.l1-second.agent", "nest.l2-second.console"] {
            assert!(outer.contains(&name.to_owned()), "{outer:?}");
        }
        let (first, second) = (plan.machine(1, Instance::First), plan.machine(1, Instance::Incoming));
        assert_eq!(names(&first), names(&second));
        assert!(first.channels().iter().all(|channel| !second.channels().contains(channel)));
        let without = StackPlan { second: None, ..plan.clone() };
        assert_eq!(plan.memory_mib(0), without.memory_mib(0) + without.memory_mib(1));
    }

    #[test]
    fn the_innermost_machine_is_microvm_unless_another_was_chosen_or_the_scenario_sets_one() {
        let mut plan = plan(0..=2, Metal::Emulated);
        let [l1, leaf] = [1, 2].map(|index| plan.machine(index, Instance::First));
        assert_eq!((leaf.machine.as_str(), leaf.properties["rtc"].as_str()), ("microvm", "on"));
        assert!(leaf.boot.parameters.contains("pci=off"), "{}", leaf.boot.parameters);

        let leaf = plan.profile.innermost_machine_of(&["pc".to_owned(), "q35".to_owned()]).unwrap();
        plan.leaf = Some(leaf);
        let with_firmware = plan.machine(2, Instance::First);
        assert_eq!(with_firmware.properties["firmware"], "qboot.rom");
        plan.default_firmware.insert(LevelNumber::ALL[2]);
        let chosen = plan.machine(2, Instance::First);
        assert_eq!((chosen.machine.as_str(), chosen.properties.len()), ("q35", 0));
        let of_kernel = |machine: &Machine| {
            let words = machine.boot.parameters.split(' ').filter(|word| !word.starts_with("nest."));
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(of_kernel(&chosen), of_kernel(&l1), "it is started as L1 is");
        assert_eq!(plan.machine(1, Instance::First), l1, "no other level depends on the choice");

        plan.leaf = None;
        plan.levels[2].machine_type = Some("pc-q35-7.2".into());
        let set = plan.machine(2, Instance::First);
        assert_eq!((&set.boot, set.machine.as_str()), (&chosen.boot, "pc-q35-7.2"));
        plan.levels[1].machine_type = Some("pc".into());
        assert_eq!(plan.machine(1, Instance::First).machine, "pc");
    }

    #[test]
    fn on_emulated_metal_a_level_from_l2_on_gets_the_firmware_that_is_reliable_there() {
        let firmware = |plan: &StackPlan, index| {
            plan.machine(index, Instance::First).properties.get("firmware").cloned()
        };
        let qboot = || Some("qboot.rom".to_owned());
        let mut emulated = plan(0..=3, Metal::Emulated);
        assert_eq!([0, 1, 2, 3].map(|index| firmware(&emulated, index)), [None, None, qboot(), qboot()]);
        emulated.default_firmware.insert(LevelNumber::ALL[2]);
        assert_eq!([2, 3].map(|index| firmware(&emulated, index)), [None, qboot()]);
        let native = plan(1..=3, Metal::Native);
        assert_eq!([0, 1, 2].map(|index| firmware(&native, index)), [None, None, None]);
        let power9 = plan_of(Architecture::Power9, 0..=3, Metal::Emulated);
        assert_eq!([1, 2, 3].map(|index| firmware(&power9, index)), [None, None, None]);
    }

    #[test]
    fn steps_of_a_level_that_hosts_find_its_qemu_and_the_images_of_the_next_level() {
        let [l0, l1, l2] = [0, 1, 2].map(|n| LevelNumber::new(n).unwrap());
        let amd = plan(0..=2, Metal::Emulated);
        assert_eq!(
            amd.variables_of_steps(l1),
            "KVM_MODULE=kvm_amd CPU_FLAGS='svm npt' QEMU=qemu-system-x86_64 L2_KERNEL=/run/nest/l2-kernel \
             L2_INITRAMFS=/run/nest/l2-initramfs"
        );
        assert_eq!(amd.variables_of_steps(l2), "KVM_MODULE=kvm_amd CPU_FLAGS='svm npt'");
        let intel = plan_of(Architecture::Intel, 0..=2, Metal::Emulated);
        assert!(
            intel
                .variables_of_steps(l0)
                .ends_with(" L1_KERNEL=/nest/l1-kernel L1_INITRAMFS=/nest/l1-initramfs")
        );
        assert!(intel.variables_of_steps(l1).contains(" L2_KERNEL=/run/nest/l2-kernel "));
        let alone = plan_of(Architecture::Power9, 0..=0, Metal::Emulated);
        assert_eq!(alone.variables_of_steps(l0), "KVM_MODULE=kvm_hv CPU_FLAGS='' QEMU=qemu-system-ppc64");
    }

    #[test]
    fn where_the_emulator_is_l0_it_runs_l1() {
        let plan = plan(1..=2, Metal::Emulated);
        assert!(plan.emulator_is_l0() && !plan.on_emulator(LevelNumber::ALL[2]));
        let machine = plan.machine(0, Instance::First);
        assert_eq!((machine.accelerator, machine.cpu.model.as_str()), (Accelerator::Tcg, "max"));
    }
}
