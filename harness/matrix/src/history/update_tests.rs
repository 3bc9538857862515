use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::Value;

use super::*;
use crate::history::testing::{attempt, cell, run, skipped};
use crate::records::Merge;

const A: &str = "s/amd/a";
const B: &str = "s/amd/b";

fn update(results: &Path) -> Updated {
    let (mut history, aside) = History::open(results).unwrap();
    assert_eq!(aside, None);
    history.update().unwrap()
}

/// The runs and verdicts of a cell in the history.
fn seen(results: &Path, cell: &str) -> Vec<(String, String)> {
    let (history, _) = History::open(results).unwrap();
    let entries = history.entries(&cell.parse().unwrap()).unwrap();
    entries.into_iter().map(|entry| (entry.run, entry.verdict.to_string())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(run, verdict)| ((*run).to_owned(), (*verdict).to_owned())).collect()
}

#[test]
fn a_second_update_adds_nothing() {
    let results = tempfile::tempdir().unwrap();
    let results = results.path();
    let folder = run(results, ("one", "CPU"), 1, &[cell(A, "pass", (1.0, 2.0), "6.12"), skipped(B)]);
    assert_eq!(update(results), Updated { folders: 1, verdicts: 2, unread: Vec::new() });
    assert_eq!(update(results), Updated::default(), "nothing is new");
    // A copy is of another time, and has another name.
    std::fs::create_dir(results.join("copy")).unwrap();
    for file in ["run.json", "verdicts.jsonl", "cells.txt"] {
        std::fs::copy(folder.join(file), results.join("copy").join(file)).unwrap();
    }
    assert_eq!(update(results), Updated { folders: 1, verdicts: 0, unread: Vec::new() });
    assert_eq!(seen(results, A), pairs(&[("one", "pass")]));
    assert_eq!(seen(results, B), pairs(&[("one", "skip")]));
}

#[test]
fn debug_sessions_and_trials_of_a_search_are_left_out() {
    let results = tempfile::tempdir().unwrap();
    let results = results.path();
    for (name, purpose, minute) in [("held", "repro", 1), ("trial", "bisect", 2), ("run", "matrix", 3)] {
        let folder = run(results, (name, "CPU"), minute, &[cell(A, "fail", (1.0, 2.0), "6.12")]);
        let path = folder.join("run.json");
        let mut record: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        record["purpose"] = purpose.into();
        std::fs::write(&path, record.to_string()).unwrap();
    }
    assert_eq!(update(results).verdicts, 1);
    assert_eq!(seen(results, A), pairs(&[("run", "fail")]));
}

#[test]
fn a_resumed_run_adds_its_new_verdicts() {
    let results = tempfile::tempdir().unwrap();
    let results = results.path();
    let first = cell(A, "pass", (1.0, 2.0), "6.12");
    let folder = run(results, ("one", "CPU"), 1, std::slice::from_ref(&first));
    let mut verdicts = OpenOptions::new().append(true).open(folder.join("verdicts.jsonl")).unwrap();
    let second = cell(B, "fail", (2.0, 3.0), "6.12").to_string() + "\n";
    // As it is killed while it writes.
    verdicts.write_all(&second.as_bytes()[..200]).unwrap();
    assert_eq!(update(results).verdicts, 1);
    verdicts.write_all(&second.as_bytes()[200..]).unwrap();
    assert_eq!(update(results).verdicts, 1);
    assert_eq!((seen(results, A), seen(results, B)), (pairs(&[("one", "pass")]), pairs(&[("one", "fail")])));
}

#[test]
fn a_merged_run_adds_only_new_verdicts() {
    let results = tempfile::tempdir().unwrap();
    let results = results.path();
    let elsewhere = tempfile::tempdir().unwrap();
    // Of the same second and by the same name, on another machine.
    let mine = run(results, ("one", "CPU"), 1, &[cell(A, "pass", (1.0, 2.1), "6.12")]);
    let theirs = run(elsewhere.path(), ("one", "other CPU"), 1, &[cell(A, "fail", (1.0, 2.1), "6.12")]);
    assert_eq!(update(results).verdicts, 1);
    let merged = Merge::read(&[theirs.clone(), mine]).unwrap().write(results, None, Vec::new()).unwrap();
    assert_eq!(update(results).verdicts, 1);
    let expected = pairs(&[("one", "pass"), ("one", "fail")]);
    assert_eq!(seen(results, A), expected);
    // Merged once more, with another run between, all have other names in it.
    let third = run(elsewhere.path(), ("one-2", "third CPU"), 1, &[cell(A, "pass", (1.0, 2.1), "6.12")]);
    let again = Merge::read(&[third, theirs, merged.outcome.folder]).unwrap();
    again.write(results, None, Vec::new()).unwrap();
    assert_eq!(update(results).verdicts, 1);
    assert_eq!(seen(results, A).len(), 3);

    let (rebuilt, aside) = History::anew(results).unwrap();
    assert!(aside.is_some());
    let mut rebuilt = rebuilt;
    rebuilt.update().unwrap();
    let mut words: Vec<String> = seen(results, A).into_iter().map(|(_, verdict)| verdict).collect();
    words.sort();
    assert_eq!(words, ["fail", "pass", "pass"], "the same from the folders, in any order");
}

#[test]
fn runs_that_begin_in_the_same_second_on_the_same_machine_are_two() {
    let results = tempfile::tempdir().unwrap();
    let results = results.path();
    run(results, ("one", "CPU"), 1, &[cell(A, "pass", (1.0, 2.0), "6.12"), skipped(B)]);
    run(results, ("one-2", "CPU"), 1, &[cell(A, "pass", (1.0, 2.5), "6.12"), skipped(B)]);
    assert_eq!(update(results).verdicts, 4);
    assert_eq!(seen(results, A), pairs(&[("one", "pass"), ("one-2", "pass")]));
    assert_eq!(seen(results, B), pairs(&[("one", "skip"), ("one-2", "skip")]));
}

#[test]
fn an_unreadable_folder_is_reported_once_and_does_not_affect_others() {
    let results = tempfile::tempdir().unwrap();
    let results = results.path();
    let change = |name: &str, change: fn(&mut Value)| {
        let folder = run(results, (name, "CPU"), 1, &[cell(A, "pass", (1.0, 2.0), "6.12")]);
        let text = std::fs::read_to_string(folder.join("run.json")).unwrap();
        let mut record: Value = serde_json::from_str(&text).unwrap();
        change(&mut record);
        std::fs::write(folder.join("run.json"), record.to_string()).unwrap();
        folder
    };
    change("a-old", |record| record["format"] = 1.into());
    change("b-strange", |record| record["machine"] = 7.into());
    let garbage = change("c-garbage", |_| {});
    std::fs::write(garbage.join("verdicts.jsonl"), "{\u{1b}[31m}\n").unwrap();
    std::fs::remove_file(change("d-without", |_| {}).join("verdicts.jsonl")).unwrap();
    std::fs::create_dir(results.join("e-no-run")).unwrap();
    std::os::unix::fs::symlink("z", results.join("latest")).unwrap();
    run(results, ("z", "CPU"), 2, &[cell(A, "fail", (1.0, 2.0), "6.12")]);
    let updated = update(results);
    assert_eq!((updated.folders, updated.verdicts), (1, 1));
    let why: Vec<String> = updated.unread.into_iter().map(|unread| unread.why).collect();
    assert_eq!(why.len(), 4, "{why:#?}");
    assert!(why[0].contains("has format 1"), "{why:#?}");
    assert!(why[3].contains("verdicts.jsonl"), "{why:#?}");
    assert_eq!(update(results), Updated::default());
    // Mended, it comes in.
    std::fs::write(garbage.join("verdicts.jsonl"), "").unwrap();
    assert_eq!(update(results), Updated { folders: 1, verdicts: 0, unread: Vec::new() });
}

#[test]
fn concurrent_updates_lose_nothing() {
    let results = tempfile::tempdir().unwrap();
    let results = results.path();
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            scope.spawn(move || {
                for round in 0..5_u8 {
                    let name = format!("{number}-{round}");
                    let processor = format!("CPU {number}");
                    run(results, (&name, &processor), round, &[cell(A, "pass", (1.0, 2.0), "6.12")]);
                    update(results);
                }
            });
        }
    });
    assert_eq!(seen(results, A).len(), 40);
    assert_eq!(update(results), Updated::default());
}

#[test]
fn later_verdicts_of_a_resumed_run_have_the_machine_that_resumed_it() {
    let results = tempfile::tempdir().unwrap();
    let results = results.path();
    let mut late = cell(B, "pass", (700.0, 800.0), "6.12");
    late["attempts"] = serde_json::json!([attempt("pass", 700.0, 800.0)]);
    let folder = run(results, ("one", "CPU"), 1, &[cell(A, "pass", (1.0, 2.0), "6.12"), late]);
    let text = std::fs::read_to_string(folder.join("run.json")).unwrap();
    let mut record: Value = serde_json::from_str(&text).unwrap();
    let mut machine = record["machine"].clone();
    machine["processor"] = "another CPU".into();
    record["resumed"] = serde_json::json!([
        {"at": "2026-11-22T20:11:00Z", "nestmatrix": "0.2.0", "machine": machine, "verdicts": 1},
    ]);
    std::fs::write(folder.join("run.json"), record.to_string()).unwrap();
    update(results);
    let (history, _) = History::open(results).unwrap();
    let with = |cell: &str| history.entries(&cell.parse().unwrap()).unwrap().remove(0).with;
    assert_eq!((with(A).processor.as_str(), with(A).nestmatrix.as_str()), ("CPU", "0.1.0"));
    assert_eq!((with(B).processor.as_str(), with(B).nestmatrix.as_str()), ("another CPU", "0.2.0"));
}
