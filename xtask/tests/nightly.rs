//! The scripts of the CI workflows, run here: a night of two shards, merged, and compared with the night before. Boots.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use common::{Place, boots, checkout, copy_folder, of_cells, trials};
use serde_json::Value;

/// Longest time for one job.
const JOB: Duration = Duration::from_secs(15 * 60);

/// Two cells that end early: L0 has no KVM, or none that lets L1 have guests.
const CELLS: [&str; 2] = ["rhel-8-nesting-off/amd/*", "rhel-8-amd-cpu-support/amd/*"];

/// A script of `.ci`, called as in the workflows, with the program of these tests instead of one that cargo builds first.
fn script(place: &Place, name: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(checkout().join(".ci").join(name));
    command.args(arguments).envs(environment.iter().copied());
    command.env("XTASK", env!("CARGO_BIN_EXE_xtask")).env("NESTMATRIX_SNAPSHOTS", place.states());
    assert_cmd::Command::from_std(command).timeout(JOB).output().unwrap()
}

fn merge(place: &Place, results: &Path, merged: &str, baseline: &str) -> Output {
    merge_of(2, place, results, merged, baseline)
}

/// Merges a night of this many jobs.
fn merge_of(jobs: usize, place: &Place, results: &Path, merged: &str, baseline: &str) -> Output {
    let jobs = jobs.to_string();
    // Each night begins with nothing but the baseline and the history.
    let paths = [results, &place.path().join(merged).join("merged"), &place.path().join(baseline)];
    let [results, merged, baseline] = paths.map(|path| path.to_str().unwrap().to_owned());
    let history = place.path().join("history");
    let environment = [
        ("RESULTS", results.as_str()),
        ("MERGED", &merged),
        ("BASELINE", &baseline),
        ("HISTORY", history.to_str().unwrap()),
        ("JOBS", &jobs),
    ];
    script(place, "nightly-merge", &environment, &[])
}

fn a_night_is_planned_run_and_merged_and_fails_on_what_was_better_the_night_before() {
    let _guard = boots(&of_cells(&checkout().join("scenarios"), &CELLS));
    let place = Place::new();
    let night = [("NESTMATRIX_RUNNERS", "emulated"), ("NESTMATRIX_SHARDS", "2")];
    let planned = script(&place, "nightly-plan", &night, &CELLS);
    assert!(planned.status.success(), "{planned:#?}");
    let planned: Value = serde_json::from_slice(&planned.stdout).unwrap();
    let jobs = planned["include"].as_array().unwrap();
    assert_eq!(jobs.len(), 2, "{planned:#}");

    let results = place.path().join("results");
    for job in jobs {
        let of_job = results.join(job["artifact"].as_str().unwrap());
        let environment = [
            ("METAL", job["metal"].as_str().unwrap()),
            ("ARGUMENTS", job["arguments"].as_str().unwrap()),
            ("RESULTS", of_job.to_str().unwrap()),
        ];
        let ran = script(&place, "nightly-run", &environment, &[]);
        assert!(ran.status.success(), "{ran:#?}");
        assert!(fs::read_link(of_job.join("latest")).is_err(), "an artifact would hold it twice");
    }
    let first = merge(&place, &results, "first", "baseline");
    assert!(first.status.success(), "{first:#?}");
    let merged: Value =
        serde_json::from_slice(&fs::read(place.path().join("first/merged/run.json")).unwrap()).unwrap();
    assert_eq!((&merged["verdicts"]["xfail"], &merged["cells"]), (&2.into(), &2.into()), "{merged:#}");
    let junit = fs::read_to_string(place.path().join("first/merged/junit.xml")).unwrap();
    assert!(junit.contains(r#"<property name="verdict" value="xfail"/>"#), "{junit}");

    let lost = merge_of(3, &place, &results, "lost", "incomplete");
    assert_eq!(lost.status.code(), Some(3), "{lost:#?}");
    let said = String::from_utf8_lossy(&lost.stderr);
    assert!(said.contains("only 2 of 3 jobs have a run"), "{said}");
    assert!(!place.path().join("incomplete").exists(), "it does not become the baseline");

    // The next night has the same results, and the night after it has a worse one.
    let second = merge(&place, &results, "second", "baseline");
    assert!(second.status.success(), "{second:#?}");
    let worse = place.path().join("worse");
    copy_folder(&results, &worse);
    let changed = change_verdicts(&worse);
    assert_eq!(changed, 2);
    let third = merge(&place, &worse, "third", "baseline");
    assert_eq!(third.status.code(), Some(1), "{third:#?}");
    let said = String::from_utf8_lossy(&third.stdout);
    assert!(said.contains("regressions") && said.contains("rhel-8-nesting-off/amd/"), "{said}");
    // The history has the first night too, although nothing else of it is left.
    let history = fs::read_to_string(place.path().join("third/merged/history.txt")).unwrap();
    for word in ["rhel-8-nesting-off/amd/", "xfail", "fail", "later-"] {
        assert!(history.contains(word), "{word}: {history}");
    }
    // A bad night does not become the baseline: the same results stay bad, however often they are merged.
    let fourth = merge(&place, &worse, "fourth", "baseline");
    assert_eq!(fourth.status.code(), Some(1), "{fourth:#?}");
    // An accepted night becomes the baseline.
    assert!(merge(&place, &worse, "fifth", "accepted").status.success());
    assert!(merge(&place, &worse, "sixth", "accepted").status.success());
    place.assert_nothing_left();
}

/// Turns every xfail into a fail, as if the stacks had stopped elsewhere with another kernel (with the same one they would be
/// flaky). Returns the number of cells.
fn change_verdicts(folder: &Path) -> usize {
    let mut changed = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            changed += change_verdicts(&path);
        } else if path.file_name().unwrap() == "verdicts.jsonl" {
            let text = fs::read_to_string(&path).unwrap();
            changed += text.lines().filter(|line| line.contains(r#""verdict":"xfail""#)).count();
            let text = text.replace(r#""verdict":"xfail""#, r#""verdict":"fail""#);
            fs::write(&path, text.replace(r#""kernel":""#, r#""kernel":"later-"#)).unwrap();
        }
    }
    changed
}

fn a_shard_of_a_nights_mutants_is_booted_and_its_report_made() {
    let _guard = boots(&of_cells(&checkout().join("scenarios"), &CELLS[..1]));
    let place = Place::new();
    let results = place.path().join("results");
    let environment = [("SHARD", "1/1"), ("RESULTS", results.to_str().unwrap())];
    let ran = script(&place, "nightly-mutate", &environment, &[CELLS[0], "--sample", "1"]);
    assert!(ran.status.success(), "{ran:#?}");
    let run = fs::read_dir(&results).unwrap().next().unwrap().unwrap().path();
    let mut report = place.xtask();
    report.arg("report").arg(&run);
    let text = place.finish(report, JOB).stdout;
    assert!(text.contains("\n## Mutations\n") && text.contains(" killed"), "{text}");
    place.assert_nothing_left();
}

trials! {
    a_shard_of_a_nights_mutants_is_booted_and_its_report_made;
    a_night_is_planned_run_and_merged_and_fails_on_what_was_better_the_night_before;
}
