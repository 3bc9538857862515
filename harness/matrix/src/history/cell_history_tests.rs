use super::*;
use crate::history::testing::{attempt, cell, run, skipped};
use rstest::rstest;
use serde_json::Value;

const A: &str = "s/amd/a";

/// The entries of consecutive runs with these records of the cell.
fn seen(records: &[Value]) -> Vec<HistoryEntry> {
    let results = tempfile::tempdir().unwrap();
    let number = |(minute, record): (u8, &Value)| {
        let folder =
            run(results.path(), (&format!("run-{minute}"), "CPU"), minute, std::slice::from_ref(record));
        entries(&PastRun::read(&folder).unwrap()).remove(0)
    };
    (0..).zip(records).map(number).collect()
}

fn history(records: &[Value]) -> CellHistory {
    CellHistory::new(A.parse().unwrap(), seen(records), &Wanted::default()).unwrap()
}

fn with(verdict: &str, kernel: &str) -> Value {
    cell(A, verdict, (1.0, 11.0), kernel)
}

fn what(differences: &[Difference]) -> Vec<String> {
    let line = |Difference { level, what, before, after }: &Difference| {
        let of = level.map_or(String::new(), |level| format!("{level}'s "));
        format!("{of}{what}: {before} -> {after}")
    };
    differences.iter().map(line).collect()
}

#[test]
fn a_change_of_the_verdict_has_both_entries_and_their_differences() {
    let trail =
        history(&[with("pass", "6.12"), with("pass", "6.12"), with("fail", "6.13"), with("fail", "6.13")]);
    let [turn] = &trail.changes[..] else { panic!("{:#?}", trail.changes) };
    assert_eq!((turn.before.run.as_str(), turn.after.run.as_str()), ("run-1", "run-2"));
    assert_eq!(what(&turn.differences), ["L0's kernel: 6.12 -> 6.13", "L0's image: l06.12 -> l06.13"]);
    assert!(!trail.is_flaky());
    assert_eq!(trail.last.unwrap().run, "run-3");
}

#[test]
fn a_skip_is_not_a_change() {
    let trail = history(&[with("pass", "6.12"), skipped(A), with("pass", "6.12"), skipped(A)]);
    assert_eq!((trail.entries, trail.skipped, trail.changes.len()), (4, 2, 0));
    assert_eq!(trail.last.unwrap().verdict, VerdictWord::Pass);
}

#[rstest]
#[case::nothing_differs(&[with("pass", "6.12"), with("fail", "6.12")], true)]
#[case::not_one_after_the_other(&[with("pass", "6.12"), with("fail", "6.13"), with("fail", "6.12")], true)]
#[case::the_kernel_differs(&[with("pass", "6.12"), with("fail", "6.13"), with("pass", "6.14")], false)]
#[case::always_the_same(&[with("fail", "6.12"), with("fail", "6.12")], false)]
#[case::skips(&[with("pass", "6.12"), skipped(A)], false)]
fn different_verdicts_with_the_same_software_make_a_cell_flaky(
    #[case] records: &[Value],
    #[case] flaky: bool,
) {
    assert_eq!(history(records).is_flaky(), flaky);
}

#[test]
fn attempts_of_one_run_that_differ_make_a_cell_flaky() {
    let mut twice = with("pass", "6.12");
    twice["attempts"] = serde_json::json!([attempt("error", 0.0, 1.0), attempt("pass", 1.0, 9.0)]);
    let trail = history(&[twice]);
    assert_eq!(trail.flaky[0].verdicts, [VerdictWord::Error, VerdictWord::Pass]);
    assert_eq!(trail.flaky[0].runs, ["run-0", "run-0"]);
}

#[test]
fn a_run_in_which_a_verdict_changed_back_and_forth_is_shown_once() {
    let mut often = with("flaky", "6.12");
    let words = ["xpass", "fail", "xpass", "fail"];
    often["attempts"] = words.iter().map(|word| attempt(word, 0.0, 1.0)).collect();
    assert_eq!(history(&[often]).flaky.len(), 1);
}

#[test]
fn two_runs_of_a_known_flaky_cell_are_compared_by_their_verdicts() {
    let known = |word: &str| {
        let mut known = with("flaky", "6.12");
        known["attempts"] = serde_json::json!([attempt(word, 0.0, 1.0)]);
        known
    };
    assert_eq!(
        history(&[known("xpass"), known("fail")]).flaky[0].verdicts,
        [VerdictWord::Xpass, VerdictWord::Fail]
    );
    assert!(!history(&[known("xpass"), known("xpass")]).is_flaky());
}

#[rstest]
#[case::another_expectation(|record: &mut Value| record["expectation"] = serde_json::json!({
    "outcome": "stops", "stage": "l1-boot", "symptom": null, "known_stale": null,
}), &["expectation: "])]
#[case::another_metal(|record: &mut Value| record["metal"] = "native".into(), &["metal: emulated -> native"])]
#[case::another_image(|record: &mut Value| record["levels"][1]["image"]["digest"] = "other".into(), &["L1's image: l1? -> other"])]
#[case::a_kernel_that_is_not_known(|record: &mut Value| record["levels"][0]["kernel"] = Value::Null, &[])]
#[case::another_symptom(|record: &mut Value| record["symptom"] = "other".into(), &[])]
fn a_difference_is_between_values_that_both_know(#[case] change: fn(&mut Value), #[case] expected: &[&str]) {
    let before = with("pass", "6.12");
    let mut after = with("fail", "6.12");
    change(&mut after);
    let trail = history(&[before, after]);
    let found = what(&trail.changes[0].differences);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{found:?}");
    assert_eq!(trail.is_flaky(), expected.is_empty());
}

#[test]
fn durations_with_and_without_a_snapshot_are_separate() {
    let mut records: Vec<Value> = [12.0, 10.0, 17.0, 13.0]
        .into_iter()
        .map(|seconds| cell(A, "pass", (1.0, 1.0 + seconds), "6.12"))
        .collect();
    let key = "0".repeat(64);
    records[2]["restored"] = serde_json::json!({"key": key, "level": "l1", "saved": "2026-11-22T20:00:00Z"});
    let durations = history(&records).durations;
    let of =
        |durations: &Durations| (durations.saved, durations.median, durations.shortest, durations.longest);
    assert_eq!(
        durations.iter().map(of).collect::<Vec<_>>(),
        [(false, 12.0, 10.0, 13.0), (true, 17.0, 17.0, 17.0)]
    );
    assert_eq!(durations[0].seconds, [12.0, 10.0, 13.0]);
}

#[test]
fn only_selected_entries_count() {
    let records = [with("pass", "6.12"), with("fail", "6.13"), with("fail", "6.13")];
    let changes = |wanted: Wanted| {
        CellHistory::new(A.parse().unwrap(), seen(&records), &wanted).map(|trail| trail.changes.len())
    };
    assert_eq!(changes(Wanted { newest: Some(3), since: None }), Some(1));
    assert_eq!(changes(Wanted { newest: Some(2), since: None }), Some(0));
    assert_eq!(changes(Wanted { newest: None, since: Some("2026-11-22T20:01".into()) }), Some(0));
    assert_eq!(changes(Wanted { newest: None, since: Some("2026-12".into()) }), None);
}

#[rstest]
#[case::the_two_alone_show_it(&[], ("6.12", "6.12"), true)]
#[case::nothing_does(&[], ("6.12", "6.13"), false)]
#[case::the_kernel_of_now_had_both(&[("pass", "6.13")], ("6.12", "6.13"), true)]
#[case::the_kernel_of_before_had_both(&[("fail", "6.12")], ("6.12", "6.13"), true)]
#[case::a_third_kernel_had_both(&[("pass", "6.10"), ("fail", "6.10")], ("6.12", "6.13"), false)]
#[case::another_verdict(&[("error", "6.12"), ("xpass", "6.13")], ("6.12", "6.13"), false)]
fn a_change_flips_if_one_of_its_kernels_was_seen_with_both_verdicts(
    #[case] past: &[(&str, &str)],
    #[case] (before, now): (&str, &str),
    #[case] expected: bool,
) {
    let results = tempfile::tempdir().unwrap();
    let read = |name: &str, minute: u8, record: Value| {
        PastRun::read(&run(results.path(), (name, "CPU"), minute, &[record])).unwrap()
    };
    let runs = [read("before", 10, with("pass", before)), read("now", 20, with("fail", now))];
    let past: Vec<Value> = past.iter().map(|(verdict, kernel)| with(verdict, kernel)).collect();
    let words = (VerdictWord::Pass, VerdictWord::Fail);
    assert_eq!(flips(&A.parse().unwrap(), words, [&runs[0], &runs[1]], seen(&past)), expected);
}
