//! Runs as results of tmt. xtask/tests/tmt.rs gives them to tmt itself.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nestmatrix::records::{Attempt, CellRecord, Overview, PastRun, VerdictWord};
use nestmatrix::report::{TmtResults, tmt};
use nestmatrix_model::CaseOutcome;
use nestmatrix_stack::{Case, StageTime};
use report_fixtures::{
    attempt, came_back, case, cells, flaky, known_stale, known_wrong, limited, outcome, past_run, record,
    skipped, stopped, suite_step,
};
use rstest::rstest;
use serde_json::Value;

const CELL: &str = "rhel-preview/amd/rhel-10/rhel-10/rhel-10";

fn overview(run: PastRun) -> Overview {
    Overview::new(vec![run], &cells("\"rhel 10\"", "\"rhel 10\"", "\"rhel 10\"").0)
}

fn run(cells: Vec<CellRecord>) -> PastRun {
    past_run("results/run", outcome(cells, 192, false))
}

/// The results of these cells, which have no files.
fn results(cells: Vec<CellRecord>) -> Vec<Value> {
    let cells = cells.into_iter().map(|cell| CellRecord { folder: None, ..cell }).collect();
    let TmtResults { text, without_logs } = tmt(&overview(run(cells)), Path::new(".")).unwrap();
    assert_eq!(without_logs, 0);
    serde_json::from_str(&text).unwrap()
}

fn plain(verdict: VerdictWord) -> CellRecord {
    let cell = limited(record("limits", CELL, verdict, 9.0), "l1-boot", "hangs");
    if verdict == VerdictWord::Xpass { cell } else { stopped(cell, "l1-boot", "hangs") }
}

fn wrong(verdict: VerdictWord) -> CellRecord {
    known_wrong(record("limits", CELL, verdict, 9.0), "l1-boot", "hangs", "never worked")
}

#[rstest]
#[case::pass(record("limits", CELL, VerdictWord::Pass, 9.0), "pass", "pass")]
#[case::fail(
    stopped(record("limits", CELL, VerdictWord::Fail, 9.0), "l1-boot", "panic"),
    "fail",
    "fail: l1-boot: panic"
)]
#[case::xfail(plain(VerdictWord::Xfail), "pass", "xfail: l1-boot: hangs (as documented)")]
#[case::news(
    plain(VerdictWord::Xpass),
    "fail",
    "xpass: works, but the document says: stops at l1-boot (hangs)"
)]
#[case::known_stale(
    known_stale(plain(VerdictWord::Xpass), "fixed"),
    "pass",
    "xpass: known stale since Linux 5.8, seen 2026-11-22: fixed"
)]
#[case::known_wrong(
    stopped(wrong(VerdictWord::Fail), "l1-boot", "hangs"),
    "pass",
    "fail: l1-boot: hangs (known); "
)]
#[case::known_wrong_no_longer(wrong(VerdictWord::Pass), "pass", "pass: works, but listed as known wrong")]
#[case::came_back(
    came_back(record("limits", CELL, VerdictWord::Fail, 9.0), "l1-boot", "hangs", "fixed"),
    "fail",
    "fail: "
)]
#[case::flaky(
    flaky(record("limits", CELL, VerdictWord::Flaky, 9.0), &[VerdictWord::Pass, VerdictWord::Fail], 2, None),
    "fail",
    "flaky: "
)]
#[case::known_flaky(
    flaky(record("limits", CELL, VerdictWord::Flaky, 9.0), &[VerdictWord::Pass, VerdictWord::Fail], 2, Some("a race")),
    "info",
    "flaky: "
)]
#[case::error(
    stopped(record("limits", CELL, VerdictWord::Error, 9.0), "l1-boot", "full"),
    "error",
    "error: l1-boot: full"
)]
#[case::skip(skipped("limits", CELL, "no image"), "skip", "skip: no image")]
fn a_verdict_is_what_tmt_makes_of_it(#[case] cell: CellRecord, #[case] result: &str, #[case] note: &str) {
    let all = results(vec![cell]);
    assert_eq!(all[0]["result"], result, "{all:#?}");
    assert!(all[0]["note"][0].as_str().unwrap().starts_with(note), "{all:#?}");
    assert_eq!(all[0]["name"], format!("/{CELL}"));
    assert_eq!(all[0]["ids"], serde_json::json!({ "document": "limits", "claims": "preview" }));
}

fn said_case(name: &str, outcome: CaseOutcome, known: Option<&str>) -> Case {
    let said = (outcome != CaseOutcome::Pass).then_some("it said \u{1b}[2J");
    case(name, outcome, said, known)
}

/// A cell that stopped at a step which ran tests of a suite.
fn with_suite() -> CellRecord {
    let cases = vec![
        said_case("svm: a", CaseOutcome::Fail, None),
        said_case("svm: b", CaseOutcome::KnownFail, Some("a report")),
        said_case("svm: c", CaseOutcome::Skip, None),
        said_case("svm: d", CaseOutcome::Error, None),
        said_case("svm: e", CaseOutcome::Pass, None),
    ];
    let stage = |stage: &str, start, end| StageTime { stage: stage.parse().unwrap(), start, end };
    CellRecord {
        steps: vec![suite_step(cases)],
        stages: vec![stage("l0-boot", 0.0, 3.5), stage("step-1", 3.5, 7.0)],
        attempts: vec![Attempt { booted: Some(2.0), ..attempt(1.0, 3610.6, VerdictWord::Fail) }],
        ..stopped(record("limits", CELL, VerdictWord::Fail, 9.0), "step-1", "svm: a")
    }
}

#[test]
fn stages_and_cases_of_suites_are_subresults_with_their_times() {
    let all = results(vec![with_suite()]);
    let time = |value: &Value| {
        ["start-time", "end-time", "duration"].map(|key| value[key].as_str().unwrap_or("none").to_owned())
    };
    let at = |time: &str| format!("2025-11-21T{time}+00:00");
    assert_eq!(time(&all[0]), [at("22:39:42.000000"), at("23:39:51.600000"), "01:00:10".to_owned()]);
    let parts: Vec<[&str; 2]> = all[0]["subresult"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| ["name", "result"].map(|key| part[key].as_str().unwrap()))
        .collect();
    assert_eq!(
        parts,
        [
            ["l0-boot", "pass"],
            ["step-1: nested", "fail"],
            ["step-1: nested: svm: a", "fail"],
            ["step-1: nested: svm: b", "pass"],
            ["step-1: nested: svm: c", "skip"],
            ["step-1: nested: svm: d", "error"],
            ["step-1: nested: svm: e", "pass"],
        ]
    );
    let boot = &all[0]["subresult"][0];
    assert_eq!(time(boot), [at("22:39:43.000000"), at("22:39:46.500000"), "00:00:04".to_owned()]);
    assert_eq!(all[0]["subresult"][1]["note"], serde_json::json!(["fail: step-1: svm: a"]));
    let known = ["known-fail", "known to fail: a report", "it said \\u{1b}[2J"];
    assert_eq!(all[0]["subresult"][3]["note"], serde_json::json!(known));
}

#[test]
fn the_time_of_a_part_of_a_merged_run_is_not_guessed() {
    let cell = CellRecord { run: Some("part".into()), ..with_suite() };
    let all = results(vec![cell]);
    assert_eq!((&all[0]["start-time"], &all[0]["duration"]), (&Value::Null, &"01:00:10".into()));
}

#[test]
fn a_cell_without_a_verdict_is_an_error() {
    let mut cut_off = run(vec![record("limits", CELL, VerdictWord::Pass, 9.0)]);
    let missing = CELL.replace("amd", "intel");
    cut_off.planned = Some(vec![CELL.parse().unwrap(), missing.parse().unwrap()]);
    let text = tmt(&overview(cut_off), Path::new(".")).unwrap().text;
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((&all[1]["name"], &all[1]["result"]), (&format!("/{missing}").into(), &"error".into()));
}

#[test]
fn logs_are_relative_to_the_folder_of_the_results_and_consoles_come_first() {
    let place = tempfile::tempdir().unwrap();
    let mut run = run(vec![record("limits", CELL, VerdictWord::Pass, 9.0)]);
    run.folder = place.path().join("runs/1");
    let of_cell = run.folder.join("cells").join(CELL);
    fs::create_dir_all(of_cell.join("attempt-1")).unwrap();
    for file in ["L0.qmp.jsonl", "L1.console.log", "L0.console.log", "attempt-1/L0.console.log"] {
        fs::write(of_cell.join(file), "").unwrap();
    }
    fs::write(of_cell.join(OsStr::from_bytes(b"no text\xff")), "").unwrap();
    let overview = overview(run);
    let TmtResults { text, without_logs } = tmt(&overview, place.path()).unwrap();
    let all: Vec<Value> = serde_json::from_str(&text).unwrap();
    let logs = ["L0.console.log", "L1.console.log", "L0.qmp.jsonl"];
    let logs = logs.map(|file| format!("runs/1/cells/{CELL}/{file}"));
    assert_eq!((all[0]["log"].as_array().unwrap(), without_logs), (&logs.map(Value::from).to_vec(), 0));

    let elsewhere = tempfile::tempdir().unwrap();
    let TmtResults { text, without_logs } = tmt(&overview, elsewhere.path()).unwrap();
    assert_eq!((text.contains("console.log"), without_logs), (false, 1));
}

#[test]
fn a_guest_can_write_nothing_that_yaml_or_a_terminal_does_not_take() {
    let hostile = "\u{1b}[2J \u{7f}\u{85}\u{9b} \u{202e}exe.gnp \u{2028}\u{feff}\u{ffff}\n- name: /forged\n  result: pass\n\u{1f600}";
    let mut cell = stopped(record("limits", CELL, VerdictWord::Fail, 9.0), "l1-boot", hostile);
    cell.document = hostile.into();
    cell.claims = vec![hostile.into()];
    let text = tmt(&overview(run(vec![cell])), Path::new(".")).unwrap().text;
    let is_yaml = |c: char| matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{1f600}');
    assert!(text.chars().all(is_yaml), "{text:?}");
    assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap().len(), 1);
    assert!(!text.lines().any(|line| line.starts_with("- name")), "{text}");
}
