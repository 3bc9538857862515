//! The hardware that a scenario asks for: how it is requested from QEMU, and what QEMU says that it gave.
//!
//! QEMU accepts some requests that it does not meet: it leaves out features with only a warning, and a property may be rounded or
//! overwritten. So everything is read back before the guest runs its first instruction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::CallError;

use super::devices::GuestDevice;
use super::hardware_difference::HardwareDifference;
use super::{Machine, Monitor};

/// The size of a memory module, in MiB. Every machine that takes modules takes those of this size.
pub const MEMORY_MODULE_MIB: u32 = 256;

/// The port for a device that is plugged in.
pub const PLUG_PORT: &str = "nest-port";

/// The identifier of a memory module. Its memory has the same one with `-memory` at the end.
pub fn memory_module(number: u32) -> String {
    format!("nest-module-{number}")
}

/// The CPUs, the devices and the backing of memory of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineHardware {
    /// How many CPUs it has when it starts.
    pub cpus: u32,
    /// How many it can have.
    pub max_cpus: u32,
    /// Whether its memory is in huge pages of its host.
    pub huge_pages: bool,
    /// How many memory modules it can have besides the memory that it starts with.
    pub memory_slots: u32,
    /// How many of them it has.
    pub memory_modules: u32,
    /// Whether it has a PCI Express port for a device that is plugged in while it runs.
    pub plug_port: bool,
    /// Devices in addition to those of the harness.
    pub devices: Vec<GuestDevice>,
}

impl MachineHardware {
    /// A machine with so many CPUs and nothing else.
    pub fn with_cpus(cpus: u32) -> Self {
        Self {
            cpus,
            max_cpus: cpus,
            huge_pages: false,
            memory_slots: 0,
            memory_modules: 0,
            plug_port: false,
            devices: Vec::new(),
        }
    }

    /// Whether its packets are copied into [`traffic_folder`](super::traffic_folder).
    pub fn has_traffic(&self) -> bool {
        self.devices.iter().any(GuestDevice::copies_packets)
    }

    /// The name of the folder of the swtpm that plays its TPM, if it has one.
    pub fn tpm_folder(&self) -> Option<&str> {
        self.devices.iter().find_map(GuestDevice::tpm_folder)
    }

    /// The same, with no packets copied: for a host without that folder.
    #[must_use]
    pub fn without_traffic(mut self) -> Self {
        self.devices.iter_mut().for_each(GuestDevice::copy_no_packets);
        self
    }

    /// The value of `-smp`.
    pub(super) fn smp(&self) -> String {
        match self.max_cpus > self.cpus {
            true => format!("{},maxcpus={}", self.cpus, self.max_cpus),
            false => self.cpus.to_string(),
        }
    }

    /// The value of `-m`.
    pub(super) fn memory(&self, size_mib: u32) -> String {
        match self.memory_slots {
            0 => format!("{size_mib}M"),
            slots => {
                let most = size_mib.saturating_add(slots.saturating_mul(MEMORY_MODULE_MIB));
                format!("{size_mib}M,slots={slots},maxmem={most}M")
            }
        }
    }

    /// The options for what was plugged in, and for what is plugged into.
    pub(super) fn plugging(&self) -> Vec<(&'static str, String)> {
        let port = format!("pcie-root-port,id={PLUG_PORT},chassis=1,slot=1");
        let modules = (0..self.memory_modules).flat_map(|number| {
            let id = memory_module(number);
            let backend = format!("memory-backend-ram,id={id}-memory,size={MEMORY_MODULE_MIB}M");
            [("object", backend), ("device", format!("pc-dimm,id={id},memdev={id}-memory"))]
        });
        self.plug_port.then_some(("device", port)).into_iter().chain(modules).collect()
    }

    /// The backend of a machine's memory if it is in huge pages, to be used as `memory`. All pages are taken at the start: a
    /// guest that touches a page that is missing later would be killed.
    pub(super) fn memory_backend(&self, size_mib: u32) -> Option<String> {
        let backend =
            format!("memory-backend-memfd,id=memory,size={size_mib}M,hugetlb=on,share=on,prealloc=on");
        self.huge_pages.then_some(backend)
    }

    /// Words that QEMU may name if it refuses what is requested.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().flat_map(GuestDevice::words)
    }

    /// Whether `said`, which a QEMU printed before it ended, is about huge pages that its host does not have: a scenario that
    /// asks for them must provide them (QEMU: util/oslib-posix.c, system/physmem.c).
    pub fn explains_missing_memory(&self, said: &str) -> bool {
        const NO_PAGES: [&str; 5] = [
            "unable to map backing store",
            "preallocat",
            "insufficient free host memory pages",
            "failed to create memfd",
            "cannot allocate memory",
        ];
        let said = said.to_lowercase();
        self.huge_pages && NO_PAGES.iter().any(|text| said.contains(text))
    }

    /// Properties of the machine that its devices need.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        self.devices.iter().flat_map(|device| device.machine_properties.iter().copied())
    }
}

/// What a machine has, as its QEMU reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardwareReport {
    /// The number of its CPUs (`query-cpus-fast`).
    pub cpus: u32,
    /// The number of CPUs that it can have (`query-hotpluggable-cpus`, or the machine's property `smp`); absent if this QEMU
    /// reports neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cpus: Option<u32>,
    /// Its memory in MiB (`query-memory-size-summary`); absent if this QEMU does not know the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Whether its memory is in huge pages, if that was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub huge_pages: Option<bool>,
    /// Each feature that was switched off, and whether the CPU has it nevertheless.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disabled: BTreeMap<String, bool>,
    /// Each property of the CPU that was set, and its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Each requested device, and whether the machine has it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, bool>,
    /// How the machine differs from what was requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<HardwareDifference>,
}

impl HardwareReport {
    /// Checks that the machine has what was requested.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self) -> Result<(), HardwareDifference> {
        self.differences.first().map_or(Ok(()), |difference| Err(difference.clone()))
    }

    fn compare(&mut self, machine: &Machine) {
        let MachineHardware { cpus, max_cpus, huge_pages, .. } = machine.hardware;
        let mut differences = Vec::new();
        if self.cpus != cpus {
            differences.push(HardwareDifference::Cpus { requested: cpus, actual: self.cpus });
        }
        // A machine that can't plug CPUs may say nothing, or report only those that it has.
        if max_cpus > cpus && self.max_cpus != Some(max_cpus) {
            differences.push(HardwareDifference::MaxCpus { requested: max_cpus, actual: self.max_cpus });
        }
        let requested = u64::from(machine.memory_mib);
        if let Some(actual) = self.memory_mib.filter(|actual| *actual != requested) {
            differences.push(HardwareDifference::Memory { requested, actual });
        }
        if huge_pages && self.huge_pages != Some(true) {
            differences.push(HardwareDifference::SmallPages);
        }
        let on = self.disabled.iter().filter(|(_, on)| **on);
        differences.extend(on.map(|(feature, _)| HardwareDifference::FeatureOn { feature: feature.clone() }));
        for (property, requested) in &machine.cpu.set {
            let actual = self.set.get(property);
            if !actual.is_some_and(|actual| is_same_value(requested, actual)) {
                let (property, requested) = (property.clone(), requested.clone());
                let actual = actual.cloned();
                differences.push(HardwareDifference::CpuProperty { property, requested, actual });
            }
        }
        let missing = self.devices.iter().filter(|(_, there)| !**there);
        differences.extend(missing.map(|(device, _)| HardwareDifference::Device { device: device.clone() }));
        self.differences = differences;
    }
}

/// Asks the QEMU of a paused machine which hardware the machine has.
pub(super) async fn query(monitor: &Monitor, machine: &Machine) -> Result<HardwareReport, CallError> {
    let cpus = monitor.call("query-cpus-fast", Value::Null).await?;
    let count = cpus.as_array().map_or(0, Vec::len);
    let mut report = HardwareReport {
        cpus: u32::try_from(count).unwrap_or(u32::MAX),
        max_cpus: max_cpus(monitor).await?,
        ..HardwareReport::default()
    };
    // Since QEMU 2.11. As data, like all replies that differ between targets.
    let memory = optional(monitor.call("query-memory-size-summary", Value::Null).await)?;
    report.memory_mib = memory["base-memory"].as_u64().map(|bytes| bytes >> 20);
    if machine.hardware.huge_pages {
        let backend = optional(monitor.property("/machine", "memory-backend").await)?;
        let huge = optional(monitor.property(&path_of_backend(&backend), "hugetlb").await)?;
        report.huge_pages = Some(huge == Value::Bool(true));
    }
    if let Some(cpu) = cpus[0]["qom-path"].as_str() {
        for feature in &machine.cpu.disable {
            let value = cpu_property(monitor, cpu, feature).await?;
            // If the feature can't be read, nothing shows that it is off.
            report.disabled.insert(feature.clone(), value != Value::Bool(false));
        }
        for property in machine.cpu.set.keys() {
            let value = cpu_property(monitor, cpu, property).await?;
            if !value.is_null() {
                report.set.insert(property.clone(), as_text(&value));
            }
        }
    }
    for device in &machine.hardware.devices {
        let there = device.is_in(monitor).await?;
        report.devices.insert(device.name.clone(), there);
    }
    report.compare(machine);
    Ok(report)
}

/// The path of the memory's backend, which libvirt names itself. Older versions of QEMU report its identifier, newer ones its path.
fn path_of_backend(backend: &Value) -> String {
    match backend.as_str() {
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(id) if !id.is_empty() => format!("/objects/{id}"),
        _ => "/objects/memory".to_owned(),
    }
}

/// The number of CPUs that the machine can have.
async fn max_cpus(monitor: &Monitor) -> Result<Option<u32>, CallError> {
    let pluggable = optional(monitor.call("query-hotpluggable-cpus", Value::Null).await)?;
    if let Some(pluggable) = pluggable.as_array() {
        let counts = pluggable.iter().map(|one| one["vcpus-count"].as_u64().unwrap_or_default());
        return Ok(u32::try_from(counts.sum::<u64>()).ok());
    }
    // Since QEMU 6.1.
    let smp = optional(monitor.property("/machine", "smp").await)?;
    Ok(smp["maxcpus"].as_u64().and_then(|count| u32::try_from(count).ok()))
}

/// A property of a CPU object; null if it does not exist. QEMU's command line takes `_` for `-` in names.
async fn cpu_property(monitor: &Monitor, cpu: &str, property: &str) -> Result<Value, CallError> {
    let value = optional(monitor.property(cpu, property).await)?;
    if value.is_null() && property.contains('_') {
        return optional(monitor.property(cpu, &property.replace('_', "-")).await);
    }
    Ok(value)
}

/// The reply, or null if this QEMU refuses: it does not know the command or the property.
pub(super) fn optional(reply: Result<Value, CallError>) -> Result<Value, CallError> {
    match reply {
        Err(CallError::Refused { .. }) => Ok(Value::Null),
        other => other,
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        other => other.to_string(),
    }
}

/// Whether QEMU reads both as the same value of a property: `0x1fff` is 8191, and `yes` is `on` (qapi/string-input-visitor.c).
fn is_same_value(requested: &str, actual: &str) -> bool {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => i128::from_str_radix(digits, 16).ok(),
        None => text.parse::<i128>().ok(),
    };
    let switch = |text: &str| match text {
        "on" | "yes" | "true" | "y" => Some(true),
        "off" | "no" | "false" | "n" => Some(false),
        _ => None,
    };
    requested == actual
        || number(requested).is_some_and(|value| number(actual) == Some(value))
        || switch(requested).is_some_and(|value| switch(actual) == Some(value))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::path(Value::from("/objects/pc.ram"), "/objects/pc.ram")]
    #[case::identifier(Value::from("pc.ram"), "/objects/pc.ram")]
    #[case::of_no_backend(Value::from(""), "/objects/memory")]
    #[case::unknown(Value::Null, "/objects/memory")]
    fn the_backend_of_memory_is_found_by_its_path_or_identifier(
        #[case] backend: Value,
        #[case] expected: &str,
    ) {
        assert_eq!(path_of_backend(&backend), expected);
    }

    #[rstest]
    #[case("0x1fff", "8191", true)]
    #[case("yes", "on", true)]
    #[case("off", "on", false)]
    #[case("0x1ffe", "8191", false)]
    #[case("AuthenticAMD", "AuthenticAMD", true)]
    #[case("1", "on", false)]
    fn values_are_compared_as_qemu_reads_them(
        #[case] requested: &str,
        #[case] actual: &str,
        #[case] same: bool,
    ) {
        assert_eq!(is_same_value(requested, actual), same);
    }

    #[test]
    fn a_machine_that_can_have_more_cpus_says_so_on_its_command_line() {
        assert_eq!(MachineHardware::with_cpus(2).smp(), "2");
        let more = MachineHardware { max_cpus: 4, ..MachineHardware::with_cpus(2) };
        assert_eq!(more.smp(), "2,maxcpus=4");
    }

    #[test]
    fn a_machine_that_takes_modules_says_so_on_its_command_line_and_has_those_that_it_got() {
        let plain = MachineHardware::with_cpus(1);
        assert_eq!((plain.memory(1024), plain.plugging()), ("1024M".to_owned(), Vec::new()));
        let got = MachineHardware { memory_slots: 2, memory_modules: 1, plug_port: true, ..plain };
        assert_eq!(got.memory(1024), "1024M,slots=2,maxmem=1536M");
        let options: Vec<String> =
            got.plugging().into_iter().map(|(option, value)| format!("-{option} {value}")).collect();
        let expected = [
            "-device pcie-root-port,id=nest-port,chassis=1,slot=1",
            "-object memory-backend-ram,id=nest-module-0-memory,size=256M",
            "-device pc-dimm,id=nest-module-0,memdev=nest-module-0-memory",
        ];
        assert_eq!(options, expected);
    }
}
