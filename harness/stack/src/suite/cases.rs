//! The cases of a test suite, as they are recorded.

use std::collections::BTreeMap;

use nestmatrix_model::emulator_errata::Erratum;
use nestmatrix_model::{CaseOutcome, KnownFailure, SuiteKind, matches_pattern};
use nestmatrix_vmm::guest::printable;
use serde::{Deserialize, Serialize};

use crate::emulator_errata::Errata;

/// Longest name of a case that is kept, in characters.
const KEPT_NAME: usize = 160;
/// Longest text about a case that is kept, in characters.
const KEPT_SAID: usize = 300;
/// The most cases of a step that are kept. Those that did not pass come first.
const KEPT_CASES: usize = 1000;

/// A test case, and its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its name: that of the test, and of the case in it if it has several.
    pub name: String,
    /// The result.
    pub outcome: CaseOutcome,
    /// What was seen, if it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// Where a failure of it is described. If it passes nevertheless, that is unexpected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
    /// The erratum of the emulated metal that is known to end tests in this way, if the test came to no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erratum: Option<String>,
    /// Whether it is a test that QEMU did not start. That says nothing about the level.
    #[serde(skip)]
    pub did_not_start: bool,
}

impl Case {
    /// A case, of which only as much is kept as a reader needs.
    pub(crate) fn new(name: &str, outcome: CaseOutcome, said: Option<&str>) -> Self {
        // A tab is printable, and would break up a table.
        let in_line = |c: char| if c.is_control() { ' ' } else { c };
        let cut =
            |text: &str, most| printable(text.trim()).chars().map(in_line).take(most).collect::<String>();
        Self {
            name: cut(name, KEPT_NAME),
            outcome,
            said: said.map(|said| cut(said, KEPT_SAID)).filter(|said| !said.is_empty()),
            known: None,
            erratum: None,
            did_not_start: false,
        }
    }

    /// Charges the end of a test to the emulated metal.
    fn charge_to(&mut self, erratum: &Erratum) {
        let said = self.said.take().unwrap_or_default();
        let charged = format!("{said}; {erratum}");
        *self =
            Self { erratum: Some(erratum.id.clone()), ..Self::new(&self.name, self.outcome, Some(&charged)) };
    }

    /// Whether a pattern of known failures is about it. For a test that did not come to its end, a pattern must also say what was seen:
    /// otherwise it would excuse every other end of that test.
    pub fn is_meant_by(&self, pattern: &str) -> bool {
        match (&self.said, self.outcome) {
            _ if self.did_not_start => false,
            (Some(said), CaseOutcome::Error) => matches_pattern(pattern, &format!("{}: {said}", self.name)),
            _ => matches_pattern(pattern, &self.name),
        }
    }

    /// Whether it passes although a failure of it is described.
    pub fn is_unexpected_pass(&self) -> bool {
        self.outcome == CaseOutcome::Pass && self.known.is_some()
    }
}

/// The results of a step that ran tests of a suite, or a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuiteRecord {
    /// The suite, or the name of the program.
    pub suite: String,
    /// The SHA-256 of the files that ran, and of the suite's list of tests.
    pub sha256: String,
    /// How many cases have each outcome, also of those that are not kept.
    pub counts: BTreeMap<CaseOutcome, usize>,
    /// The cases: those that did not pass first, otherwise in the order in which they ran.
    pub cases: Vec<Case>,
}

impl SuiteRecord {
    pub(crate) fn new(suite: &str, sha256: &str) -> Self {
        Self {
            suite: suite.to_owned(),
            sha256: sha256.to_owned(),
            counts: BTreeMap::new(),
            cases: Vec::new(),
        }
    }

    /// Adds the cases of a test. `cause` is the erratum of the emulated metal that is known to end a test as this one ended.
    pub(crate) fn add(&mut self, cases: Vec<Case>, known: &KnownFailures, cause: Option<&Erratum>) {
        for mut case in cases {
            known.apply(&mut case);
            if let Some(erratum) = cause.filter(|_| case.outcome == CaseOutcome::Error && !case.did_not_start)
            {
                case.charge_to(erratum);
            }
            *self.counts.entry(case.outcome).or_default() += 1;
            self.cases.push(case);
        }
    }

    /// Puts the cases in their order, and drops those that are too many.
    pub(crate) fn close(&mut self) {
        self.cases.sort_by_key(|case| match case.outcome {
            CaseOutcome::Error | CaseOutcome::Fail => 0,
            CaseOutcome::Pass if case.known.is_some() => 1,
            CaseOutcome::KnownFail => 2,
            CaseOutcome::Skip => 3,
            CaseOutcome::Pass => 4,
        });
        self.cases.truncate(KEPT_CASES);
    }

    /// Whether it has every case.
    pub fn is_complete(&self) -> bool {
        self.counts.values().sum::<usize>() <= self.cases.len()
    }

    /// How many cases failed or came to no result, and were not known to.
    pub fn unexpected(&self) -> usize {
        self.counts.iter().filter(|(outcome, _)| outcome.is_unexpected()).map(|(_, count)| count).sum()
    }

    /// The counts in one line: `24 pass, 3 known-fail`.
    pub fn summary(&self) -> String {
        let counts = self.counts.iter().map(|(outcome, count)| format!("{count} {outcome}"));
        let passed = self.cases.iter().filter(|case| case.is_unexpected_pass()).count();
        let passed = (passed > 0).then(|| format!("{passed} of them known to fail, but passed"));
        counts.chain(passed).collect::<Vec<_>>().join(", ")
    }
}

/// The failures that are known where a suite or a program runs.
pub(crate) struct KnownFailures {
    /// Pattern and reference of those that the scenario describes.
    described: Vec<(String, String)>,
    /// The same of what the emulated metal gets wrong.
    of_metal: Vec<(String, String)>,
}

impl KnownFailures {
    /// Those that a step describes, and of a suite those of the emulated metal.
    pub(crate) fn new(described: &[KnownFailure], suite: Option<SuiteKind>, errata: &Errata) -> Self {
        let counts = |known: &&KnownFailure| known.erratum.as_ref().is_none_or(|id| errata.has(id));
        let described = described.iter().filter(counts);
        let described = described.map(|known| (known.case.clone(), known.reference.clone())).collect();
        Self { described, of_metal: suite.map(|suite| errata.failing_cases(suite)).unwrap_or_default() }
    }

    fn apply(&self, case: &mut Case) {
        let find = |list: &[(String, String)]| {
            let found = list.iter().find(|(pattern, _)| case.is_meant_by(pattern));
            found.map(|(_, reference)| reference.clone())
        };
        let known = match case.outcome {
            CaseOutcome::Fail | CaseOutcome::Error => find(&self.described).or_else(|| find(&self.of_metal)),
            CaseOutcome::Pass => find(&self.described),
            CaseOutcome::Skip | CaseOutcome::KnownFail => None,
        };
        if known.is_some() && case.outcome.is_unexpected() {
            case.outcome = CaseOutcome::KnownFail;
        }
        case.known = case.known.take().or(known);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn known() -> KnownFailures {
        let pair = |case: &str, reference: &str| (case.to_owned(), reference.to_owned());
        KnownFailures {
            described: vec![pair("t: a*", "a report")],
            of_metal: vec![pair("t: b", "erratum x")],
        }
    }

    #[rstest]
    #[case("t: a1", CaseOutcome::Fail, CaseOutcome::KnownFail, Some("a report"))]
    #[case("t: a1", CaseOutcome::Pass, CaseOutcome::Pass, Some("a report"))]
    #[case("t: a1", CaseOutcome::Skip, CaseOutcome::Skip, None)]
    #[case("t: b", CaseOutcome::Error, CaseOutcome::KnownFail, Some("erratum x"))]
    #[case("t: b", CaseOutcome::Pass, CaseOutcome::Pass, None)]
    #[case("t: c", CaseOutcome::Fail, CaseOutcome::Fail, None)]
    fn a_failure_that_is_described_is_known(
        #[case] name: &str,
        #[case] outcome: CaseOutcome,
        #[case] expected: CaseOutcome,
        #[case] reference: Option<&str>,
    ) {
        let mut case = Case::new(name, outcome, None);
        known().apply(&mut case);
        assert_eq!((case.outcome, case.known.as_deref()), (expected, reference));
    }

    #[rstest]
    #[case("t: *Unhandled exception 3*", true)]
    #[case("t", false)]
    #[case("t: *timeout*", false)]
    fn the_end_of_a_test_is_known_only_by_what_was_seen(#[case] pattern: &str, #[case] is_known: bool) {
        let said = "it aborted with code 63: Unhandled exception 3 #BP";
        let mut case = Case::new("t", CaseOutcome::Error, Some(said));
        assert_eq!(case.is_meant_by(pattern), is_known);
        case.did_not_start = true;
        assert!(!case.is_meant_by(pattern));
    }

    #[test]
    fn cases_that_did_not_pass_are_kept_and_all_are_counted() {
        let mut record = SuiteRecord::new("kvm-unit-tests", "0");
        let many = (0..2 * KEPT_CASES).map(|n| Case::new(&format!("t: {n}"), CaseOutcome::Pass, None));
        record.add(many.collect(), &known(), None);
        let others = [("t: c", CaseOutcome::Fail), ("t: a", CaseOutcome::Pass), ("t: s", CaseOutcome::Skip)];
        record.add(others.map(|(name, outcome)| Case::new(name, outcome, None)).to_vec(), &known(), None);
        record.close();
        assert_eq!(record.cases.len(), KEPT_CASES);
        assert_eq!(
            record.cases[..3].iter().map(|case| &*case.name).collect::<Vec<_>>(),
            ["t: c", "t: a", "t: s"]
        );
        assert_eq!(record.unexpected(), 1);
        assert_eq!(record.summary(), "2001 pass, 1 fail, 1 skip, 1 of them known to fail, but passed");
    }

    #[test]
    fn a_name_is_bounded_and_has_no_control_characters() {
        let case = Case::new(&format!("\u{1b}[31m{}", "x".repeat(1000)), CaseOutcome::Fail, Some("\n"));
        assert!(case.name.chars().count() == KEPT_NAME && !case.name.contains(char::is_control));
        assert_eq!(case.said, None);
    }
}
