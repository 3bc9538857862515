//! The checkup of a booted level: boots a cell's stack up to the level on emulated metal, and probes the level with a step.

use std::rc::Rc;

use nestmatrix_images::Catalog;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Command, LevelNumber, Stage, StageKind, Step, StepAction};
use nestmatrix_stack::Cancellation;

use super::checks::Place;
use super::checkup::{ArchitectureCheckup, Checkup, FORMAT, HostSummary};
use super::probe::{Probe, script};
use crate::records::in_one_line;
use crate::run::{MetalChoice, NativeMetals, PlanOptions, RunError, RunListener, RunPlan, Setting, execute};
use crate::scenario::{Cell, Expectation, Matrix};

/// Name of the step that probes the level.
const PROBES: &str = "doctor";
/// The last key that the script prints.
const LAST_KEY: &str = "\napt=";

/// Why a level could not be probed.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// The cell has no such level, or the level is the innermost one.
    #[error("in {cell}, {level} does not host another level")]
    NoSuchLevel {
        /// The cell.
        cell: String,
        /// The level.
        level: LevelNumber,
    },
    /// The cell cannot boot here.
    #[error("{cell} cannot boot on emulated metal: {why}")]
    NotBootable {
        /// The cell.
        cell: String,
        /// What is missing.
        why: String,
    },
    /// The stack did not boot up to the level, or the level did not answer.
    #[error("failed to probe {level} of {cell}: {why}")]
    NotProbed {
        /// The cell.
        cell: String,
        /// The level.
        level: LevelNumber,
        /// Why.
        why: String,
    },
    /// The run failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Boots `cell` on emulated metal up to `level`, probes that level, and ends the stack. The scenario's steps and faults are
/// left out. Has the same requirements as [`execute`].
///
/// # Errors
/// The level could not be probed.
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
    let has_it = cell.levels.iter().any(|spec| spec.level == level && cell.starts(spec));
    if !has_it || (level == innermost && innermost.reports()) {
        return Err(LevelError::NoSuchLevel { cell: name, level });
    }
    let probed = with_probe(cell, level);
    let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
    let plan = RunPlan::new([probed], matrix, catalog, &NativeMetals::new(), &options);
    if let Some((_, reasons)) = plan.skipped().next() {
        return Err(LevelError::NotBootable { cell: name, why: in_one_line(reasons) });
    }
    let outcome = execute(&plan, setting, listener, cancellation).await?;
    let not_probed = |why: String| LevelError::NotProbed { cell: name.clone(), level, why };
    let record = outcome.records.first().ok_or_else(|| not_probed("it was interrupted".to_owned()))?;
    let answer = record.steps.iter().find(|step| step.name == PROBES);
    let Some(answer) = answer else {
        let stage = record.stage.map_or_else(String::new, |stage| format!("{stage}: "));
        let symptom = record.symptom.clone().unwrap_or_default();
        return Err(not_probed(format!("{stage}{symptom}")));
    };
    if !answer.output.contains(LAST_KEY) {
        return Err(not_probed(format!("its answer is incomplete: {:?}", answer.output)));
    }
    let probe = Probe::parse(&answer.output);
    let place = Place::Level { level, innermost };
    let checked = ArchitectureCheckup::of_level(cell.architecture, &probe, place);
    let why: Vec<String> = if checked.native.usable { Vec::new() } else { checked.native.why.clone() };
    Ok(Checkup {
        format: FORMAT,
        host: HostSummary { level: Some(level), cell: Some(cell.name.clone()), ..HostSummary::of(&probe) },
        metal: MetalChoice::Emulated,
        architectures: vec![checked],
        documents: Vec::new(),
        media: Vec::new(),
        not_yet_run: None,
        documented: None,
        selected: None,
        usable: why.is_empty(),
        why,
    })
}

/// The cell with two steps instead of its own. The first probes the level as soon as it is up, even without KVM; the second
/// stops the stack there, because the levels inside are not needed.
fn with_probe(cell: &Cell, level: LevelNumber) -> Cell {
    let step = |name: &str, run: String| Step {
        repeat: 1,
        timeout: None,
        name: name.to_owned(),
        after: Stage::Level(level, StageKind::Boot),
        on: level,
        reads: false,
        action: StepAction::Run(Command { run, fails: false, status: None, output: None }),
    };
    let probes = step(PROBES, script(ArchInfo::of(cell.architecture), &[]));
    let ends = step("stop here", "false".to_owned());
    Cell {
        steps: vec![probes, ends],
        faults: Vec::new(),
        expectation: Expectation::WORKS,
        ids: [].into(),
        known_flaky: Vec::new(),
        ..cell.clone()
    }
}
