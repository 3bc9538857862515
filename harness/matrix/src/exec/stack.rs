//! The stack in which a command of the user runs.

use nestmatrix_images::Catalog;
use nestmatrix_model::{Architecture, LevelNumber, PROGRAM, Stage, StageKind, Word as _};

use crate::records::in_one_line;
use crate::run::{MetalChoice, NativeMetals, PlanOptions, RunPlan};
use crate::scenario::{Cell, Expectation, Matrix};

/// Why there is no stack for a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoStack {
    /// The level is not in the stack, or hosts nothing.
    #[error("{cell} has no level {level} with KVM and a guest agent; choose {}", list(levels))]
    NoLevel {
        /// The cell.
        cell: String,
        /// The level.
        level: LevelNumber,
        /// The levels that it has.
        levels: Vec<LevelNumber>,
    },
    /// The cell can't boot on emulated metal.
    #[error("{cell} cannot boot here: {why}")]
    NotBootable {
        /// The cell.
        cell: String,
        /// What is missing.
        why: String,
    },
    /// No cell of an architecture boots here.
    #[error("no cell of {} with a level {level} can boot here; `{program} doctor` shows what is missing", architecture.word(), program = PROGRAM)]
    OfArchitecture {
        /// The architecture.
        architecture: Architecture,
        /// The level.
        level: LevelNumber,
    },
}

fn list(levels: &[LevelNumber]) -> String {
    let names: Vec<String> = levels.iter().map(LevelNumber::to_string).collect();
    names.join(" or ")
}

/// The plan of the stack in which `level` runs a command, and the stage after which it does. It is the stack of the cell `named`, or of a
/// cell of the architecture that boots here: of the default profile, one that is expected to work if there is one. The steps and faults
/// of its scenario are left out.
///
/// # Errors
/// Why there is no such stack.
pub fn stack_for(
    level: LevelNumber,
    named: Option<&Cell>,
    architecture: Architecture,
    (matrix, catalog): (&Matrix, &Catalog),
) -> Result<(RunPlan, Stage), NoStack> {
    let planned = |cell: &Cell| {
        let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
        RunPlan::new([without_steps(cell)], matrix, catalog, &NativeMetals::new(), &options)
    };
    let stage = Stage::Level(level, StageKind::Kvm);
    if let Some(cell) = named {
        let levels = hosts(cell);
        if !levels.contains(&level) {
            return Err(NoStack::NoLevel { cell: cell.name.to_string(), level, levels });
        }
        let plan = planned(cell);
        if let Some((_, why)) = plan.skipped().next() {
            return Err(NoStack::NotBootable { cell: cell.name.to_string(), why: in_one_line(why) });
        }
        return Ok((plan, stage));
    }
    let profile = matrix.default_profile();
    let suits = |cell: &&Cell| {
        cell.architecture == architecture && profile.takes(&cell.name) && hosts(cell).contains(&level)
    };
    let mut cells: Vec<&Cell> = matrix.cells().iter().filter(suits).collect();
    // A stable order.
    cells.sort_by_key(|cell| cell.expectation.limitation().is_some());
    let plan = cells.into_iter().map(planned).find(|plan| plan.skipped().next().is_none());
    plan.map(|plan| (plan, stage)).ok_or(NoStack::OfArchitecture { architecture, level })
}

/// The levels with an agent that host others, or could.
fn hosts(cell: &Cell) -> Vec<LevelNumber> {
    let stages = cell.stages();
    let specs = cell.levels.iter().filter(|spec| cell.starts(spec)).map(|spec| spec.level);
    specs.filter(|level| stages.contains(&Stage::Level(*level, StageKind::Kvm))).collect()
}

fn without_steps(cell: &Cell) -> Cell {
    Cell {
        steps: Vec::new(),
        faults: Vec::new(),
        expectation: Expectation::WORKS,
        ids: [].into(),
        known_flaky: Vec::new(),
        ..cell.clone()
    }
}
