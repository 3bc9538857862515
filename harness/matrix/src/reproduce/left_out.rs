//! What the harness does to a stack, but a script does not.

use nestmatrix_model::{Fault, FaultAction, OwnAction, Step, StepAction};

/// What the harness does in these steps and to these stacks, but a script does not.
pub(super) fn left_out(steps: &[Step], faults: &[Fault]) -> Vec<String> {
    let steps = steps.iter().enumerate().filter_map(|(index, step)| {
        let why = not_done(&step.action)?;
        Some(format!("step-{} ({}): {why}", index + 1, step.name))
    });
    let faults = faults.iter().filter_map(|fault| Some((fault.at, not_inflicted(fault)?)));
    steps.chain(faults.map(|(at, what)| format!("{at}: nestmatrix {what}"))).collect()
}

/// What the harness does by a fault, if a script does not.
pub(super) fn not_inflicted(fault: &Fault) -> Option<&'static str> {
    match fault.action {
        FaultAction::KillQemu if fault.second => Some("kills the QEMU of a second machine"),
        FaultAction::KillQemu => None,
        FaultAction::CloseQmp => Some("closes its own connection to a QEMU"),
        FaultAction::StartOnL0 => Some("starts the innermost level in L0"),
    }
}

/// What the harness does in a step, if a script does not.
pub(super) fn not_done(action: &StepAction) -> Option<&'static str> {
    if let StepAction::Suite(_) = action {
        return Some("nestmatrix runs tests of a suite in the level");
    }
    if let StepAction::Payload(_) = action {
        return Some("nestmatrix runs a program of the user in the level");
    }
    if let StepAction::Measure(_) = action {
        return Some("nestmatrix runs a benchmark in several levels");
    }
    let StepAction::Own { action } = action else {
        return (!action.actions().is_empty()).then_some("nestmatrix changes the level in several ways");
    };
    match action {
        OwnAction::BootAnother => Some("nestmatrix boots a second machine"),
        OwnAction::Migrate => Some("nestmatrix migrates the level"),
        OwnAction::MigrateToOther => Some("nestmatrix migrates the level to another version of QEMU"),
        OwnAction::MigrateBack => Some("nestmatrix migrates the level back to the QEMU of its host"),
        OwnAction::Pause => Some("nestmatrix pauses the level"),
        OwnAction::SaveRestore => Some("nestmatrix saves the level and restores it"),
        OwnAction::Reset => Some("nestmatrix resets the level"),
        OwnAction::PowerOff => Some("nestmatrix powers the level off and starts it again"),
        OwnAction::Crash => Some("nestmatrix makes the level's kernel panic and resets the level"),
        OwnAction::HotplugMemory => Some("nestmatrix adds memory to the level"),
        OwnAction::HotplugDisk => Some("nestmatrix adds a disk to the level and removes it"),
        OwnAction::HotplugNetwork => Some("nestmatrix adds a network card to the level and removes it"),
        OwnAction::HotplugCpu => Some("nestmatrix adds a CPU to the level"),
        OwnAction::Measure | OwnAction::Reboot => None,
    }
}
