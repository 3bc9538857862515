//! The test case that a search is about, if it is not about a cell's verdict: which case a pattern names, and what a trial says about it.

use std::fmt;

use nestmatrix_input::nearest;
use nestmatrix_model::{CaseOutcome, SymptomKind, matches_pattern};
use nestmatrix_stack::{Case, StepRecord, Symptom};
use serde::Serialize;

use super::{TriedVersion, VersionTrial};
use crate::records::{CellRecord, VerdictWord};

/// How many names a message shows.
const SHOWN: usize = 5;

/// What a search compares: the verdict of a cell, or the outcome of one test case in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// A cell's verdict.
    Verdict(VerdictWord),
    /// A case's outcome.
    Outcome(CaseOutcome),
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Outcome(outcome) => outcome.fmt(f),
        }
    }
}

/// The case of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TriedCase {
    /// Its name.
    pub name: String,
    /// Its outcome.
    pub outcome: CaseOutcome,
    /// What was seen, if it did not pass.
    pub said: Option<String>,
}

impl From<&Case> for TriedCase {
    fn from(case: &Case) -> Self {
        Self { name: case.name.clone(), outcome: case.outcome, said: case.said.clone() }
    }
}

impl TriedVersion {
    /// What this version is compared by; none if it could not be tested.
    pub fn behaviour(&self) -> Option<Behaviour> {
        match (&self.not_tried, &self.case) {
            (Some(_), _) => None,
            (None, Some(case)) => Some(Behaviour::Outcome(case.outcome)),
            (None, None) => self.verdict.map(Behaviour::Verdict),
        }
    }
}

/// Why a pattern does not name one case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// It matches several.
    #[error("{pattern:?} matches {count} cases, such as {}; name one case", quoted(.some))]
    Several {
        /// The pattern.
        pattern: String,
        /// How many.
        count: usize,
        /// The first of them.
        some: Vec<String>,
    },
    /// No trial has a case that it matches.
    #[error("no trial has a case {pattern:?}; the nearest of {count} are {}", quoted(.nearest))]
    None {
        /// The pattern.
        pattern: String,
        /// How many cases the trials have.
        count: usize,
        /// The names of the nearest ones.
        nearest: Vec<String>,
    },
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// The case of a record that `pattern` names, if the record has it. If several steps have a case of the same name, a pattern may also
/// begin with the step's name: `STEP: CASE`.
///
/// # Errors
/// [`CaseError::Several`] if it matches more than one.
pub fn find_case<'r>(record: &'r CellRecord, pattern: &str) -> Result<Option<&'r Case>, CaseError> {
    let full = |step: &StepRecord, case: &Case| format!("{}: {}", step.name, case.name);
    let select = |matches: &dyn Fn(&str) -> bool| -> Vec<(&StepRecord, &Case)> {
        cases(record).filter(|(step, case)| matches(&case.name) || matches(&full(step, case))).collect()
    };
    // A name may have a star itself.
    let mut found = select(&|name| name == pattern);
    if found.is_empty() {
        found = select(&|name| matches_pattern(pattern, name));
    }
    match found.as_slice() {
        [] => Ok(None),
        [(_, case)] => Ok(Some(case)),
        several => {
            let same_name = several.iter().all(|(_, case)| case.name == several[0].1.name);
            let name = |(step, case): &(&StepRecord, &Case)| {
                if same_name { full(step, case) } else { case.name.clone() }
            };
            let some = several.iter().take(2).map(name).collect();
            Err(CaseError::Several { pattern: pattern.to_owned(), count: several.len(), some })
        }
    }
}

/// The names of a record's cases.
pub fn case_names(record: &CellRecord) -> impl Iterator<Item = &str> {
    cases(record).map(|(_, case)| &*case.name)
}

/// The error that no trial has a case that `pattern` names. `names` are those of the cases that they have.
pub fn no_such_case(pattern: &str, names: &[String]) -> CaseError {
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let nearest = nearest(pattern, &names, SHOWN).into_iter().map(str::to_owned).collect();
    CaseError::None { pattern: pattern.to_owned(), count: names.len(), nearest }
}

fn cases(record: &CellRecord) -> impl Iterator<Item = (&StepRecord, &Case)> {
    let of_step = |step| -> Option<(&StepRecord, &Vec<Case>)> {
        let step: &StepRecord = step;
        Some((step, &step.suite.as_ref()?.cases))
    };
    record
        .steps
        .iter()
        .filter_map(of_step)
        .flat_map(|(step, cases)| cases.iter().map(move |case| (step, case)))
}

impl VersionTrial<'_> {
    /// Why `record` says nothing about the outcome of a case with the tested version, if so. `case` is what the record has of it.
    ///
    /// A case that has an outcome says something even if the cell is an `error` for a later reason. But in a cell that is an `error`,
    /// an error of the case may come from the same cause.
    pub fn says_nothing_about_case(
        &self,
        record: &CellRecord,
        pattern: &str,
        case: Option<&Case>,
    ) -> Option<String> {
        // Then the steps may have run in another level than they should.
        let kind = record.symptom_data.as_ref().map(Symptom::kind);
        if matches!(kind, Some(SymptomKind::NotNested | SymptomKind::MissingEvidence)) {
            return Some(record.symptom.clone().unwrap_or_else(|| "the cell has no evidence".to_owned()));
        }
        match case {
            Some(case) if case.outcome != CaseOutcome::Error && record.verdict != VerdictWord::Flaky => None,
            Some(_) => self.says_nothing(record),
            None => Some(self.says_nothing(record).unwrap_or_else(|| why_without(record, pattern))),
        }
    }
}

/// Why a record has no such case, although its cell has a verdict.
fn why_without(record: &CellRecord, pattern: &str) -> String {
    let suites = || record.steps.iter().filter_map(|step| step.suite.as_ref());
    let all: usize = suites().flat_map(|suite| suite.counts.values()).sum();
    let kept: usize = suites().map(|suite| suite.cases.len()).sum();
    if suites().any(|suite| !suite.is_complete()) {
        return format!(
            "the record has {kept} of {all} cases, and not this one; name only its test in the step's `tests`"
        );
    }
    // A test that comes to no result is a case itself, and its later cases do not run.
    let test = pattern.split(':').next().unwrap_or_default();
    let ended = cases(record).find(|(_, case)| case.name == test).and_then(|(_, case)| case.said.as_ref());
    match (ended, &record.symptom) {
        (Some(said), _) => format!("the case has no outcome: {test}: {said}"),
        (None, Some(symptom)) => format!("the case has no outcome: {symptom}"),
        (None, None) => "the case has no outcome".to_owned(),
    }
}

#[cfg(test)]
#[path = "case_tests.rs"]
mod tests;
