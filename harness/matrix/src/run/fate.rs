//! What happens to a cell: on which metal it boots, or why neither metal can run it.

use nestmatrix_images::Catalog;
use nestmatrix_model::architecture::{ArchInfo, BareMachine};
use nestmatrix_model::{
    Architecture, BootKind, Clock, CpuMode, CpuRequirement, Device, Hardware, LevelNumber, OwnAction,
    StepAction, TpmDevice, Viommu,
};
use nestmatrix_stack::Metal;

use super::emulator_errata::barred;
use super::machine_change::{MachineChange, has_network, machine_change, sets_nesting};
use super::outermost::{NoEmulator, emulator_source, outermost_program};
use super::requirement::kind_of_guest;
use super::{Fate, MetalChoice, NativeMetal, PlanOptions, PlannedLevel};
use crate::records::SkipReason;
use crate::scenario::{Cell, Matrix, Supply, why_no_stack};

/// Decides what happens to each cell, all with the same images and options.
pub(super) struct Planner<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) catalog: &'a Catalog,
    pub(super) supply: Supply,
    pub(super) options: &'a PlanOptions,
}

impl Planner<'_> {
    /// What happens to a cell, if this machine offers this native metal, or none for this reason.
    pub(super) fn fate(&self, cell: &Cell, native: &Result<&NativeMetal, String>) -> Fate {
        if let Some(why) = cell.no_machine.clone().or_else(|| why_no_stack(cell.architecture, &cell.levels)) {
            let missing = self.levels(cell, None).err().unwrap_or_default();
            // A medium would not help.
            let missing = if cell.windows().is_some() { Vec::new() } else { missing };
            return Fate::Skipped(missing.into_iter().chain([SkipReason::NoMachine { why }]).collect());
        }
        let on_native = |native: &NativeMetal| self.on_native(cell, native);
        let on_emulated = || match (self.against_emulated(cell), self.levels(cell, None)) {
            (None, levels) => levels,
            (Some(reason), Ok(_)) => Err(vec![reason]),
            (Some(reason), Err(missing)) => Err(missing.into_iter().chain([reason]).collect()),
        };
        let (metal, levels) = match (self.options.metal, native) {
            (MetalChoice::Native, Err(why)) => return Fate::Skipped(vec![on_native_metal(why.clone())]),
            (MetalChoice::Native, Ok(native)) => (Metal::Native, on_native(native)),
            (MetalChoice::Auto, Ok(native)) => match on_native(native) {
                // Emulated metal can't run it either, and what is missing here is what the user can add.
                Err(missing) if cell.windows().is_some() || cell.l0_around().is_some() => {
                    (Metal::Native, Err(missing))
                }
                // If this machine's system can't be the cell's L0, emulated metal may still run the cell.
                Err(_) => (Metal::Emulated, on_emulated()),
                levels => (Metal::Native, levels),
            },
            (MetalChoice::Auto, Err(_)) | (MetalChoice::Emulated, _) => (Metal::Emulated, on_emulated()),
        };
        match levels {
            Ok(levels) => Fate::Boots { metal, levels },
            Err(reasons) => Fate::Skipped(reasons),
        }
    }
}

impl Planner<'_> {
    /// The levels of a cell on this native metal.
    fn on_native(&self, cell: &Cell, native: &NativeMetal) -> Result<Vec<PlannedLevel>, Vec<SkipReason>> {
        let suppose = self.options.suppose_images;
        let elsewhere = cell.l0_around().and_then(|l0| native.is_no_guest_of(l0, self.matrix));
        if let Some(why) = elsewhere.filter(|_| !suppose) {
            return Err(vec![on_native_metal(why)]);
        }
        let level = cell.this_machine();
        let replaced = MachineChange {
            what: "L0 has another kernel or QEMU".to_owned(),
            machine: level,
            is_restorable: false,
        };
        let change = machine_change(cell).or(self.options.replaces_l0.then_some(replaced));
        let is_disposable = self.options.disposable_host;
        if let Some(change) = change.filter(|change| !(is_disposable && change.is_restorable)) {
            return Err(vec![on_native_metal(change.to_string())]);
        }
        match native.lacks_nesting(cell.innermost(), level).filter(|_| !sets_nesting(cell)) {
            Some(why) => Err(vec![on_native_metal(why)]),
            None => self.levels(cell, Some(native)),
        }
    }

    /// Why a cell can't boot on emulated metal, whatever images there are, if so.
    fn against_emulated(&self, cell: &Cell) -> Option<SkipReason> {
        let suppose = self.options.suppose_images;
        barred(cell).or_else(|| no_emulator(cell, self.catalog).filter(|_| !suppose))
    }
}

/// Why the emulator of a cell is not available, if its image can't be built here. That there is no recipe for it is an error of the
/// whole run.
pub(super) fn no_emulator(cell: &Cell, catalog: &Catalog) -> Option<SkipReason> {
    let program = outermost_program(cell, Metal::Emulated);
    let why = emulator_source(catalog, program).err()?;
    let is_for_a_skip = matches!(why, NoEmulator::Unbuildable { .. });
    is_for_a_skip.then(|| SkipReason::NoEmulator { program: program.to_owned(), why: why.to_string() })
}

fn on_native_metal(why: String) -> SkipReason {
    SkipReason::NativeMetal { why }
}

/// What a cell requires of emulated metal that the emulator of its architecture can't do, if anything.
pub(super) fn beyond_metal(cell: &Cell) -> Option<String> {
    let ArchInfo { metal, qemu, missing_in_tcg, metal_processors, .. } = ArchInfo::of(cell.architecture);
    if cell.windows().is_some() {
        let why = "on emulated metal, Windows would take hours to start, which was never tried";
        return Some(format!("needs native metal: {why}"));
    }
    if let Some(around) = cell.l0_around() {
        return Some(format!("needs {}", kind_of_guest(&around.name)));
    }
    if let Some(why) = without_device(cell) {
        return Some(why);
    }
    let l0 = cell.levels.first()?;
    if cell.emulator_is_l0() && has_network(cell, LevelNumber::ALL[1]) {
        return Some("needs an L0 that can mount a file system, for the record of L1's network".to_owned());
    }
    if cell.emulator_is_l0() && !cell.innermost().reports() {
        return Some(format!("needs a guest: {} alone boots nothing", l0.system));
    }
    if cell.emulator_is_l0() && cell.innermost() == LevelNumber::ALL[1] {
        let why =
            format!("{} gives L1 the CPU of a bare machine, so L1 can't name its hypervisor", l0.system);
        return Some(format!("needs a guest in L1: {why}"));
    }
    if cell.emulator_is_l0() {
        let lacking = missing_in_tcg.filter(|_| !cell.expects_no_extension());
        return lacking.map(|what| format!("needs {what}: {} has none", l0.system));
    }
    if matches!(metal, BareMachine::Bochs(_)) && cell.clock == Clock::Real {
        // Bochs counts instructions, and an idle guest's clock runs ahead (docs/architecture.md).
        return Some("needs clocks that keep time: those of the emulated machine do not".to_owned());
    }
    if matches!(metal, BareMachine::Qemu(_)) {
        let CpuMode::Custom { model } = &l0.settings.cpu.mode else { return None };
        let begins = metal_processors.filter(|begins| !model.starts_with(begins))?;
        return Some(format!("needs a real machine with {model}: the emulated one has a {begins}"));
    }
    let why = if let (Some(why), true) = (metal.no_guests(), cell.innermost().reports()) {
        format!("no guest runs there: {why}")
    } else if cell.steps.iter().any(|step| step.action == StepAction::Own { action: OwnAction::Reboot })
        || cell.steps.iter().any(|step| step.on.below().is_none() && step.is_lifecycle())
    {
        "it can't be reset or paused from outside".to_owned()
    } else if l0.disk
        || l0.settings.machine_type.is_some()
        || !l0.settings.machine.is_empty()
        || l0.settings.cpu != CpuRequirement::default()
        || l0.firmware.is_some()
    {
        "its machine and processor can't be chosen by QEMU's names".to_owned()
    } else if let Some(spec) =
        cell.levels.iter().find(|spec| spec.boots.is_some_and(|kind| kind != BootKind::Kernel))
    {
        return Some(format!(
            "{} needs a disk: the emulated machine is played by {}, which gets none",
            spec.level,
            metal.program(qemu)
        ));
    } else if l0.settings.hardware != Hardware::default() {
        "it has one CPU and none of the devices that a scenario can add".to_owned()
    } else {
        return None;
    };
    let program = metal.program(qemu);
    Some(format!(
        "needs a real {} machine: the emulated one is played by {program}, and {why}",
        cell.architecture
    ))
}

/// The device that a cell asks for and that QEMU has for no machine of its architecture, if any.
pub(super) fn without_device(cell: &Cell) -> Option<String> {
    without_viommu(cell).or_else(|| without_tpm(cell)).or_else(|| without_plugging(cell))
}

/// Why a cell whose scenario asks for a TPM has none, if so. An emulator that is not QEMU has other reasons.
fn without_tpm(cell: &Cell) -> Option<String> {
    let level = cell.levels.iter().find(|spec| spec.settings.hardware.tpm.is_some())?.level;
    no_tpm(cell.architecture, level, Metal::Emulated)
}

/// Why a level that needs a TPM has none, if so.
pub(super) fn no_tpm(architecture: Architecture, level: LevelNumber, metal: Metal) -> Option<String> {
    let profile = ArchInfo::of(architecture);
    let is_metal = level.below().is_none() && metal == Metal::Emulated;
    let why = match (profile.tpm, profile.metal_without_tpm) {
        (TpmDevice::Missing(why), _) => why,
        (TpmDevice::Device { .. }, Some(why)) if is_metal => why,
        (TpmDevice::Device { .. }, _) => return None,
    };
    Some(format!("needs a TPM in {level}: QEMU has none for {}, since {why}", profile.name))
}

/// What a cell plugs into a level that runs, and that QEMU can't plug into a machine of its architecture, if anything.
fn without_plugging(cell: &Cell) -> Option<String> {
    let profile = ArchInfo::of(cell.architecture);
    cell.steps.iter().find_map(|step| {
        let missing = step.action.actions().iter().find_map(|action| match action {
            OwnAction::HotplugMemory => Some(("memory", profile.no_memory_plugging?)),
            OwnAction::HotplugDisk => Some(("a disk", profile.no_device_plugging?)),
            OwnAction::HotplugNetwork => Some(("a network card", profile.no_device_plugging?)),
            _ => None,
        });
        let (what, why) = missing?;
        Some(format!("plugs {what} into {}, which {} can't: {why}", step.on, profile.name))
    })
}

/// Why a cell with a vIOMMU has none, if so.
fn without_viommu(cell: &Cell) -> Option<String> {
    let profile = ArchInfo::of(cell.architecture);
    let Viommu::Missing(why) = profile.viommu else { return None };
    let level = cell.levels.iter().find(|spec| spec.settings.hardware.devices.contains(&Device::Viommu))?;
    Some(format!("needs a vIOMMU in {}: QEMU has none for {}, since {why}", level.level, profile.name))
}
