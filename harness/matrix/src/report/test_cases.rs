//! The cases of test suites in formats that have tests of their own: each is one there.

use std::fmt::Write as _;

use nestmatrix_model::CaseOutcome;
use nestmatrix_stack::{Case, StepRecord};
use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use crate::records::CellRecord;

use super::html::shown;
use super::tap::escaped;
use super::text::one_line;

/// The steps of a cell that ran tests of a suite, with their cases.
fn steps(cell: &CellRecord) -> impl Iterator<Item = (&StepRecord, &[Case])> {
    cell.steps.iter().filter_map(|step| Some((step, &*step.suite.as_ref()?.cases)))
}

/// The cases of a cell as a subtest of TAP, which stands before the cell's own test point; empty if it has none.
pub(super) fn subtest(cell: &CellRecord) -> String {
    let cases: Vec<(&StepRecord, &Case)> =
        steps(cell).flat_map(|(step, cases)| cases.iter().map(move |case| (step, case))).collect();
    if cases.is_empty() {
        return String::new();
    }
    let mut out = format!("    # Subtest: {}\n    1..{}\n", safe(cell.cell.as_str()), cases.len());
    for (index, (step, case)) in cases.into_iter().enumerate() {
        let known = || case.known.as_deref().unwrap_or_default();
        let (ok, directive) = match case.outcome {
            CaseOutcome::Pass if case.known.is_some() => ("ok", format!(" # TODO {}", safe(known()))),
            CaseOutcome::Pass => ("ok", String::new()),
            CaseOutcome::Skip => {
                let why = case.said.as_deref().unwrap_or_default();
                ("ok", format!(" # SKIP {}", safe(why)))
            }
            CaseOutcome::KnownFail => ("not ok", format!(" # TODO {}", safe(known()))),
            CaseOutcome::Fail | CaseOutcome::Error => ("not ok", String::new()),
        };
        let name = format!("{}: {}", step.name, case.name);
        let _ = writeln!(out, "    {ok} {} - {}{}", index + 1, safe(&name), directive.trim_end());
        if let (true, Some(said)) = (case.outcome.is_unexpected(), &case.said) {
            let _ = writeln!(out, "    # {}", shown(&one_line(said)));
        }
    }
    out
}

/// Text that a guest may have printed, on one line and without what TAP or a reader could take for something else.
fn safe(text: &str) -> String {
    escaped(&shown(&one_line(text)))
}

/// The cases of a cell as suites of JUnit, one for each step.
pub(super) fn suites(cell: &CellRecord) -> Vec<TestSuite> {
    let suite = |(step, cases): (&StepRecord, &[Case])| {
        let mut suite = TestSuite::new(format!("{}: {}", cell.cell, step.name));
        suite.add_property(Property::new("level", step.on.to_string()));
        for case in cases {
            suite.add_test_case(test_case(cell, case));
        }
        suite
    };
    steps(cell).map(suite).collect()
}

fn test_case(cell: &CellRecord, case: &Case) -> TestCase {
    let said = case.said.clone().unwrap_or_default();
    let status = match case.outcome {
        CaseOutcome::Pass => TestCaseStatus::success(),
        // JUnit has no failure that is known.
        CaseOutcome::Skip | CaseOutcome::KnownFail => TestCaseStatus::skipped(),
        CaseOutcome::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        CaseOutcome::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    let mut of_case = TestCase::new(case.name.as_str(), status);
    of_case.set_classname(cell.cell.as_str());
    of_case.properties.push(Property::new("outcome", case.outcome.to_string()));
    if let Some(known) = &case.known {
        of_case.properties.push(Property::new("known", known.as_str()));
    }
    if case.outcome != CaseOutcome::Pass {
        let known = case.known.as_ref().map(|known| format!("known to fail: {known}"));
        of_case.status.set_message([known, Some(said)].into_iter().flatten().collect::<Vec<_>>().join("; "));
    }
    of_case
}
