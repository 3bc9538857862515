//! The stages of a cell as parts of its result, for formats whose results have parts.

use nestmatrix_model::Stage;
use nestmatrix_stack::{Case, StageTime, StepRecord};

use crate::records::{CellRecord, VerdictWord};

/// A stage of a cell.
pub(super) struct Part<'r> {
    /// The stage, and the name of the step if it is one. A scenario can have any text in it.
    pub(super) name: String,
    /// When it was, unless the stack stopped before it began.
    pub(super) time: Option<&'r StageTime>,
    /// Whether the stack stopped there. Then the cell's verdict is about it; otherwise it passed.
    pub(super) is_stop: bool,
    /// The cases of the suite that it ran, if it is a step that ran one.
    pub(super) cases: &'r [Case],
}

/// The stages that a cell went through, in order, up to the one at which it stopped.
pub(super) fn parts(record: &CellRecord) -> Vec<Part<'_>> {
    let stop = record.stage.filter(|_| record.verdict != VerdictWord::Skip);
    let part = |stage: Stage, time| Part {
        name: name(record, stage),
        time,
        is_stop: stop == Some(stage),
        cases: cases(record, stage),
    };
    let mut parts: Vec<Part<'_>> = record.stages.iter().map(|time| part(time.stage, Some(time))).collect();
    if let Some(stop) = stop.filter(|_| parts.iter().all(|part| !part.is_stop)) {
        parts.push(part(stop, None));
    }
    parts
}

fn name(record: &CellRecord, stage: Stage) -> String {
    let step = step(record, stage);
    step.map_or_else(|| stage.to_string(), |step| format!("{stage}: {}", step.name))
}

fn cases(record: &CellRecord, stage: Stage) -> &[Case] {
    let suite = step(record, stage).and_then(|step| step.suite.as_ref());
    suite.map_or(&[], |suite| &suite.cases)
}

/// The step of this stage, if it is one that was recorded.
fn step(record: &CellRecord, stage: Stage) -> Option<&StepRecord> {
    let Stage::Step(number) = stage else { return None };
    record.steps.get(usize::from(number).checked_sub(1)?)
}
