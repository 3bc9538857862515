//! The hardware of a level as a scenario describes it: CPUs, devices, memory backing, network, TPM, and what is switched off or set
//! in its processor.

use std::collections::BTreeMap;

use nestmatrix_model::{Device, Hardware, LevelNumber, MemoryBacking, Network, TpmVersion, Word};

use super::input::Table;
use super::level::qemu_name;
use super::problem::ScenarioProblem;

/// The most CPUs of a level. Some machine types have fewer; then QEMU says so.
const MOST_CPUS: u32 = 255;
/// The least and the most memory of a level, in MiB.
pub(super) const LEAST_MEMORY_MIB: u32 = 16;
pub(super) const MOST_MEMORY_MIB: u32 = 1 << 20;

pub(super) fn read(table: &Table<'_>, level: LevelNumber, memory_mib: Option<u32>) -> Hardware {
    let cpus = table.optional_integer("cpus", 1, MOST_CPUS);
    // A minimum of 1 if `cpus` is missing or wrong: then there is nothing to compare with.
    let max_cpus = table.optional_integer("max-cpus", cpus.unwrap_or(1), MOST_CPUS);
    if max_cpus.is_some() && !table.has("cpus") {
        table.report(ScenarioProblem::NeedlessKey { key: "max-cpus", wants: "cpus = NUMBER" });
    }
    let least = memory_mib.unwrap_or(LEAST_MEMORY_MIB);
    let max_memory_mib = table.optional_integer("max-memory-mib", least, MOST_MEMORY_MIB);
    if max_memory_mib.is_some() && !table.has("memory-mib") {
        table.report(ScenarioProblem::NeedlessKey { key: "max-memory-mib", wants: "memory-mib = NUMBER" });
    }
    let memory_backing =
        table.optional_string("memory-backing").and_then(|text| text.parse(MemoryBacking::parse));
    let network = table.optional_string("network").and_then(|text| text.parse(Network::parse));
    let tpm = table.optional_string("tpm").and_then(|text| text.parse(TpmVersion::parse));
    if level.below().is_none() {
        // L0's memory is the emulator's, and a network of L0 would begin on this machine.
        for key in ["memory-backing", "network", "max-memory-mib"].into_iter().filter(|key| table.has(key)) {
            table.report(ScenarioProblem::NeedlessKey { key, wants: "[levels.l1]" });
        }
    }
    Hardware { cpus, max_cpus, max_memory_mib, devices: devices(table), memory_backing, network, tpm }
}

fn devices(table: &Table<'_>) -> Vec<Device> {
    let mut places: BTreeMap<Device, String> = BTreeMap::new();
    let mut devices = Vec::new();
    for text in table.optional_strings("devices").unwrap_or_default() {
        let Some(device) = text.parse(Device::parse) else { continue };
        if let Some(first) = places.get(&device).cloned() {
            text.report(ScenarioProblem::Duplicate { what: "device", name: device.to_string(), first });
        } else {
            places.insert(device, text.location());
            devices.push(device);
        }
    }
    devices
}

/// The features in `cpu.disable`.
pub(super) fn disabled(table: &Table<'_>, require: &[String]) -> Vec<String> {
    let mut disable = Vec::new();
    for text in table.optional_strings("disable").unwrap_or_default() {
        let Some(feature) = text.parse(|text| qemu_name("a CPU feature", text)) else { continue };
        if require.contains(&feature) {
            text.report(ScenarioProblem::BothKeys { keys: ["require", "disable"] });
        }
        disable.push(feature);
    }
    disable
}

/// The properties in `cpu.set`.
pub(super) fn set(table: &Table<'_>) -> BTreeMap<String, String> {
    let mut set = BTreeMap::new();
    let texts = table.optional_string_map("set").unwrap_or_default();
    for (name, value) in texts {
        let name = name.parse(|text| qemu_name("a CPU property", text));
        let value = value.parse(|text| qemu_name("the value of a CPU property", text));
        if let (Some(name), Some(value)) = (name, value) {
            set.insert(name, value);
        }
    }
    set
}
