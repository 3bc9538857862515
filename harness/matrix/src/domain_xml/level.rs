//! The level that an import makes, while its parts are read.

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_model::architecture::{ArchInfo, Nesting};
use nestmatrix_model::{
    Accelerator, CpuMode, CpuRequirement, Device, Firmware, Hardware, Isa, MemoryBacking, Network, TpmVersion,
};
use nestmatrix_stack::MachineSettings;

use super::memory::MOST_CPUS;
use crate::scenario::qemu_name;

/// The most features or properties of a CPU or a machine. QEMU has about three hundred CPU features.
const MOST_NAMES: usize = 200;

/// A level of a scenario, part by part.
#[derive(Debug, Clone)]
pub(super) struct LevelDraft {
    pub(super) profile: &'static ArchInfo,
    pub(super) cpu_mode: CpuMode,
    /// Features that are switched on or off.
    features: BTreeMap<String, bool>,
    /// Other properties of the CPU.
    cpu_properties: BTreeMap<String, String>,
    pub(super) cpus: Option<u32>,
    pub(super) max_cpus: Option<u32>,
    pub(super) memory_mib: Option<u32>,
    pub(super) has_huge_pages: bool,
    pub(super) machine_type: Option<String>,
    machine_properties: BTreeMap<String, String>,
    pub(super) accelerator: Accelerator,
    pub(super) devices: BTreeSet<Device>,
    pub(super) network: Option<Network>,
    pub(super) tpm: Option<TpmVersion>,
    pub(super) firmware: Option<Firmware>,
}

/// Why a part can't be in a scenario: the value is not one that QEMU's command line takes between commas.
pub(super) const NOT_A_WORD: &str =
    "not expressed: names and values in scenarios have only letters, digits, `-`, `_` and `.`";

impl LevelDraft {
    pub(super) fn new(profile: &'static ArchInfo) -> Self {
        Self {
            profile,
            cpu_mode: CpuMode::HostPassthrough,
            features: BTreeMap::new(),
            cpu_properties: BTreeMap::new(),
            cpus: None,
            max_cpus: None,
            memory_mib: None,
            has_huge_pages: false,
            machine_type: None,
            machine_properties: BTreeMap::new(),
            accelerator: Accelerator::Kvm,
            devices: BTreeSet::new(),
            network: None,
            tpm: None,
            firmware: None,
        }
    }

    /// Forgets the CPU that was read, because a later part of the domain replaces it.
    pub(super) fn forget_cpu(&mut self) {
        self.cpu_mode = CpuMode::HostPassthrough;
        self.features.clear();
        self.cpu_properties.clear();
    }

    /// Switches a feature on or off. The last word counts, as on QEMU's command line.
    pub(super) fn set_feature(&mut self, name: &str, on: bool) -> Result<(), &'static str> {
        let name = name_of(&self.features, &self.feature_name(name))?;
        self.cpu_properties.remove(&name);
        self.features.insert(name, on);
        Ok(())
    }

    /// Sets a property of the CPU. The feature that lets it host is a feature, however it is written.
    pub(super) fn set_cpu_property(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        if let (true, "on" | "off") = (self.nesting_feature() == Some(name), value) {
            return self.set_feature(name, value == "on");
        }
        let name = name_of(&self.cpu_properties, &self.feature_name(name))?;
        let value = qemu_name("a value", value).map_err(|_| NOT_A_WORD)?;
        self.features.remove(&name);
        self.cpu_properties.insert(name, value);
        Ok(())
    }

    /// Sets a property of the machine.
    pub(super) fn set_machine_property(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        let name = name_of(&self.machine_properties, name)?;
        let value = qemu_name("a value", value).map_err(|_| NOT_A_WORD)?;
        self.machine_properties.insert(name, value);
        Ok(())
    }

    /// The parts of the topology that were set.
    fn topology(&self) -> impl Iterator<Item = (&str, &str)> {
        let parts = self.machine_properties.iter();
        parts.filter_map(|(name, value)| Some((name.strip_prefix("smp.")?, value.as_str())))
    }

    /// Makes the numbers of CPUs agree with each other and with the topology, as QEMU does (hw/core/machine-smp.c). What contradicts
    /// another number is forgotten.
    pub(super) fn settle_cpus(&mut self) -> Result<(), &'static str> {
        let product = self.topology().try_fold(1_u32, |product, (_, value)| {
            product.checked_mul(value.parse().ok().filter(|number| *number > 0)?)
        });
        if self.cpus.is_none() {
            let has_parts = self.topology().next().is_some();
            self.cpus = self.max_cpus.or(product.filter(|product| has_parts && *product <= MOST_CPUS));
        }
        let most = self.max_cpus.or(self.cpus);
        // QEMU finds a part that is missing by division.
        let is_whole =
            ["sockets", "cores", "threads"].iter().all(|part| self.topology().any(|(name, _)| name == *part));
        let agrees = match (product, most) {
            (Some(product), Some(most)) if is_whole => product == most,
            (Some(product), Some(most)) => most % product == 0,
            // Without any number, there is nothing to contradict.
            (product, None) => product == Some(1),
            (None, Some(_)) => false,
        };
        let is_in_order = self.max_cpus.is_none_or(|most| self.cpus.is_some_and(|cpus| cpus <= most));
        // A scenario wants both, and a difference.
        self.max_cpus = self.max_cpus.filter(|most| self.cpus.is_some_and(|cpus| cpus < *most));
        if !agrees {
            self.machine_properties.retain(|name, _| !name.starts_with("smp."));
            return Err("not expressed: the product of the topology is not the number of CPUs");
        }
        if is_in_order { Ok(()) } else { Err("not expressed: maxcpus is less than the number of CPUs") }
    }

    /// Names with `_` are old names for those with `-` on x86 (QEMU, target/i386/cpu.c, `feat2prop`). QEMU reports only the new ones.
    fn feature_name(&self, name: &str) -> String {
        if self.profile.isa == Isa::Amd64 { name.replace('_', "-") } else { name.to_owned() }
    }

    /// The feature that lets the level host, if it is one.
    pub(super) fn nesting_feature(&self) -> Option<&'static str> {
        match self.profile.nesting {
            Nesting::CpuFeature(name) => Some(name),
            Nesting::MachineProperty(_) => None,
        }
    }

    /// Whether the CPU is missing the feature without which it can't host.
    pub(super) fn cannot_host(&self) -> bool {
        let Some(nesting) = self.nesting_feature() else { return false };
        let asked = self.features.get(nesting).copied();
        asked == Some(false) || (asked.is_none() && self.cpu_mode != CpuMode::HostPassthrough)
    }

    /// Lets its guest see KVM. Returns whether that was hidden.
    pub(super) fn show_kvm(&mut self) -> bool {
        let is_hidden = self.cpu_properties.get("kvm").is_some_and(|value| value == "off");
        if is_hidden {
            self.cpu_properties.remove("kvm");
        }
        is_hidden || self.features.remove("kvm") == Some(false)
    }

    /// The settings of the level.
    pub(super) fn settings(&self) -> MachineSettings {
        let nesting = self.nesting_feature();
        let (mut require, mut disable) = (Vec::new(), Vec::new());
        let mut set = self.cpu_properties.clone();
        for (name, on) in &self.features {
            let is_nesting = Some(name.as_str()) == nesting;
            match (on, &self.cpu_mode) {
                (false, _) => disable.push(name.clone()),
                (true, CpuMode::HostPassthrough) if !is_nesting => {
                    // A CPU that is passed through has what it has. Only `set` switches something on in it.
                    set.insert(name.clone(), "on".to_owned());
                }
                (true, _) => require.push(name.clone()),
            }
        }
        MachineSettings {
            cpu: CpuRequirement {
                mode: self.cpu_mode.clone(),
                require,
                disable,
                set,
                ..CpuRequirement::default()
            },
            accelerator: self.accelerator,
            memory_mib: self.memory_mib,
            machine_type: self.machine_type.clone(),
            machine: self.machine_properties.clone(),
            hardware: Hardware {
                cpus: self.cpus,
                max_cpus: self.max_cpus,
                max_memory_mib: None,
                devices: self.devices.iter().copied().collect(),
                memory_backing: self.has_huge_pages.then_some(MemoryBacking::HugePages),
                network: self.network,
                tpm: self.tpm,
            },
            ..MachineSettings::default()
        }
    }
}

fn name_of<T>(known: &BTreeMap<String, T>, name: &str) -> Result<String, &'static str> {
    if known.len() >= MOST_NAMES && !known.contains_key(name) {
        return Err("not expressed: there are too many");
    }
    qemu_name("a name", name).map_err(|_| NOT_A_WORD)
}
