//! The result of a cell without damage, which its mutants are compared with.

use nestmatrix_model::Stage;
use nestmatrix_stack::Symptom;
use serde::{Deserialize, Serialize};

use super::{CellRecord, Known, Tally, VerdictWord};
use crate::scenario::{Cell, Expectation, StopStage};

/// The result of a cell without damage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Original {
    /// Its verdict.
    pub verdict: VerdictWord,
    /// The stage at which its stack stopped, if it did.
    pub stage: Option<Stage>,
    /// What was seen there.
    #[serde(skip)]
    pub symptom: Option<Symptom>,
    /// Whether a run in which all cells have this result succeeds. The mutants of a cell that is red itself would show nothing.
    pub green: bool,
}

impl From<&CellRecord> for Original {
    fn from(record: &CellRecord) -> Self {
        Self {
            verdict: record.verdict,
            stage: record.stage,
            symptom: record.symptom_data.clone(),
            green: is_green(record),
        }
    }
}

impl Original {
    /// Why no mutants are made of a cell with this record, although it is not red.
    pub fn why_no_mutants(record: &CellRecord) -> Option<&'static str> {
        let is_flaky = record.known() == Some(Known::Flaky);
        is_flaky.then_some("it is known to be flaky, so nothing follows from the results of its mutants")
    }

    /// The result of a cell if its scenario is right, to list its mutants before anything was booted.
    pub fn as_expected(cell: &Cell) -> Self {
        let stage_of = |stop: StopStage| match stop {
            StopStage::At(stage) | StopStage::From(stage) => stage,
        };
        let (verdict, stage) = match &cell.expectation {
            Expectation::Works { known_wrong: None } | Expectation::MayStop(_) => (VerdictWord::Pass, None),
            Expectation::Works { known_wrong: Some(known) } => {
                (VerdictWord::Fail, Some(stage_of(known.limitation.stop)))
            }
            Expectation::Stops { known_stale: Some(_), .. } => (VerdictWord::Xpass, None),
            Expectation::Stops { limitation, .. } => (VerdictWord::Xfail, Some(stage_of(limitation.stop))),
        };
        Self { verdict, stage, symptom: None, green: true }
    }
}

/// Whether a run of this cell alone succeeds.
pub(crate) fn is_green(record: &CellRecord) -> bool {
    let mut tally = Tally::default();
    tally.add(record);
    tally.exit_code() == 0
}
