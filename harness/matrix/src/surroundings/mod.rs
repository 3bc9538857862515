//! What runs this machine: nothing if it is a bare one, otherwise the hypervisor of which it is a guest.
//!
//! A guest sees of its host only what the host shows: the hypervisor's signature (CPUID) and the firmware's tables (DMI). Both can be
//! made up, so they are recorded word by word, and no verdict depends on them. Leaf 0x40000000 of CPUID is read by `lscpu`, since
//! `core::arch` has no safe function for it in the oldest Rust that this project supports.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use nestmatrix_model::LevelNumber;
use serde::{Deserialize, Serialize};

use crate::scenario::{FIRMWARE_FILES, Matrix};

/// Where the kernel shows the firmware's tables.
const FIRMWARE: &str = "sys/class/dmi/id";
/// A line of it has the flags of x86 processors.
const CPU: &str = "proc/cpuinfo";
/// The flag that a hypervisor sets, and no bare machine has.
const FLAG: &str = "hypervisor";
/// Xen's name, in its guests.
const XEN: &str = "sys/hypervisor/type";
/// What `lscpu` writes before the hypervisor's name.
const VENDOR: &str = "Hypervisor vendor:";

/// What this machine shows of what runs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// What a file or program said, by its path or name. Empty if no hypervisor is below.
    shows: BTreeMap<String, String>,
    /// The firmware's part of it, by the names of files.
    firmware: BTreeMap<String, String>,
    /// The hypervisor's name by its signature.
    hypervisor: Option<String>,
}

/// What this machine is a guest of. It is what the machine shows; the harness can't verify it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestOf {
    /// Which level of the cell this machine is: L1 if its hypervisor is the cell's L0, and L0 if its hypervisor is below that.
    pub level: LevelNumber,
    /// The id of the system in systems.toml; absent if none shows this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// The name of the system, or of the hypervisor.
    pub name: String,
    /// What else shows the same, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_also_by: Option<String>,
    /// The evidence: what each file or program said, by its path or name.
    pub shows: BTreeMap<String, String>,
}

impl Surroundings {
    /// What this machine shows.
    pub fn of_this_machine() -> Self {
        let asked = Command::new("lscpu").env("LC_ALL", "C").output();
        // A machine without lscpu has only its firmware to show.
        let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        Self::read(Path::new("/"), &said.unwrap_or_default())
    }

    /// What the machine shows whose files are in `root`, and whose `lscpu` said this.
    fn read(root: &Path, lscpu: &str) -> Self {
        let text = |path: &str| {
            let text = fs::read_to_string(root.join(path)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let vendor = lscpu.lines().find_map(|line| Some(line.trim().strip_prefix(VENDOR)?.trim().to_owned()));
        let xen = text(XEN);
        let processors = text(CPU).unwrap_or_default();
        let flags = processors.lines().find_map(|line| line.strip_prefix("flags")?.split_once(':'));
        let is_guest = match flags {
            Some((_, flags)) => flags.split_ascii_whitespace().any(|flag| flag == FLAG),
            // Other processors have no such flag.
            None => vendor.is_some() || xen.is_some(),
        };
        if !is_guest {
            return Self::default();
        }
        let firmware: BTreeMap<String, String> = FIRMWARE_FILES
            .iter()
            .filter_map(|file| Some(((*file).to_owned(), text(&format!("{FIRMWARE}/{file}"))?)))
            .collect();
        let mut shows: BTreeMap<String, String> =
            firmware.iter().map(|(file, value)| (format!("/{FIRMWARE}/{file}"), value.clone())).collect();
        shows.extend(flags.map(|_| (format!("/{CPU}"), FLAG.to_owned())));
        shows.extend(vendor.iter().map(|vendor| ("lscpu".to_owned(), vendor.clone())));
        shows.extend(xen.iter().map(|xen| (format!("/{XEN}"), xen.clone())));
        Self { shows, firmware, hypervisor: vendor.or(xen) }
    }

    /// What a guest of the system with this id shows, for the plan of a machine that is not at hand.
    pub(crate) fn of_guest(system: Option<&str>, matrix: &Matrix) -> Self {
        let system = matrix.systems().iter().find(|known| Some(known.id.as_str()) == system);
        let firmware = system.map(|system| system.guest_shows.clone()).unwrap_or_default();
        Self { shows: firmware.clone(), firmware, hypervisor: None }
    }

    /// Whether a hypervisor runs this machine.
    pub fn is_guest(&self) -> bool {
        !self.shows.is_empty()
    }

    /// What this machine is a guest of, as this level of a cell; nothing if it is a bare machine.
    pub fn guest_of(&self, matrix: &Matrix, level: LevelNumber) -> Option<GuestOf> {
        let shown = matrix.shown_by(&self.firmware);
        let name = shown.map(|system| &system.name).or(self.hypervisor.as_ref());
        let guest_of = GuestOf {
            level,
            system: shown.map(|system| system.id.clone()),
            name: name.cloned().unwrap_or_else(|| "an unknown hypervisor".to_owned()),
            shown_also_by: shown.and_then(|system| system.shown_also_by.clone()),
            shows: self.shows.clone(),
        };
        self.is_guest().then_some(guest_of)
    }
}

impl GuestOf {
    /// The evidence in one line: what said what.
    pub fn evidence(&self) -> String {
        let said = self.shows.iter().map(|(source, said)| format!("{source}: {said}"));
        let said: Vec<String> = said.chain(self.shown_also_by.clone()).collect();
        said.join("; ")
    }
}

#[cfg(test)]
mod tests;
