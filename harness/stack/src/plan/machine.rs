//! The machine of each level of a plan, as requested from its QEMU or from the emulator that plays the bare machine.

use std::collections::BTreeMap;

use nestmatrix_images::LocalGuest;
use nestmatrix_model::architecture::{
    ArchInfo, BareMachine, BootShortcuts, InnermostMachine, MachineType, Nesting,
};
use nestmatrix_model::{Architecture, Clock, CpuMode, MemoryBacking, TpmVersion, Word as _};
use nestmatrix_vmm::qemu::{
    Cpu, GuestDevice, ImageFile, Instance, MEMORY_MODULE_MIB, Machine, MachineHardware, Memory, Port,
    machine_label,
};

use super::images::OWN_DISK;
use super::settings::FIRST_PROCESS;
use super::{BootFiles, LevelPlan, MachineSettings, Metal, StackPlan, WindowsSystem};
use crate::Hypervisor;

/// Whether an emulated x86 machine has the time stamp counter of its host's processor.
const SAME_INSTRUCTION_SET: bool = cfg!(target_arch = "x86_64");

/// The machine type of a machine that QEMU does not play, but for its name.
const NOT_OF_QEMU: MachineType = MachineType { name: "", properties: &[], devices: &[], bus: None };

/// Keeps programs, and so QEMU with its guests, away from the first CPU (Linux, kernel-parameters).
pub(crate) const SPARE_FIRST_CPU: &str = "isolcpus=0";

/// The role of a level in its stack, as far as its machine depends on it.
#[derive(Clone, Copy)]
struct Place<'p> {
    plan: &'p LevelPlan,
    /// The levels inside it.
    inside: &'p [LevelPlan],
    hypervisor: Hypervisor,
    /// The bare machine that it runs on, if it is L0.
    metal: Option<BareMachine>,
    /// Whether it is the innermost level, which runs no guest and reports.
    reports: bool,
    /// Its machine, if a QEMU of a host runs it, it reports, and QEMU loads its kernel.
    innermost: Option<&'static InnermostMachine>,
}

/// How many memory modules a machine with these settings can get.
fn memory_slots(settings: &MachineSettings) -> u32 {
    let room = settings.hardware.max_memory_mib.zip(settings.memory_mib);
    room.map_or(0, |(most, first)| most.saturating_sub(first) / MEMORY_MODULE_MIB)
}

impl StackPlan {
    /// The machine of the level at `index`.
    pub fn machine(&self, index: usize, instance: Instance) -> Machine {
        let place = self.place(index);
        let Place { plan, inside, hypervisor, metal, .. } = place;
        let machine = self.machine_type(place);
        let launch = self.launch_of(plan);
        let on_qemu_metal = hypervisor == Hypervisor::Tcg && self.runs_on_qemu();
        // Only one QEMU can open a port: L0's keeps those of an innermost level that it starts itself. An L0 that is this machine has none.
        let passes_innermost = !self.innermost_on_l0 || self.is_bare_machine(plan.level);
        let through = |inner: &&LevelPlan| passes_innermost || inner.level != self.innermost();
        let mut ports: Vec<Port> =
            inside.iter().filter(through).flat_map(|inner| self.ports(inner, instance.is_second())).collect();
        ports.extend(self.ports_of_second_machine(place));
        Machine {
            level: plan.level,
            instance,
            isa: self.profile.isa,
            launch,
            metal,
            machine: plan
                .settings
                .machine_type
                .as_ref()
                .or(self.machine_types.get(&plan.level))
                .map_or_else(|| machine.name.to_owned(), Clone::clone),
            properties: self.properties(index, place, &machine),
            require: self.required_properties(place),
            devices: machine.devices.iter().map(|&device| device.to_owned()).collect(),
            bus: machine.bus.map(str::to_owned),
            accelerator: hypervisor.accelerator(plan.settings.accelerator),
            cpu: self.cpu(place),
            hardware: self.hardware(place, instance),
            memory_mib: self.memory_mib(index),
            memory: if self.on_emulator(plan.level) { self.memory.clone() } else { Memory::Private },
            incoming: instance.is_incoming() || (on_qemu_metal && self.restored_from),
            boot: self.boot(plan, self.kernel_parameters(place).join(" ")),
            uefi: self.uefi(plan),
            agent: self.has_agent(plan) && !metal.is_some_and(|metal| metal.has_only_a_console()),
            ports,
            disks: inside
                .iter()
                .filter(through)
                .flat_map(|inner| self.disks(inner))
                .chain(self.volumes(plan))
                .collect(),
            writable_disk: plan.disk.as_ref().map(|path| ImageFile::writable(OWN_DISK, path)),
            removable: self.removable(plan),
            display: plan
                .image
                .disk()
                .and_then(|disk| disk.first_boot.as_ref())
                .is_some_and(|boot| boot.display),
            swtpm: self.swtpm(plan).filter(|_| index > 0),
            other_qemu: None,
        }
    }

    fn place(&self, index: usize) -> Place<'_> {
        let plan = &self.levels[index];
        let hypervisor = self.hypervisor_of(plan.level);
        let reports = self.reports(plan.level);
        Place {
            plan,
            inside: &self.levels[index + 1..],
            hypervisor,
            metal: self.is_bare_machine(plan.level).then_some(self.profile.metal),
            reports,
            innermost: (reports && hypervisor == Hypervisor::Kvm && self.has_boot_shortcut(plan))
                .then(|| self.machine_of_innermost(plan)),
        }
    }

    fn machine_type(&self, place: Place<'_>) -> MachineType {
        match place.metal {
            Some(BareMachine::Qemu(machine)) => machine,
            Some(other) => MachineType { name: other.program(self.profile.qemu), ..NOT_OF_QEMU },
            None if place.hypervisor == Hypervisor::HyperV => {
                MachineType { name: self.launch_of(place.plan).word(), ..NOT_OF_QEMU }
            }
            None => place.innermost.map_or(self.profile.host, |innermost| innermost.machine),
        }
    }

    fn properties(&self, index: usize, place: Place<'_>, machine: &MachineType) -> BTreeMap<String, String> {
        let emulated = self.metal == Metal::Emulated;
        let of_innermost = place.innermost.filter(|_| emulated).map_or(&[][..], |it| it.shortcut_properties);
        let firmware = self.wanted_firmware(index);
        let firmware = firmware.filter(|_| !self.default_firmware.contains(&place.plan.level));
        // The innermost level has a host's machine if it boots a disk. KVM gives it no nesting where a property asks for that.
        let nesting = match self.profile.nesting {
            Nesting::MachineProperty(name) if place.reports && place.metal.is_none() => Some(name),
            Nesting::MachineProperty(_) | Nesting::CpuFeature(_) => None,
        };
        let properties = machine.properties.iter().chain(of_innermost);
        let properties = properties.filter_map(|property| property.split_once('='));
        let properties = properties.filter(|(name, _)| Some(*name) != nesting);
        let properties = properties.chain(firmware.map(|file| ("firmware", file)));
        let protects = self.uefi(place.plan).is_some_and(|uefi| uefi.protects_variables);
        let properties = properties.chain(protects.then_some(("smm", "on")));
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        properties.chain(place.plan.settings.machine.clone()).collect()
    }

    /// The properties that let a level host, on architectures that need properties for it.
    fn required_properties(&self, place: Place<'_>) -> Vec<String> {
        match self.profile.nesting {
            Nesting::CpuFeature(_) => Vec::new(),
            // A scenario may switch it off on purpose, and a bare machine has no such property.
            Nesting::MachineProperty(name) => {
                let is_guest = place.metal.is_none();
                let asked_for = is_guest && !place.reports && !place.plan.settings.machine.contains_key(name);
                asked_for.then(|| name.to_owned()).into_iter().collect()
            }
        }
    }

    fn cpu(&self, place: Place<'_>) -> Cpu {
        let (on_emulator, wanted) = (place.hypervisor == Hypervisor::Tcg, &place.plan.settings.cpu);
        let passes_through = wanted.mode == CpuMode::HostPassthrough;
        let feature = match self.profile.nesting {
            // Only the scenario requires what its own CPU model needs in addition.
            Nesting::CpuFeature(name) if on_emulator || (!place.reports && passes_through) => Some(name),
            Nesting::CpuFeature(_) | Nesting::MachineProperty(_) => None,
        };
        let mut cpu = Cpu::required(wanted, feature);
        if !passes_through && place.hypervisor == Hypervisor::Kvm {
            let needs = self.profile.isa.info().kernel_needs.iter();
            cpu.needs = needs.map(|&feature| feature.to_owned()).collect();
        }
        if let Some(windows) = place.plan.image.windows() {
            self.enlighten(&mut cpu, place, windows);
        }
        if let Some(processor) = place.metal.and_then(|metal| metal.processor()) {
            processor.clone_into(&mut cpu.model);
        } else if on_emulator && passes_through {
            let owned = |features: &[&str]| features.iter().map(|&feature| feature.to_owned()).collect();
            self.profile.emulated_cpu.clone_into(&mut cpu.model);
            cpu.with = owned(self.profile.emulated_cpu_with);
            // A scenario may require what the metal does not offer otherwise.
            cpu.without = owned(self.profile.emulated_cpu_without);
            cpu.without.retain(|feature| !wanted.require.contains(feature));
        }
        cpu
    }

    /// Lets Windows know that it runs under KVM, and gives it what its Hyper-V needs to be quick if it hosts. What the scenario sets
    /// counts.
    fn enlighten(&self, cpu: &mut Cpu, place: Place<'_>, windows: &WindowsSystem) {
        let nesting = windows.nesting_enlightenments.iter().filter(|_| !place.reports);
        let is_intel = self.profile.word == ArchInfo::of(Architecture::Intel).word;
        let intel = windows.nesting_enlightenments_intel.iter().filter(|_| !place.reports && is_intel);
        for wanted in windows.enlightenments.iter().chain(nesting).chain(intel) {
            let (name, value) = wanted.split_once('=').map_or((wanted.as_str(), None), |(n, v)| (n, Some(v)));
            if cpu.disable.iter().any(|off| off == name) || cpu.set.contains_key(name) {
                continue;
            }
            if let Some(value) = value {
                cpu.set.insert(name.to_owned(), value.to_owned());
            } else if !cpu.with.iter().any(|on| on == name) {
                cpu.with.push(name.to_owned());
                cpu.require.extend((!cpu.require.iter().any(|on| on == name)).then(|| name.to_owned()));
            }
        }
    }

    fn hardware(&self, place: Place<'_>, instance: Instance) -> MachineHardware {
        let (profile, wanted) = (self.profile, &place.plan.settings.hardware);
        let disk = place.plan.image.disk();
        let usual = match disk {
            // Its boot loader has the kernel parameters, so its first CPU can't be spared.
            Some(disk) if self.needs_spare_cpu(place) => disk.cpus,
            Some(disk) => profile.cpus.max(disk.cpus),
            None => profile.cpus + u32::from(self.needs_spare_cpu(place)),
        };
        let cpus = wanted.cpus.unwrap_or(usual);
        let devices = wanted.devices.iter().filter_map(|device| GuestDevice::of(*device, profile));
        let label = machine_label(place.plan.level, instance);
        let card = disk.map(|disk| disk.network_card).unwrap_or_default();
        let network = wanted.network.map(|network| GuestDevice::of_network(network, card, profile, &label));
        let tpm = wanted.tpm.and_then(|TpmVersion::V2| GuestDevice::of_tpm(profile, &label));
        MachineHardware {
            cpus,
            max_cpus: wanted.max_cpus.unwrap_or(cpus).max(cpus),
            huge_pages: wanted.memory_backing == Some(MemoryBacking::HugePages),
            memory_slots: memory_slots(&place.plan.settings),
            memory_modules: 0,
            plug_port: self.plugged.contains(&place.plan.level) && self.plugs_into_port(place),
            devices: devices.chain(network).chain(tpm).collect(),
        }
    }

    /// Whether the first of several CPUs must run no guest.
    fn needs_spare_cpu(&self, place: Place<'_>) -> bool {
        self.profile.spare_first_cpu && matches!(place.metal, Some(BareMachine::Qemu(_)))
    }

    /// The kernel parameter that keeps the programs of a level away from its first CPU, if it has others that run. Linux before
    /// 6.10 stops if it keeps them away from the only one.
    fn spared_cpu(&self, place: Place<'_>) -> Option<String> {
        let own = &place.plan.settings.kernel_parameters;
        let has_one =
            ["nosmp", "maxcpus=0", "maxcpus=1"].iter().any(|limit| own.iter().any(|word| word == limit));
        let has_others = place.plan.settings.hardware.cpus != Some(1) && !has_one;
        (self.needs_spare_cpu(place) && has_others).then(|| SPARE_FIRST_CPU.to_owned())
    }

    /// Whether devices can be plugged only into a port of the machine, and not into its first bus.
    fn plugs_into_port(&self, place: Place<'_>) -> bool {
        let machine = place.plan.settings.machine_type.as_deref();
        let machine = machine.unwrap_or_else(|| self.machine_type(place).name);
        ["q35", "pc-q35-", "virt"].iter().any(|begin| machine.starts_with(begin))
    }

    fn kernel_parameters(&self, place: Place<'_>) -> Vec<String> {
        if matches!(place.plan.image.files, BootFiles::WslRoot { .. }) {
            // WSL has parameters of its own, and no serial line.
            let nonce = std::iter::once(format!("nest.nonce={}", self.nonce));
            return nonce.chain(place.plan.settings.kernel_parameters.iter().cloned()).collect();
        }
        let ArchInfo { kernel_parameters, nesting_switch, kvm_module, .. } = *self.profile;
        let Place { plan, inside, metal, innermost, .. } = place;
        let mut parameters = vec![match metal {
            Some(BareMachine::Hercules(machine)) => machine.kernel_parameters.to_owned(),
            Some(_) | None => kernel_parameters.to_owned(),
        }];
        if inside.len() > 1 {
            parameters.extend(nesting_switch.kernel_parameter().map(str::to_owned));
        }
        if place.reports {
            let own = innermost.map_or("", |innermost| innermost.kernel_parameters);
            parameters.extend((!own.is_empty()).then(|| own.to_owned()));
            let stays = self.stays && place.hypervisor != Hypervisor::HyperV;
            parameters.extend(stays.then(|| "nest.stay".to_owned()));
        } else {
            parameters.push(format!("nest.kvm={kvm_module}"));
        }
        let shortcuts = self.boot_shortcuts(place).into_iter().filter(|parameters| !parameters.is_empty());
        parameters.extend(shortcuts.map(str::to_owned));
        parameters.extend(self.spared_cpu(place));
        parameters.extend(inside.is_empty().then(|| format!("nest.nonce={}", self.nonce)));
        parameters.extend(plan.disk.as_ref().map(|_| format!("nest.disk={OWN_DISK}")));
        let reserved = self.reserved_for_crash(plan);
        parameters.extend(reserved.map(|mib| self.profile.crash_kernel.reservation(mib)));
        let own = plan.settings.kernel_parameters.iter();
        let Some(guest) = &plan.settings.guest else {
            parameters.extend(own.cloned());
            return parameters;
        };
        // The init that reports is the first one, and starts the guest's own. What follows `--` is for that.
        parameters.push(LocalGuest::PARAMETER.to_owned());
        let first = guest.ready.as_ref().map(|_| plan.settings.first_process());
        parameters.extend(first.map(|first| format!("nest.init={first}")));
        parameters.extend(own.filter(|word| !word.starts_with(FIRST_PROCESS)).cloned());
        parameters
    }

    /// The kernel parameters that make a level boot faster on emulated metal.
    fn boot_shortcuts(&self, place: Place<'_>) -> Vec<&'static str> {
        let emulated = self.metal == Metal::Emulated;
        let shorter = if emulated { self.profile.boot_shortcuts } else { BootShortcuts::NONE };
        match (place.reports, place.hypervisor) {
            (true, _) => place
                .innermost
                .filter(|_| emulated)
                .map(|innermost| innermost.shortcut_parameters)
                .into_iter()
                .collect(),
            (false, Hypervisor::Tcg)
                if self.runs_on_qemu() && SAME_INSTRUCTION_SET && self.clock == Clock::Fastest =>
            {
                vec![shorter.slow_clock, shorter.host]
            }
            (false, Hypervisor::Tcg) => vec![shorter.host],
            (false, Hypervisor::Kvm) => vec![shorter.host, shorter.guest_host],
            (false, Hypervisor::HyperV) => Vec::new(),
        }
    }

    /// The ports for the channels of a second machine further in. They exist from the start, since ports can't be plugged in
    /// later.
    fn ports_of_second_machine(&self, place: Place<'_>) -> Vec<Port> {
        let Some(second) = self.second.filter(|second| place.plan.level < *second) else { return Vec::new() };
        let inside = place.inside.iter().filter(|inner| inner.level >= second);
        let channels = inside.flat_map(|inner| self.ports(inner, true));
        channels.map(|Port { channel, .. }| Port { channel, name: channel.port_name() }).collect()
    }
}
