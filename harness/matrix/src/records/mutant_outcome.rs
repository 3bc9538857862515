//! The results of a cell's mutants: the words of `mutations.jsonl`.

use std::path::PathBuf;

use nestmatrix_model::Stage;
use serde::{Deserialize, Serialize};

use super::{Original, VerdictWord};
use crate::scenario::CellName;

/// The verdict that a mutant must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A verdict that fails the run: a fail or an xpass that is not known. An error decides nothing.
    NotGreen,
    /// The same, or an error, since the damaged part is not the part under test.
    FailOrError,
    /// The same, or an error because evidence is missing. Any other error has not shown this damage.
    FailOrMissingEvidence,
    /// An error, because QEMU rejected its command line. Any other verdict would say something about the document.
    Rejected,
}

impl Rule {
    /// The required verdict, for people: `not green`.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotGreen => "not green",
            Self::FailOrError => "fail or error",
            Self::FailOrMissingEvidence => "fail, or error: evidence missing",
            Self::Rejected => "error: command line rejected",
        }
    }
}

/// Whether a mutant was noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MutantOutcome {
    /// It was not.
    Survived,
    /// Undecidable: the harness or its machine failed, or the mutant can't be booted here.
    Undecided,
    /// It was not, and the scenario says why it may survive.
    Accepted,
    /// A check: not all mutants were booted, and those that were did not show that it can fail.
    NotTried,
    /// It was.
    Killed,
}

impl MutantOutcome {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Survived => "survived",
            Self::Undecided => "undecided",
            Self::Accepted => "accepted",
            Self::NotTried => "not tried",
            Self::Killed => "killed",
        }
    }
}

/// A mutation of a cell and its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MutantResult {
    /// The mutation's name.
    pub mutation: String,
    /// What is damaged, for people.
    pub damage: String,
    /// The verdict that it must get; absent for a step that only checks, which must stop a mutant.
    pub rule: Option<Rule>,
    /// Whether it was noticed.
    pub outcome: MutantOutcome,
    /// Why it may survive, if the scenario says so.
    pub accepted: Option<String>,
    /// The mutant's verdict; absent for a step that only checks.
    pub verdict: Option<VerdictWord>,
    /// Where it stopped.
    pub stage: Option<Stage>,
    /// What was seen there; for a step that only checks, what it stopped.
    pub symptom: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// The folder of its records, in that of the run.
    pub records: Option<PathBuf>,
}

/// A cell and the results of its mutants: a line of [`super::MUTATIONS`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellMutation {
    /// The cell.
    pub cell: CellName,
    /// Its result without damage.
    pub original: Original,
    /// The results of its mutants, survivors first. Empty if the cell is not green itself.
    pub results: Vec<MutantResult>,
    /// Acceptances of its scenario that match no mutation.
    pub unused: Vec<String>,
    /// Whether all of its mutants have a verdict: otherwise a sample was booted, or the run was interrupted.
    pub complete: bool,
}

impl CellMutation {
    /// How many there are with this outcome.
    pub fn count(&self, outcome: MutantOutcome) -> usize {
        self.results.iter().filter(|result| result.outcome == outcome).count()
    }
}

/// How many mutants had which outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MutationTally {
    /// Cells whose mutants were made.
    pub cells: usize,
    /// Cells that are not green themselves, so that no mutant was made.
    pub not_green: usize,
    /// Cells with mutants that have no verdict.
    pub incomplete: usize,
    /// Mutants that were noticed.
    pub killed: usize,
    /// Mutants that were not.
    pub survived: usize,
    /// Mutants that were not, and may.
    pub accepted: usize,
    /// Mutants whose verdict decides nothing.
    pub undecided: usize,
    /// Checks for which too few mutants were booted.
    pub not_tried: usize,
}

impl MutationTally {
    /// Counts the mutants of these cells.
    pub fn of<'a>(cells: impl IntoIterator<Item = &'a CellMutation>) -> Self {
        let mut tally = Self::default();
        for cell in cells {
            *if cell.original.green { &mut tally.cells } else { &mut tally.not_green } += 1;
            tally.incomplete += usize::from(!cell.complete);
            tally.killed += cell.count(MutantOutcome::Killed);
            tally.survived += cell.count(MutantOutcome::Survived);
            tally.accepted += cell.count(MutantOutcome::Accepted);
            tally.undecided += cell.count(MutantOutcome::Undecided);
            tally.not_tried += cell.count(MutantOutcome::NotTried);
        }
        tally
    }

    /// How many mutants there were, with the checks.
    pub fn mutants(&self) -> usize {
        self.killed + self.survived + self.accepted + self.undecided + self.not_tried
    }

    /// The exit code: 1 for a survivor that is not accepted, 3 if something is undecided, 4 if there was no mutant. A survivor
    /// takes precedence, because it is certain.
    pub fn exit_code(&self) -> u8 {
        if self.survived > 0 {
            1
        } else if self.undecided > 0 || self.not_green > 0 {
            3
        } else if self.mutants() == 0 {
            4
        } else {
            0
        }
    }
}
