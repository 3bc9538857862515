//! Runs as KTAP, read by this project's own reader of KTAP.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use nestmatrix::records::{CellRecord, Overview, PastRun, VerdictWord};
use nestmatrix::report::ktap;
use nestmatrix_model::CaseOutcome;
use nestmatrix_stack::{End, ProgramEnd, StageTime, read_program_cases};
use report_fixtures::{
    case, cells, flaky, known_stale, known_wrong, limited, outcome, past_run, record, skipped, stopped,
    suite_step,
};
use rstest::rstest;

const CELL: &str = "rhel-preview/amd/rhel-10/rhel-10/rhel-10";

fn run(cells: Vec<CellRecord>) -> PastRun {
    past_run("results/run", outcome(cells, 192, false))
}

fn text_of(run: PastRun) -> String {
    ktap(&Overview::new(vec![run], &cells("\"rhel 10\"", "\"rhel 10\"", "\"rhel 10\"").0))
}

/// The cases that the reader finds, each as its outcome and its name without that of the cell.
fn read(text: &str) -> Vec<String> {
    let stdout = text.as_bytes().to_vec();
    let ended = ProgramEnd { end: End::Exited(0), stdout, stderr: Vec::new(), is_cut: false };
    let cases = read_program_cases("run", &ended);
    cases.iter().map(|case| format!("{} {}", case.outcome, case.name.replace(CELL, "CELL"))).collect()
}

/// The cell after two stages. It stopped at the second one, if it stopped.
fn booted(cell: CellRecord) -> CellRecord {
    let stage = |stage: &str| StageTime { stage: stage.parse().unwrap(), start: 0.0, end: 1.0 };
    CellRecord { stages: vec![stage("l0-boot"), stage("l1-boot")], ..cell }
}

fn stops(verdict: VerdictWord) -> CellRecord {
    booted(stopped(limited(record("limits", CELL, verdict, 9.0), "l1-boot", "hangs"), "l1-boot", "hangs"))
}

fn works(verdict: VerdictWord) -> CellRecord {
    booted(limited(record("limits", CELL, verdict, 9.0), "l1-boot", "hangs"))
}

#[rstest]
#[case::pass(booted(record("limits", CELL, VerdictWord::Pass, 9.0)), "pass", "pass")]
#[case::fail(stops(VerdictWord::Fail), "fail", "fail")]
#[case::xfail(stops(VerdictWord::Xfail), "known-fail", "known-fail")]
#[case::news(works(VerdictWord::Xpass), "pass", "fail")]
#[case::known_stale(known_stale(works(VerdictWord::Xpass), "fixed"), "pass", "pass")]
#[case::known_wrong(
    known_wrong(stops(VerdictWord::Fail), "l1-boot", "hangs", "never worked"),
    "known-fail",
    "known-fail"
)]
#[case::flaky(flaky(stops(VerdictWord::Flaky), &[VerdictWord::Pass, VerdictWord::Fail], 2, None), "fail", "fail")]
#[case::error(stops(VerdictWord::Error), "error", "error")]
fn a_verdict_is_read_as_it_was_meant(#[case] cell: CellRecord, #[case] stop: &str, #[case] verdict: &str) {
    let text = text_of(run(vec![cell]));
    let read = read(&text);
    let expected = [
        "pass run: CELL/l0-boot".to_owned(),
        format!("{stop} run: CELL/l1-boot"),
        format!("{verdict} run: CELL/verdict"),
    ];
    assert_eq!(read, expected, "{text}");
}

#[test]
fn a_cell_without_stages_is_a_test_point_alone() {
    let mut cut_off = run(vec![skipped("limits", CELL, "no image")]);
    let missing = CELL.replace("amd", "intel");
    cut_off.planned = Some(vec![CELL.parse().unwrap(), missing.parse().unwrap()]);
    let text = text_of(cut_off);
    assert_eq!(read(&text), ["skip run: CELL".to_owned(), format!("error run: {missing}")], "{text}");
}

#[test]
fn the_cases_of_a_suite_are_subtests_of_the_step() {
    let case = |name, outcome, known| case(name, outcome, Some("it said\nok 9 forged"), known);
    let cases = vec![
        case("svm: a", CaseOutcome::Fail, None),
        case("b # SKIP forged", CaseOutcome::KnownFail, Some("a # report")),
        case("svm: c", CaseOutcome::Skip, None),
        case("svm: d", CaseOutcome::Error, None),
        case("svm: e", CaseOutcome::Pass, None),
    ];
    let cell = CellRecord {
        steps: vec![suite_step(cases)],
        ..stopped(record("limits", CELL, VerdictWord::Fail, 9.0), "step-1", "svm: a")
    };
    let text = text_of(run(vec![cell]));
    insta::assert_snapshot!(text);
    assert_eq!(
        read(&text),
        [
            "fail run: CELL/step-1: nested/svm: a",
            "known-fail run: CELL/step-1: nested/b _ SKIP forged",
            "skip run: CELL/step-1: nested/svm: c",
            "error run: CELL/step-1: nested/svm: d",
            "pass run: CELL/step-1: nested/svm: e",
            "fail run: CELL/step-1: nested/step",
            "fail run: CELL/verdict",
        ]
    );
}
