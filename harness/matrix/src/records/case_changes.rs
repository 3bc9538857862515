//! What changed in the test cases of a cell between two sets of results.

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_model::CaseOutcome;
use nestmatrix_stack::Case;

use super::CellRecord;
use crate::scenario::CellName;

/// A cell in which the outcomes of test cases changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseChanges {
    /// The cell.
    pub cell: CellName,
    /// Its cases whose outcomes changed, by name.
    pub cases: Vec<CaseChange>,
}

/// A test case whose outcome changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseChange {
    /// Its name.
    pub name: String,
    /// Its outcome before; absent if it had none.
    pub before: Option<CaseOutcome>,
    /// Its outcome now; absent if it has none.
    pub now: Option<CaseOutcome>,
}

impl CaseChange {
    /// Whether it fails now, and did not before.
    pub fn is_worse(&self) -> bool {
        let fails = |outcome: Option<CaseOutcome>| outcome.is_some_and(CaseOutcome::is_unexpected);
        fails(self.now) && !fails(self.before)
    }
}

impl CaseChanges {
    /// What changed in a cell, if both records have cases and something did. A case that only one of them has is a change too, unless
    /// it was skipped. One that passes counts only if it is gone from a step that ran and whose record is complete: a record keeps only
    /// some of the cases that passed.
    pub(super) fn of(was: &CellRecord, is: &CellRecord) -> Option<Self> {
        let (before, now) = (outcomes(was), outcomes(is));
        if before.is_empty() || now.is_empty() {
            return None;
        }
        let mut names: Vec<&(u8, &str)> = before.keys().chain(now.keys()).collect();
        names.sort();
        names.dedup();
        let change = |name: &(u8, &str)| CaseChange {
            name: name.1.to_owned(),
            before: before.get(name).copied(),
            now: now.get(name).copied(),
        };
        let complete = complete_steps(is);
        let counts = |(step, change): &(u8, CaseChange)| match (change.before, change.now) {
            (Some(before), Some(now)) => before != now,
            (Some(CaseOutcome::Pass), None) => complete.contains(step),
            (one, other) => !matches!(one.or(other), None | Some(CaseOutcome::Pass | CaseOutcome::Skip)),
        };
        let changes = names.into_iter().map(|name| (name.0, change(name))).filter(counts);
        let cases: Vec<CaseChange> = changes.map(|(_, change)| change).collect();
        (!cases.is_empty()).then(|| Self { cell: is.cell.clone(), cases })
    }
}

/// The numbers of the steps whose record has all of their cases.
fn complete_steps(record: &CellRecord) -> BTreeSet<u8> {
    let of_suites =
        (1..).zip(&record.steps).filter_map(|(number, step)| Some((number, step.suite.as_ref()?)));
    of_suites.filter(|(_, suite)| suite.is_complete()).map(|(number, _)| number).collect()
}

/// The outcomes of a cell's cases, by the number of their step and by name.
fn outcomes(record: &CellRecord) -> BTreeMap<(u8, &str), CaseOutcome> {
    let steps = (1..).zip(&record.steps);
    let cases = steps.filter_map(|(number, step)| Some((number, &step.suite.as_ref()?.cases)));
    cases
        .flat_map(|(number, cases)| {
            cases.iter().map(move |case: &Case| ((number, &*case.name), case.outcome))
        })
        .collect()
}
