//! Which case a pattern names, and what a trial says about it.

use std::collections::BTreeMap;
use std::path::Path;

use nestmatrix_images::Part;
use nestmatrix_model::LevelNumber;
use nestmatrix_stack::{Contradiction, SuiteRecord};
use rstest::rstest;

use super::*;
use crate::scenario::{Filter, Matrix};

/// A record of a cell whose step has these cases, each `OUTCOME NAME`, or `error NAME / WHAT WAS SEEN`.
fn record(verdict: VerdictWord, steps: &[(&str, &[&str])]) -> CellRecord {
    let matrix = Matrix::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios")).unwrap();
    let filter = Filter::parse(&["rhel-10-preview/amd/*".to_owned()]).unwrap();
    let cell = matrix.cells().iter().find(|cell| filter.matches(&cell.name)).unwrap();
    let case = |text: &&str| {
        let (outcome, rest) = text.split_once(' ').unwrap();
        let (name, said) = rest.split_once(" / ").map_or((rest, None), |(name, said)| (name, Some(said)));
        let outcome = outcome.parse().unwrap();
        Case {
            name: name.into(),
            outcome,
            said: said.map(Into::into),
            known: None,
            did_not_start: false,
            erratum: None,
        }
    };
    let step = |(name, cases): &(&str, &[&str])| {
        let cases: Vec<Case> = cases.iter().map(case).collect();
        let mut counts = BTreeMap::new();
        cases.iter().for_each(|case| *counts.entry(case.outcome).or_default() += 1);
        StepRecord {
            name: (*name).into(),
            on: LevelNumber::ALL[1],
            action: "suite".into(),
            run: None,
            status: None,
            output: String::new(),
            suite: Some(SuiteRecord { suite: "kvm-unit-tests".into(), sha256: "0".into(), counts, cases }),
            benchmark: None,
        }
    };
    let steps = steps.iter().map(step).collect();
    let symptom = matches!(verdict, VerdictWord::Fail | VerdictWord::Error)
        .then(|| "suite on L1: 1 of 3 cases failed".to_owned());
    CellRecord { verdict, steps, symptom, ..CellRecord::skipped(cell, &[], false) }
}

const CASES: &[(&str, &[&str])] =
    &[("nested", &["fail svm: b*", "pass svm: bc", "pass svm: a", "error npt / it aborted with code 63"])];

#[rstest]
#[case::exact("svm: a", Some("svm: a"))]
#[case::glob("svm: a*", Some("svm: a"))]
#[case::with_its_step("nested: svm: a", Some("svm: a"))]
#[case::a_star_in_a_name("svm: b*", Some("svm: b*"))]
#[case::none("svm: d", None)]
fn a_pattern_names_a_case(#[case] pattern: &str, #[case] expected: Option<&str>) {
    let record = record(VerdictWord::Fail, CASES);
    let found = find_case(&record, pattern).unwrap();
    assert_eq!(found.map(|case| &*case.name), expected);
}

#[test]
fn a_pattern_that_matches_several_cases_is_refused() {
    let record_of = |steps| record(VerdictWord::Fail, steps);
    let several = find_case(&record_of(CASES), "svm: *").unwrap_err().to_string();
    assert_eq!(several, r#""svm: *" matches 3 cases, such as "svm: b*", "svm: bc"; name one case"#);
    let twice: &[(&str, &[&str])] = &[("on L0", &["pass svm: a"]), ("on L1", &["fail svm: a"])];
    let same = find_case(&record_of(twice), "svm: a").unwrap_err().to_string();
    assert_eq!(same, r#""svm: a" matches 2 cases, such as "on L0: svm: a", "on L1: svm: a"; name one case"#);
    let record = record_of(twice);
    assert_eq!(find_case(&record, "on L1: svm: a").unwrap().unwrap().outcome, CaseOutcome::Fail);
}

#[test]
fn a_name_that_no_trial_has_is_answered_with_the_nearest() {
    let names: Vec<String> = case_names(&record(VerdictWord::Fail, CASES)).map(str::to_owned).collect();
    let error = no_such_case("svm: ac", &names).to_string();
    assert!(
        error.starts_with(r#"no trial has a case "svm: ac"; the nearest of 4 are "svm: a", "svm: b"#),
        "{error}"
    );
}

#[rstest]
#[case::it_failed(VerdictWord::Fail, "svm: b*", None)]
#[case::another_failed(VerdictWord::Fail, "svm: a", None)]
// The stack may have stopped later, for a reason that says nothing.
#[case::the_cell_is_an_error(VerdictWord::Error, "svm: a", None)]
#[case::both_are(VerdictWord::Error, "npt", Some("suite on L1: 1 of 3 cases failed"))]
#[case::only_the_case_is(VerdictWord::Fail, "npt", None)]
#[case::another_boot_may_differ(VerdictWord::Flaky, "svm: a", Some("the cell is flaky: it worked this time"))]
#[case::its_test_ended(
    VerdictWord::Fail,
    "npt: x",
    Some("the case has no outcome: npt: it aborted with code 63")
)]
#[case::it_is_missing(
    VerdictWord::Fail,
    "svm: x",
    Some("the case has no outcome: suite on L1: 1 of 3 cases failed")
)]
#[case::it_is_missing_and_nothing_failed(VerdictWord::Pass, "svm: x", Some("the case has no outcome"))]
fn what_a_trial_says_about_a_case(
    #[case] verdict: VerdictWord,
    #[case] pattern: &str,
    #[case] expected: Option<&str>,
) {
    let record = record(verdict, CASES);
    let trial =
        VersionTrial { level: LevelNumber::ALL[0], part: Part::Kernel, left_out: &[], boot_counts: false };
    let case = find_case(&record, pattern).unwrap();
    assert_eq!(trial.says_nothing_about_case(&record, pattern, case).as_deref(), expected);
}

#[test]
fn a_cell_that_was_not_nested_says_nothing_about_its_cases() {
    let mut record = record(VerdictWord::Fail, CASES);
    let trial =
        VersionTrial { level: LevelNumber::ALL[0], part: Part::Kernel, left_out: &[], boot_counts: false };
    let pattern = record.steps[0].suite.as_ref().unwrap().cases[0].name.clone();
    let case = find_case(&record, &pattern).unwrap().cloned();
    assert_eq!(trial.says_nothing_about_case(&record, &pattern, case.as_ref()), None);
    record.symptom_data = Some(Symptom::NotNested {
        level: LevelNumber::ALL[2],
        contradiction: Contradiction::Nonce { got: "1".into(), expected: "2".into() },
    });
    record.symptom = Some("L2 is not nested".into());
    let why = trial.says_nothing_about_case(&record, &pattern, case.as_ref());
    assert_eq!(why.as_deref(), Some("L2 is not nested"));
}

#[test]
fn a_record_that_dropped_cases_says_nothing_about_one_of_them() {
    let mut record = record(VerdictWord::Pass, CASES);
    record.steps[0].suite.as_mut().unwrap().counts.insert(CaseOutcome::Pass, 2000);
    let trial =
        VersionTrial { level: LevelNumber::ALL[0], part: Part::Kernel, left_out: &[], boot_counts: false };
    let why = trial.says_nothing_about_case(&record, "svm: x", None).unwrap();
    assert!(why.starts_with("the record has 4 of 2002 cases"), "{why}");
}

#[test]
fn a_version_is_compared_by_its_case() {
    let tried = |case: Option<&str>, not_tried: Option<&str>| TriedVersion {
        version: "1".into(),
        from: "x".into(),
        verdict: Some(VerdictWord::Fail),
        case: case.map(|outcome| TriedCase {
            name: "svm: a".into(),
            outcome: outcome.parse().unwrap(),
            said: None,
        }),
        not_tried: not_tried.map(Into::into),
        stage: None,
        symptom: None,
        seconds: 1.0,
        records: "x".into(),
    };
    assert_eq!(tried(Some("pass"), None).behaviour(), Some(Behaviour::Outcome(CaseOutcome::Pass)));
    assert_eq!(tried(None, None).behaviour(), Some(Behaviour::Verdict(VerdictWord::Fail)));
    assert_eq!(tried(Some("error"), Some("why")).behaviour(), None);
    let json = serde_json::to_value(tried(Some("known-fail"), None)).unwrap();
    assert_eq!(json["case"], serde_json::json!({ "name": "svm: a", "outcome": "known-fail", "said": null }));
}
