//! What a cell changes in the level that this machine is on native metal. The machine is changed only if it is a disposable host, and
//! only by what can be restored.

use std::fmt;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{CpuRequirement, Hardware, LevelNumber, OwnAction, Step, StepAction};

use crate::disposable_host::kvm_parameter;
use crate::scenario::{Cell, LevelSpec, step_only_reads};

/// A change of the level that this machine is, or of one around it. Without it, the verdict would be about something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MachineChange {
    /// What the cell does: `it reboots L0`.
    pub(crate) what: String,
    /// The level that this machine is.
    pub(crate) machine: LevelNumber,
    /// Whether it is restored after the cell, so that a disposable host may be changed in this way.
    pub(crate) is_restorable: bool,
}

impl fmt::Display for MachineChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, machine, is_restorable } = self;
        write!(f, "{what}, and on native metal this machine is {machine}")?;
        if *is_restorable {
            f.write_str(": needs a disposable host (--disposable-host)")?;
        }
        Ok(())
    }
}

/// What a cell changes in the level that this machine is, if anything.
pub(crate) fn machine_change(cell: &Cell) -> Option<MachineChange> {
    let machine = cell.this_machine();
    let never = |what| MachineChange { what, machine, is_restorable: false };
    if cell.innermost() <= machine {
        return Some(never(format!("{machine} is alone")));
    }
    let mut outer = cell.levels.iter().filter(|spec| spec.level <= machine);
    let what = outer.find_map(|spec| beyond_restoration(cell, spec, machine));
    what.map(never)
        .or_else(|| restorable(cell).map(|what| MachineChange { what, machine, is_restorable: true }))
}

/// What a cell changes in a level that can't be restored, if anything.
fn beyond_restoration(cell: &Cell, spec: &LevelSpec, machine: LevelNumber) -> Option<String> {
    let level = spec.level;
    let inside = level.next();
    let guest = inside.map_or_else(String::new, |inside| inside.to_string());
    // A disposable host is an L0.
    let may_be_restored = machine.below().is_none();
    let steps = || steps_that_change(cell, level);
    if cell.needs_libvirt(level) {
        Some(format!("libvirt of {level} launches {guest}"))
    } else if let Some(what) = steps().find_map(beyond_commands).filter(|_| may_be_restored) {
        Some(what)
    } else if !may_be_restored && steps().next().is_some() {
        Some(format!("it has steps in {level} that may change it"))
    } else if !spec
        .settings
        .kernel_parameters
        .iter()
        .all(|word| may_be_restored && kvm_parameter(word).is_some())
    {
        Some(format!("it sets kernel parameters of {level}"))
    } else if spec.settings.cpu != CpuRequirement::default() {
        Some(format!("it sets the CPU of {level}"))
    } else if spec.settings.machine_type.is_some() || !spec.settings.machine.is_empty() {
        Some(format!("it sets up the machine of {level}"))
    } else if spec.settings.hardware != Hardware::default() {
        Some(format!("it sets the hardware of {level}"))
    } else if inside.is_some_and(|inside| has_network(cell, inside)) {
        Some(format!("it mounts a file system in {level} for the record of {guest}'s network"))
    } else if spec.disk && !may_be_restored {
        Some(format!("it gives {level} a disk"))
    } else if spec.boots.is_some() || spec.firmware.is_some() {
        Some(format!("it sets how {level} boots"))
    } else if spec.settings.kdump.is_some() {
        Some(format!("it gives {level} a crash kernel"))
    } else if level.below().is_some() && cell.faults.iter().any(|fault| fault.level == level) {
        Some(format!("it injects a fault into {level}"))
    } else {
        None
    }
}

/// What a cell changes in its L0 that is restored afterwards, if anything.
fn restorable(cell: &Cell) -> Option<String> {
    let outermost = LevelNumber::ALL[0];
    let spec = cell.levels.iter().find(|spec| spec.level == outermost)?;
    let reboots = |step: &Step| step.action == StepAction::Own { action: OwnAction::Reboot };
    let what = if !spec.settings.kernel_parameters.is_empty() {
        "it sets parameters of L0's KVM"
    } else if steps_that_change(cell, outermost).any(reboots) {
        "it reboots L0"
    } else if steps_that_change(cell, outermost).next().is_some() {
        "it has steps in L0 that may change it"
    } else if spec.disk {
        // This machine's own disk keeps its files.
        "it gives L0 a disk"
    } else {
        return None;
    };
    Some(what.to_owned())
}

/// The steps in a level that do more than to read.
fn steps_that_change(cell: &Cell, level: LevelNumber) -> impl Iterator<Item = &Step> {
    cell.steps.iter().filter(move |step| step.on == level && !step_only_reads(step))
}

/// What a step does that is more than to run commands, if so.
fn beyond_commands(step: &Step) -> Option<String> {
    let level = step.on;
    match &step.action {
        StepAction::Run(_) | StepAction::Measure(_) | StepAction::Own { action: OwnAction::Measure } => None,
        StepAction::Own { action: OwnAction::Reboot } if step.repeat == 1 => None,
        StepAction::Own { action: OwnAction::Reboot } => {
            Some(format!("a step reboots {level} several times"))
        }
        StepAction::Own { .. } | StepAction::Chain { .. } => Some(format!("it pauses or resets {level}")),
        StepAction::Suite(_) | StepAction::Payload(_) => Some(format!("it brings programs into {level}")),
    }
}

/// Whether a cell sets itself whether L0's KVM nests.
pub(super) fn sets_nesting(cell: &Cell) -> bool {
    let own = ArchInfo::of(cell.architecture).kvm_module;
    let parameters = cell.levels.first().map(|l0| &l0.settings.kernel_parameters);
    parameters
        .into_iter()
        .flatten()
        .filter_map(|word| kvm_parameter(word))
        .any(|(module, parameter)| module == own && parameter.split('=').next() == Some("nested"))
}

/// Whether a level has a network.
pub(super) fn has_network(cell: &Cell, level: LevelNumber) -> bool {
    cell.levels.iter().any(|spec| spec.level == level && spec.settings.hardware.network.is_some())
}
