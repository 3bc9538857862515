//! Systems that can only be the L0 around this machine: clouds and products of which this machine may be a guest.

use std::collections::BTreeMap;

use nestmatrix_model::{Fault, FaultAction, Launch, LevelNumber, Step, UnknownWord};

use super::axes::Axes;
use super::input::{Table, Text};
use super::matrix::Matrix;
use super::problem::ScenarioProblem;
use super::system::System;

/// The files of /sys/class/dmi/id that say what made a machine. Every user can read them.
pub(crate) const FIRMWARE_FILES: [&str; 9] = [
    "sys_vendor",
    "product_name",
    "product_version",
    "product_family",
    "chassis_vendor",
    "chassis_asset_tag",
    "bios_vendor",
    "bios_version",
    "board_vendor",
];

impl Matrix {
    /// The system whose virtual machine shows this, by the names of the files. If several do, it is the first: Azure's
    /// also show what those of another Hyper-V do.
    pub fn shown_by(&self, firmware: &BTreeMap<String, String>) -> Option<&System> {
        let is_shown = |system: &&System| {
            let mut wanted = system.guest_shows.iter();
            !system.guest_shows.is_empty() && wanted.all(|(file, value)| firmware.get(file) == Some(value))
        };
        self.systems().iter().find(is_shown)
    }
}

impl Axes {
    /// What a scenario with these steps and faults asks of an L0 that is around this machine. Nothing runs there.
    pub(super) fn against_surroundings(&self, steps: &[Step], faults: &[Fault]) -> Vec<ScenarioProblem> {
        let l0 = self.levels.first();
        let Some(around) = l0.and_then(|l0| l0.systems.iter().find(|value| value.value.around)) else {
            return Vec::new();
        };
        let is_l0 = |level: LevelNumber| level.below().is_none();
        let in_l0 = |step: &&Step| is_l0(step.on) || step.measured_levels().any(is_l0);
        let steps = steps.iter().filter(in_l0).map(|step| format!("the step `{}`", step.name));
        let moved = faults.iter().filter(|fault| fault.action == FaultAction::StartOnL0);
        let moved = moved.map(|fault| format!("the start of {}", fault.level));
        let by_libvirt = self.levels.get(1).filter(|l1| l1.settings.launch() == Launch::Libvirt);
        let by_libvirt = by_libvirt.map(|_| "libvirt, which is to launch L1,".to_owned());
        let system = &around.value.system;
        let problem = |what| ScenarioProblem::NothingAround { what, system: system.clone() };
        steps.chain(moved).chain(by_libvirt).map(problem).collect()
    }
}

/// The names of files of the firmware, and what stands in them.
pub(super) fn read_guest_shows(table: &Table<'_>) -> BTreeMap<String, String> {
    let shown = table.optional_string_map("guest-shows").unwrap_or_default();
    if !shown.is_empty() {
        for key in
            ["hypervisor", "family", "no-machine", "rebuild-of"].into_iter().filter(|key| table.has(key))
        {
            table.report(ScenarioProblem::SurroundingsAndKey { key });
        }
    }
    let pair = |(file, value): (Text<'_>, Text<'_>)| {
        Some((file.parse(firmware_file)?.to_owned(), value.as_str().to_owned()))
    };
    shown.into_iter().filter_map(pair).collect()
}

/// The name of a file that this program reads.
fn firmware_file(name: &str) -> Result<&'static str, UnknownWord> {
    FIRMWARE_FILES.iter().copied().find(|file| *file == name).ok_or_else(|| UnknownWord {
        what: "file of /sys/class/dmi/id",
        given: name.to_owned(),
        known: FIRMWARE_FILES.iter().map(|file| (*file).to_owned()).collect(),
    })
}
