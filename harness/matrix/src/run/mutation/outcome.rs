//! What came of mutants: whether each was noticed, by the rule of what must come of it.

use std::path::PathBuf;

use nestmatrix_model::{Stage, SymptomKind};
use nestmatrix_stack::Symptom;
use serde::{Deserialize, Serialize};

use super::original::is_green;
use super::{Check, Mutant, Mutants, Mutation, Original};
use crate::run::{CellRecord, VerdictWord};
use crate::scenario::CellName;

/// What must come of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A verdict that fails the run: a fail or an xpass that is not known. An error decides nothing.
    NotGreen,
    /// The same, or an error: what breaks is not what is under test.
    FailOrError,
    /// The same, or an error because evidence is missing: whatever else goes wrong has not shown this damage.
    FailOrMissingEvidence,
    /// An error, because QEMU rejected its command line. Any other verdict would say something of the document.
    Rejected,
}

impl Rule {
    /// What must come of the mutant, for people: `not green`.
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
pub enum Outcome {
    /// It was not.
    Survived,
    /// It can't be said: the harness or its machine failed, or the mutant can't be booted here.
    Undecided,
    /// It was not, and the scenario says why it may survive.
    Accepted,
    /// A check of which only a sample of the mutants could have shown that it can fail.
    NotTried,
    /// It was.
    Killed,
}

impl Outcome {
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

/// Judges what came of a mutant of a cell that came out as `original` without damage.
pub fn judge(original: &Original, mutant: &Mutant, record: &CellRecord) -> Outcome {
    let survived = if mutant.accepted.is_some() { Outcome::Accepted } else { Outcome::Survived };
    let kind = record.symptom_data.as_ref().map(Symptom::kind);
    match (record.verdict, mutant.rule) {
        (VerdictWord::Skip | VerdictWord::Flaky, _) => Outcome::Undecided,
        (VerdictWord::Error, rule) => match (rule, kind) {
            (Rule::FailOrError, _)
            | (Rule::FailOrMissingEvidence, Some(SymptomKind::MissingEvidence))
            | (Rule::Rejected, Some(SymptomKind::CommandLineRejected)) => Outcome::Killed,
            (Rule::NotGreen | Rule::FailOrMissingEvidence | Rule::Rejected, _) => Outcome::Undecided,
        },
        (_, Rule::Rejected) => survived,
        // A fail that is green is known. Without what makes the claim wrong the stack works, so the verdict is another one.
        (VerdictWord::Pass, _) if original.verdict == VerdictWord::Fail && original.green => Outcome::Killed,
        _ if is_green(record) => survived,
        _ => Outcome::Killed,
    }
}

/// A mutation of a cell and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MutantResult {
    /// The mutation's name.
    pub mutation: String,
    /// What is damaged, for people.
    pub damage: String,
    /// What must come of it; absent for a step that only checks, which must stop a mutant.
    pub rule: Option<Rule>,
    /// Whether it was noticed.
    pub outcome: Outcome,
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

/// A cell and what came of its mutants: a line of [`super::MUTATIONS`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellMutation {
    /// The cell.
    pub cell: CellName,
    /// What came of it without damage.
    pub original: Original,
    /// What came of its mutants, survivors first. None if the cell is not green itself.
    pub results: Vec<MutantResult>,
    /// Acceptances of its scenario that no mutation has the name of.
    pub unused: Vec<String>,
    /// Whether all of its mutants have a verdict: otherwise a sample was booted, or the run was interrupted.
    pub complete: bool,
}

impl CellMutation {
    /// Judges the mutants of a cell by those that have a record. If all have one, a check that stopped none of them can't fail.
    pub fn new(cell: CellName, original: Original, mutants: &Mutants, records: &[CellRecord]) -> Self {
        let result = |mutant: &Mutant| {
            let record = records.iter().find(|record| record.cell == mutant.cell.name)?;
            Some(result(&original, mutant, record))
        };
        let mut results: Vec<MutantResult> = mutants.mutants.iter().filter_map(result).collect();
        let complete = results.len() == mutants.mutants.len();
        let of_checks = mutants.checks.iter().map(|check| of_check(check, &original, &results, complete));
        let of_checks: Vec<MutantResult> = of_checks.collect();
        results.extend(of_checks);
        results.sort_by_key(|result| result.outcome);
        Self { cell, original, results, unused: mutants.unused.clone(), complete }
    }

    /// How many there are with this outcome.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.results.iter().filter(|result| result.outcome == outcome).count()
    }
}

fn result(original: &Original, mutant: &Mutant, record: &CellRecord) -> MutantResult {
    MutantResult {
        mutation: mutant.mutation.name(),
        damage: mutant.mutation.to_string(),
        rule: Some(mutant.rule),
        outcome: judge(original, mutant, record),
        accepted: mutant.accepted.clone(),
        verdict: Some(record.verdict),
        stage: record.stage,
        symptom: record.symptom.clone(),
        seconds: record.seconds(),
        records: record.folder.as_ref().map(|folder| folder.as_path().to_owned()),
    }
}

fn of_check(check: &Check, original: &Original, results: &[MutantResult], all: bool) -> MutantResult {
    let mutation = Mutation::DropStep { step: check.step };
    let here = Some(Stage::Step(check.step));
    let killed = |result: &&MutantResult| result.outcome == Outcome::Killed && result.stage == here;
    let stopped = match original.stage == here {
        true => Some("the cell without damage"),
        false => results.iter().find(killed).map(|result| result.mutation.as_str()),
    };
    let outcome = match (stopped, &check.accepted) {
        (Some(_), _) => Outcome::Killed,
        (None, _) if !all => Outcome::NotTried,
        (None, Some(_)) => Outcome::Accepted,
        (None, None) => Outcome::Survived,
    };
    let symptom = match stopped {
        Some(stopped) => format!("it only checks, and stopped {stopped}"),
        None => "it only checks, and stopped no mutant".to_owned(),
    };
    MutantResult {
        mutation: mutation.name(),
        damage: mutation.to_string(),
        rule: None,
        outcome,
        accepted: check.accepted.clone(),
        verdict: None,
        stage: None,
        symptom: Some(symptom),
        seconds: 0.0,
        records: None,
    }
}

/// How many mutants had which outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MutationTally {
    /// Cells whose mutants were made.
    pub cells: usize,
    /// Cells that are not green themselves, so that no mutant was made.
    pub not_green: usize,
    /// Cells of whose mutants not all have a verdict.
    pub incomplete: usize,
    /// Mutants that were noticed.
    pub killed: usize,
    /// Mutants that were not.
    pub survived: usize,
    /// Mutants that were not, and may.
    pub accepted: usize,
    /// Mutants of which nothing can be said.
    pub undecided: usize,
    /// Checks of which too little was tried.
    pub not_tried: usize,
}

impl MutationTally {
    /// Counts the mutants of these cells.
    pub fn of<'a>(cells: impl IntoIterator<Item = &'a CellMutation>) -> Self {
        let mut tally = Self::default();
        for cell in cells {
            *if cell.original.green { &mut tally.cells } else { &mut tally.not_green } += 1;
            tally.incomplete += usize::from(!cell.complete);
            tally.killed += cell.count(Outcome::Killed);
            tally.survived += cell.count(Outcome::Survived);
            tally.accepted += cell.count(Outcome::Accepted);
            tally.undecided += cell.count(Outcome::Undecided);
            tally.not_tried += cell.count(Outcome::NotTried);
        }
        tally
    }

    /// How many mutants there were, with the checks.
    pub fn mutants(&self) -> usize {
        self.killed + self.survived + self.accepted + self.undecided + self.not_tried
    }

    /// The exit code: 1 for a survivor that is not accepted, 3 if something is undecided, 4 if there was no mutant. A survivor is
    /// certain whatever else is not.
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
