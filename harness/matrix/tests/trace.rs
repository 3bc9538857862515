//! The timeline of a run as a trace: its contents, and that a viewer can show it whatever the records contain.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

#[path = "../../../xtask/tests/common/trace.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod common;
mod report_fixtures;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{Seen, validate};
use nestmatrix::records::{Attempt, CellRecord, PastRun, VerdictWord};
use nestmatrix::trace::Trace;
use nestmatrix_stack::StageTime;
use proptest::prelude::*;
use report_fixtures::{outcome, past_run, record, stopped};
use rstest::rstest;
use serde_json::{Value, json};

const CELL: &str = "preview/amd/rhel-10/rhel-10/rhel-10";

fn run(cells: Vec<CellRecord>, folder: &Path) -> PastRun {
    past_run(folder, outcome(cells, 60, false))
}

fn attempt(start: f64, booted: Option<f64>, end: f64) -> Attempt {
    Attempt { booted, ..report_fixtures::attempt(start, end, VerdictWord::Pass) }
}

fn stages(of: &[(&str, f64, f64)]) -> Vec<StageTime> {
    of.iter()
        .map(|(stage, start, end)| {
            serde_json::from_value(json!({"stage": stage, "start": start, "end": end})).unwrap()
        })
        .collect()
}

/// A cell whose attempt began at the second `start`; its stack booted one second later.
fn cell(name: &str, start: f64) -> CellRecord {
    let mut record = record("limits", name, VerdictWord::Pass, 0.0);
    record.attempts = vec![attempt(start, Some(start + 1.0), start + 20.0)];
    record.stages = stages(&[
        ("l0-launch", 0.0, 1.0),
        ("l0-boot", 1.0, 3.0),
        ("l0-kvm", 3.0, 4.0),
        ("l1-launch", 4.0, 5.0),
        ("l1-boot", 5.0, 9.0),
        ("l1-kvm", 9.0, 10.0),
        ("l2-launch", 10.0, 11.0),
        ("l2-boot", 11.0, 17.0),
        ("l2-check", 17.0, 18.0),
    ]);
    record
}

fn traced(cells: Vec<CellRecord>, folder: &Path) -> (Value, Seen) {
    let trace = serde_json::to_value(Trace::new(&run(cells, folder))).unwrap();
    let seen = validate(&trace);
    (trace, seen)
}

/// The slices with this name: process, thread, begin and end, in seconds.
fn slices(trace: &Value, name: &str) -> Vec<(u64, u64, f64, f64)> {
    let events = trace["traceEvents"].as_array().unwrap();
    let named = events.iter().filter(|event| event["ph"] == "X" && event["name"] == name);
    let number = |event: &Value, member: &str| event[member].as_u64().unwrap();
    named
        .map(|event| {
            let from = number(event, "ts") as f64 / 1e6;
            let to = from + number(event, "dur") as f64 / 1e6;
            (number(event, "pid"), number(event, "tid"), from, to)
        })
        .collect()
}

#[test]
fn stages_stand_on_the_threads_of_their_levels_when_they_were() {
    let (trace, seen) = traced(vec![cell(CELL, 5.0)], Path::new("nowhere"));
    assert_eq!(slices(&trace, CELL), [(1, 1, 5.0, 25.0)], "the run shows the cell");
    assert_eq!(slices(&trace, "attempt 1"), [(2, 1, 5.0, 25.0)]);
    assert_eq!(slices(&trace, "provision"), [(2, 1, 5.0, 6.0)]);
    assert_eq!(slices(&trace, "diagnostics"), [(2, 1, 24.0, 25.0)]);
    assert_eq!(slices(&trace, "l0-boot"), [(2, 2, 7.0, 9.0)], "counted from when the stack began to boot");
    assert_eq!(slices(&trace, "l2-boot"), [(2, 4, 17.0, 23.0)]);
    let levels: Vec<(u64, f64, f64)> = seen.slices["level"]
        .iter()
        .map(|name| slices(&trace, name)[0])
        .map(|(_, tid, from, to)| (tid, from, to))
        .collect();
    assert_eq!(levels, [(2, 6.0, 24.0), (3, 10.0, 24.0), (4, 16.0, 24.0)], "until the stack ended");
}

#[test]
fn cells_that_ran_side_by_side_have_lines_of_their_own() {
    let other = "preview/amd/rhel-9/rhel-9/rhel-9";
    let third = "preview/amd/rhel-8/rhel-8/rhel-8";
    let cells = vec![cell(CELL, 5.0), cell(other, 6.0), cell(third, 25.0)];
    let (trace, _) = traced(cells, Path::new("nowhere"));
    let lanes = [CELL, other, third].map(|name| slices(&trace, name)[0].1);
    assert_eq!(lanes, [1, 2, 1]);
}

#[test]
fn what_failed_is_marked_where_and_when_it_was_seen() {
    let mut failed = stopped(cell(CELL, 5.0), "l1-boot", "kernel panic: \u{1b}[31mVFS");
    failed.verdict = VerdictWord::Fail;
    failed.stages.truncate(5);
    failed.attempts.insert(0, Attempt { verdict: VerdictWord::Error, ..attempt(1.0, None, 4.0) });
    let (trace, seen) = traced(vec![failed], Path::new("nowhere"));
    assert_eq!(seen.instants, ["error, retried", "fail at l1-boot"]);
    let events = trace["traceEvents"].as_array().unwrap();
    let failure = events.iter().find(|event| event["name"] == "fail at l1-boot").unwrap();
    assert_eq!((&failure["tid"], &failure["ts"]), (&3.into(), &15_000_000.into()));
    assert_eq!(failure["args"]["symptom"], "kernel panic: \\u{1b}[31mVFS");
    assert_eq!(slices(&trace, "attempt 1")[0].2, 1.0);
}

#[test]
fn counters_stand_where_they_were_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut with_file = cell(CELL, 5.0);
    with_file.folder = Some("cells/a".parse().unwrap());
    fs::create_dir_all(folder.path().join("cells/a")).unwrap();
    let counters = json!({"before": {"exits": 3, "nested_run": 0, "x": 1}, "after": {"exits": 90, "nested_run": 7, "x": 2}});
    fs::write(folder.path().join("cells/a/L0.kvm.json"), counters.to_string()).unwrap();
    fs::write(folder.path().join("cells/a/L1.kvm.json"), "{").unwrap();
    // If the files are gone, the evidence has the same numbers.
    let growth = |before: u64, after: u64, counter: &str| json!({"before": before, "after": after, "counter": counter});
    with_file.evidence = Some(json!({
        "exits": {"l0": growth(0, 0, "exits"), "l1": growth(1, 8, "exits")}, "nested_runs": {"l0": growth(0, 0, "nested_run")},
    }));
    let (trace, seen) = traced(vec![with_file], folder.path());
    let expected: BTreeMap<(u64, String), Vec<u64>> = [
        ((2, "L0 exits".to_owned()), vec![3, 90]),
        ((2, "L0 nested_run".to_owned()), vec![0, 7]),
        ((2, "L1 exits".to_owned()), vec![1, 8]),
    ]
    .into();
    assert_eq!(seen.counters, expected);
    let events = trace["traceEvents"].as_array().unwrap();
    let read =
        events.iter().filter(|event| event["name"] == "L0 exits").map(|event| event["ts"].as_u64().unwrap());
    assert_eq!(read.collect::<Vec<_>>(), [10_000_000, 24_000_000], "at the end of l0-kvm, and of the stack");
}

#[test]
fn a_link_that_leads_out_of_the_run_is_not_read() {
    let outside = tempfile::tempdir().unwrap();
    let inside = outside.path().join("run");
    let counters = outside.path().join("L0.kvm.json");
    fs::write(&counters, r#"{"before": {"exits": 1}, "after": {"exits": 2}}"#).unwrap();
    fs::create_dir_all(inside.join("cells/a")).unwrap();
    symlink(&counters, inside.join("cells/a/L0.kvm.json")).unwrap();
    symlink(outside.path(), inside.join("cells/b")).unwrap();
    for folder in ["cells/a", "cells/b"] {
        let mut leads_out = cell(CELL, 5.0);
        leads_out.folder = Some(folder.parse().unwrap());
        assert!(traced(vec![leads_out], &inside).1.counters.is_empty(), "{folder}");
    }
}

#[test]
fn a_run_of_old_has_its_stages_from_the_beginning_of_the_attempt_on() {
    let mut old = cell(CELL, 5.0);
    old.attempts[0].booted = None;
    let (trace, seen) = traced(vec![old], Path::new("nowhere"));
    assert_eq!(slices(&trace, "l0-boot")[0].2, 6.0);
    assert!(!seen.slices["stage"].contains(&"provision".to_owned()), "its duration is unknown");
}

fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![8 => 0.0_f64..100.0, 1 => -1e9_f64..1e9, 1 => proptest::num::f64::ANY]
}

prop_compose! {
    fn any_cell()(
        number in 0_usize..50,
        attempts in proptest::collection::vec((seconds(), proptest::option::of(seconds()), seconds()), 0..3),
        stages in proptest::collection::vec((0_usize..12, seconds(), seconds()), 0..9),
        stopped_at in proptest::option::of(0_usize..12),
        symptom in "\\PC{0,9}|\n\u{1b}",
        stale in any::<bool>(),
    ) -> CellRecord {
        const STAGES: [&str; 12] = [
            "provision", "restore", "l0-launch", "l0-boot", "l0-kvm", "step-1", "l1-launch", "l1-boot", "l1-kvm", "l2-launch",
            "l2-boot", "l2-check",
        ];
        let mut record = record("limits", &format!("preview/amd/rhel-{number}"), VerdictWord::Pass, 0.0);
        record.attempts = attempts.into_iter().map(|(start, booted, end)| attempt(start, booted, end)).collect();
        record.stages = stages.into_iter().map(|(stage, start, end)| {
            StageTime { stage: serde_json::from_value(STAGES[stage].into()).unwrap(), start, end }
        }).collect();
        record.stage = stopped_at.map(|stage| serde_json::from_value(STAGES[stage].into()).unwrap());
        record.symptom = stopped_at.map(|_| symptom);
        if stale {
            record.restored = Some(serde_json::from_value(json!({
                "key": "0".repeat(64), "level": "l1", "saved": "2026-11-22T20:00:00Z",
            })).unwrap());
        }
        record
    }
}

proptest! {
    #[test]
    fn a_trace_is_valid_whatever_the_records_say(cells in proptest::collection::vec(any_cell(), 0..8)) {
        traced(cells, Path::new("nowhere"));
    }
}

fn a_trace_with(event: Value) -> Value {
    let name =
        |name: &str, tid: u64| json!({"ph": "M", "name": name, "pid": 1, "tid": tid, "args": {"name": "it"}});
    let slice =
        json!({"ph": "X", "name": "parent", "cat": "c", "ts": 10, "dur": 10, "pid": 1, "tid": 1, "args": {}});
    let count = json!({"ph": "C", "name": "exits", "ts": 5, "pid": 1, "args": {"exits": 5}});
    json!({"traceEvents": [name("process_name", 0), name("thread_name", 1), slice, count, event]})
}

#[rstest]
#[case::whole(json!({"ph": "X", "name": "child", "cat": "c", "ts": 12, "dur": 8, "pid": 1, "tid": 1, "args": {}}), true)]
#[case::outlasts_its_parent(json!({"ph": "X", "name": "child", "cat": "c", "ts": 12, "dur": 9, "pid": 1, "tid": 1, "args": {}}), false)]
#[case::before_its_parent(json!({"ph": "X", "name": "child", "cat": "c", "ts": 9, "dur": 5, "pid": 1, "tid": 1, "args": {}}), false)]
#[case::less_than_nothing(json!({"ph": "X", "name": "child", "cat": "c", "ts": 12, "dur": -1, "pid": 1, "tid": 1, "args": {}}), false)]
#[case::a_thread_without_a_name(json!({"ph": "X", "name": "child", "cat": "c", "ts": 12, "dur": 1, "pid": 1, "tid": 2, "args": {}}), false)]
#[case::a_counter_that_goes_back(json!({"ph": "C", "name": "exits", "ts": 6, "pid": 1, "args": {"exits": 4}}), false)]
#[case::an_unknown_process(json!({"ph": "C", "name": "exits", "ts": 6, "pid": 2, "args": {"exits": 9}}), false)]
fn the_validator_finds_what_is_not_valid(#[case] event: Value, #[case] valid: bool) {
    let validated = std::panic::catch_unwind(|| validate(&a_trace_with(event)));
    assert_eq!(validated.is_ok(), valid, "{validated:?}");
}
