//! Whether a stack stopped as its scenario describes: at the named stage, with the named kind of symptom and text.

use nestmatrix_model::{Stage, SymptomKind};
use nestmatrix_stack::{StageTime, Stop};

use crate::scenario::{Limitation, StopStage};

/// Whether a stack that went through `stages` stopped as the document says.
fn shows_itself(limitation: &Limitation, stop: &Stop, stages: &[StageTime]) -> bool {
    let there = match limitation.stop {
        StopStage::At(stage) => stop.stage == stage,
        StopStage::From(first) => is_at_or_after(first, stop.stage, stages),
    };
    let said = stop.symptom.said().unwrap_or_default();
    let of_kind = limitation.kind.is_none_or(|kind| stop.symptom.kind() == kind);
    there && of_kind && limitation.symptom.as_ref().is_none_or(|texts| texts.found_in(&said).is_some())
}

/// How a stop compares with a described one.
pub(super) enum Likeness {
    /// It is the described one.
    Same,
    /// It is another one.
    Another,
    /// Undecidable: the stack was too slow here, or nothing was tested.
    Undecided,
}

/// Compares the stop of a stack that went through `stages` with a described one. A timeout does not show that a stack does not
/// work, and a QEMU that rejects its command line has tested nothing. They match only a description of exactly that.
pub(super) fn compare(limitation: &Limitation, stop: &Stop, stages: &[StageTime]) -> Likeness {
    let same = shows_itself(limitation, stop, stages);
    let kind = stop.symptom.kind();
    let is_named = match kind {
        SymptomKind::Timeout => limitation.kind == Some(kind),
        SymptomKind::CommandLineRejected => limitation.kind == Some(kind) || limitation.symptom.is_some(),
        _ => true,
    };
    match (same, is_named) {
        (true, true) => Likeness::Same,
        (false, _) if !matches!(kind, SymptomKind::Timeout | SymptomKind::CommandLineRejected) => {
            Likeness::Another
        }
        _ => Likeness::Undecided,
    }
}

/// Whether a stack that went through `stages` reached `first` before it stopped at `last`, or stopped at `first` itself. For a step,
/// only `stages` shows that. A stage of a level counts as reached if a later one was: on native metal a stack begins at `l0-kvm`.
fn is_at_or_after(first: Stage, last: Stage, stages: &[StageTime]) -> bool {
    let of_levels = |stage: Stage| !matches!(stage, Stage::Step(_));
    let reaches = |stage: Stage| stage == first || (of_levels(first) && of_levels(stage) && stage > first);
    // A step may already be done when the stage before it turns out to have stopped.
    let end = stages.iter().rposition(|time| time.stage == last).unwrap_or(stages.len());
    stages[..end].iter().any(|time| reaches(time.stage)) || reaches(last)
}
