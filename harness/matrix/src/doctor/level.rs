//! A booted level as the host that is examined: a cell's stack is booted up to it on emulated metal, and asked by a step of
//! its own.

use std::rc::Rc;

use nestmatrix_images::Catalog;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Command, LevelNumber, Stage, StageKind, Step, StepAction};
use nestmatrix_stack::Cancellation;

use super::checkup::{ArchitectureCheckup, Checkup, FORMAT, HostSeen};
use super::finding::Place;
use super::probe::{Probe, script};
use crate::records::in_one_line;
use crate::run::{MetalChoice, NativeMetals, PlanOptions, RunError, RunListener, RunPlan, Setting, execute};
use crate::scenario::{Cell, Expectation, Matrix};

/// Name of the step that asks.
const ASKS: &str = "doctor";
/// The last thing that the script prints.
const LAST_KEY: &str = "\napt=";

/// Why a level could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// The cell has no such level, or its innermost one, which hosts nothing.
    #[error("{cell} has no {level} that hosts another level")]
    NoSuchLevel {
        /// The cell.
        cell: String,
        /// The level.
        level: LevelNumber,
    },
    /// The cell can't be booted here.
    #[error("{cell} can't be booted on emulated metal: {why}")]
    NotBootable {
        /// The cell.
        cell: String,
        /// What is missing.
        why: String,
    },
    /// The stack did not come up to the level, or the level did not answer.
    #[error("{level} of {cell} was not asked: {why}")]
    NotAsked {
        /// The cell.
        cell: String,
        /// The level.
        level: LevelNumber,
        /// What was seen.
        why: String,
    },
    /// The run could not be carried out.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Boots `cell` on emulated metal as far as `level`, asks that level what it is, and ends the stack. The scenario's own steps
/// and faults are left out. Must be called as [`execute`] must.
///
/// # Errors
/// The level could not be asked.
pub async fn check_level(
    cell: &Cell,
    level: LevelNumber,
    (matrix, catalog): (&Matrix, &Catalog),
    setting: Setting,
    listener: Rc<dyn RunListener>,
    cancellation: Cancellation,
) -> Result<Checkup, LevelError> {
    let name = cell.name.to_string();
    let innermost = cell.innermost();
    let has_it = cell.levels.iter().any(|spec| spec.level == level && !spec.system.is_emulator());
    if !has_it || (level == innermost && innermost.reports()) {
        return Err(LevelError::NoSuchLevel { cell: name, level });
    }
    let probed = asked(cell, level);
    let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
    let plan = RunPlan::new([probed], matrix, catalog, &NativeMetals::new(), &options);
    if let Some((_, reasons)) = plan.skipped().next() {
        return Err(LevelError::NotBootable { cell: name, why: in_one_line(reasons) });
    }
    let outcome = execute(&plan, setting, listener, cancellation).await?;
    let not_asked = |why: String| LevelError::NotAsked { cell: name.clone(), level, why };
    let record = outcome.records.first().ok_or_else(|| not_asked("it was interrupted".to_owned()))?;
    let answer = record.steps.iter().find(|step| step.name == ASKS);
    let Some(answer) = answer else {
        let stage = record.stage.map_or_else(String::new, |stage| format!("{stage}: "));
        let symptom = record.symptom.clone().unwrap_or_default();
        return Err(not_asked(format!("{stage}{symptom}")));
    };
    if !answer.output.contains(LAST_KEY) {
        return Err(not_asked(format!("its answer is not complete: {:?}", answer.output)));
    }
    let probe = Probe::parse(&answer.output);
    let place = Place::Level { level, innermost };
    let checked = ArchitectureCheckup::of_level(cell.architecture, &probe, place);
    let why: Vec<String> = if checked.native.usable { Vec::new() } else { checked.native.why.clone() };
    Ok(Checkup {
        format: FORMAT,
        host: HostSeen { level: Some(level), cell: Some(cell.name.clone()), ..HostSeen::of(&probe) },
        metal: MetalChoice::Emulated,
        architectures: vec![checked],
        families: Vec::new(),
        selected: None,
        usable: why.is_empty(),
        why,
    })
}

/// The cell with two steps in the place of its own: one asks the level as soon as it is up, also where its KVM is not, and
/// one stops the stack there, since nobody needs the levels inside.
fn asked(cell: &Cell, level: LevelNumber) -> Cell {
    let step = |name: &str, run: String| Step {
        timeout: None,
        name: name.to_owned(),
        after: Stage::Level(level, StageKind::Boot),
        on: level,
        reads: false,
        action: StepAction::Run(Command { run, fails: false, status: None, output: None }),
    };
    let asks = step(ASKS, script(ArchInfo::of(cell.architecture), &[]));
    let ends = step("nothing further in is booted", "false".to_owned());
    Cell {
        steps: vec![asks, ends],
        faults: Vec::new(),
        expectation: Expectation::WORKS,
        known_flaky: Vec::new(),
        ..cell.clone()
    }
}
