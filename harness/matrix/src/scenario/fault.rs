//! Reads a `[[fault]]` of a scenario.

use nestmatrix_model::{Fault, FaultAction, LevelNumber, Stage, StageKind, Step, Word};

use super::expectation::{level_in_stack, stage_in_stack};
use super::input::Table;
use super::problem::ScenarioProblem;

/// Reads one `[[fault]]` of a scenario whose stacks go from L0 to `innermost`, and which has these steps.
pub(super) fn read(table: &Table<'_>, innermost: LevelNumber, steps: &[Step]) -> Option<Fault> {
    let at = table.string("at").and_then(|text| text.parse(|text| stage_in_stack(text, innermost)));
    let action = table.string("do").and_then(|text| text.parse(FaultAction::parse));
    let second = table.optional_boolean("second").unwrap_or(false);
    let level = table.string("level")?;
    let of = level.parse(|text| level_in_stack(text, innermost))?;
    let fault = Fault { at: at?, action: action?, level: of, second };
    if second {
        let has_second = steps.iter().any(|step| step.starts_second(fault.level) && step.after < fault.at);
        let problem = match fault.action {
            FaultAction::KillQemu if has_second => None,
            FaultAction::KillQemu => {
                Some(ScenarioProblem::NoSecondMachine { level: fault.level, at: fault.at })
            }
            action => Some(ScenarioProblem::NotOnSecondMachine { action: action.word() }),
        };
        if let Some(problem) = problem {
            level.report(problem);
            return None;
        }
    }
    if fault.action == FaultAction::StartOnL0 {
        let launch = Stage::Level(innermost, StageKind::Launch);
        if fault.level != innermost || !innermost.is_nested() || fault.at != launch {
            level.report(ScenarioProblem::NoStartOnL0 { level: fault.level, at: fault.at });
            return None;
        }
        return Some(fault);
    }
    let started = Stage::Level(fault.level, StageKind::Boot);
    if fault.at < started {
        level.report(ScenarioProblem::FaultTooEarly { level: fault.level, at: fault.at, started });
        return None;
    }
    Some(fault)
}
