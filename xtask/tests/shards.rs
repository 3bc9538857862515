//! A run in parts: merged shards, and a run that is killed and resumed, have the same results as an uninterrupted run. Boots
//! four small cells several times, most of them from a snapshot.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Place, Run, Running, boots, of_cells, scenarios, trace, trials};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Longest wait for a run of all four.
const ALL: Duration = Duration::from_secs(20 * 60);
/// Longest wait for a command that boots nothing.
const SOON: Duration = Duration::from_secs(60);

/// Four cells that get no further than L1's launch, with three different verdicts.
const CELLS: [&str; 4] =
    ["documented-limitation/*", "l0-nested-off/*", "feature-not-given/*", "metal-killed/*"];

/// A run over them, one after the other, with its records in the folder `results` of the place.
fn run_matrix(place: &Place, results: &str) -> Command {
    let mut command = place.xtask();
    command.args(["run-matrix", "--results"]).arg(place.path().join(results));
    command
        .args(["--metal", "emulated", "--jobs", "1", "--scenarios"])
        .arg(scenarios("sabotage"))
        .args(CELLS);
    command
}

/// Resumes the newest run in the folder `results` of the place.
fn resume(place: &Place, results: &str) -> Command {
    let mut command = place.xtask();
    command.args(["run-matrix", "--resume", "latest", "--results"]).arg(place.path().join(results));
    command
}

fn finish(place: &Place, command: Command, results: &str, limit: Duration) -> Run {
    let output = assert_cmd::Command::from_std(command).timeout(limit).output().unwrap();
    place.assert_nothing_left();
    Run::new(output, &place.path().join(results))
}

/// The result of each cell; each has one line.
fn verdicts(run: &Run) -> BTreeMap<String, (String, Value, Value)> {
    let mut verdicts = BTreeMap::new();
    for cell in run.cells() {
        let name = cell.text("cell").to_owned();
        let seen =
            (cell.text("verdict").to_owned(), cell.record["stage"].clone(), cell.record["symptom"].clone());
        assert!(fs::read_dir(cell.file("")).unwrap().next().is_some(), "{name} has its files");
        assert_eq!(verdicts.insert(name, seen), None, "each cell once: {run:#?}");
    }
    verdicts
}

fn shards_that_are_merged_and_a_killed_run_that_is_resumed_equal_a_run_in_one_go() {
    let _guard = boots(&of_cells(&scenarios("sabotage"), &CELLS));
    // One place, so that all are restored from the snapshots of the first.
    let place = Place::new();
    let whole = finish(&place, run_matrix(&place, "whole"), "whole", ALL);
    assert_eq!(verdicts(&whole).len(), CELLS.len(), "{whole:#?}");
    assert_eq!(whole.code, Some(3), "an error is among them: {whole:#?}");
    its_trace_is_valid(&place, &whole);
    shards_that_are_merged_equal(&place, &whole);
    a_run_that_is_killed_and_resumed_equals(&place, &whole);
}

/// A real run's timeline, with all its slices.
fn its_trace_is_valid(place: &Place, whole: &Run) {
    let mut command = place.xtask();
    command.args(["trace", "--output", "-", "--results"]).arg(place.path().join("whole"));
    let run = finish(place, command, "whole", SOON);
    let seen = trace::validate(&serde_json::from_str(&run.stdout).unwrap());
    let stages: usize = whole.cells().iter().map(|cell| cell.stages().len()).sum();
    // In addition to the stages of its last attempt, each cell has the time before and after its stack.
    let booted = whole.cells().iter().filter(|cell| !cell.stages().is_empty()).count();
    assert_eq!(seen.slices["cell"].len(), CELLS.len());
    assert_eq!(seen.slices["stage"].len(), stages + 2 * booted, "{seen:#?}");
    assert!(seen.counters.keys().any(|(_, name)| name == "L0 exits"), "{seen:#?}");
}

fn shards_that_are_merged_equal(place: &Place, whole: &Run) {
    // By the durations of the first run, so that both shards have cells.
    let shard = |number: u8| {
        let results = format!("shard-{number}");
        let mut command = run_matrix(place, &results);
        command.args(["--shard", &format!("{number}/2"), "--history"]).arg(place.path().join("whole/latest"));
        finish(place, command, &results, ALL)
    };
    let shards = [1, 2].map(shard);
    for (shard, name) in shards.iter().zip(["1/2", "2/2"]) {
        assert!(!shard.cells().is_empty(), "{shard:#?}");
        assert_eq!(shard.record()["shard"], name);
    }
    let mut merge = place.xtask();
    let runs = [1, 2].map(|number| place.path().join(format!("shard-{number}/latest")));
    merge.arg("merge").args(runs).arg("--into").arg(place.path().join("merged/latest"));
    let merged = finish(place, merge, "merged", SOON);
    assert_eq!(verdicts(&merged), verdicts(whole));
    let (record, expected) = (merged.record(), whole.record());
    assert_eq!((&record["verdicts"], &record["cells"]), (&expected["verdicts"], &expected["cells"]));
    assert_eq!(merged.code, whole.code, "{merged:#?}");
    assert!(fs::exists(place.path().join("merged/latest/junit.xml")).unwrap());
}

fn a_run_that_is_killed_and_resumed_equals(place: &Place, whole: &Run) {
    let mut harness = Running::start(place, run_matrix(place, "killed"));
    let folder = place.path().join("killed/latest");
    wait_for_a_verdict(&folder);
    let going_on = refused(resume(place, "killed"));
    assert!(going_on.contains("is still in progress"), "{going_on}");
    harness.send(Signal::SIGKILL);
    assert_eq!(harness.end().status.signal(), Some(Signal::SIGKILL as i32));
    place.wait_for_no_process();
    let killed = so_far(place, "killed");
    let (began, before) = (killed.record()["began"].clone(), complete_lines(&folder));
    assert!((1..CELLS.len()).contains(&before), "{before} verdicts");

    let resumed = finish(place, resume(place, "killed"), "killed", ALL);
    assert!(
        resumed.stderr.contains(&format!("resuming: {before} of 4 cells have a verdict")),
        "{resumed:#?}"
    );
    assert_eq!(verdicts(&resumed), verdicts(whole));
    let (record, expected) = (resumed.record(), whole.record());
    assert_eq!((&record["verdicts"], &record["cells"]), (&expected["verdicts"], &expected["cells"]));
    assert_eq!((&record["began"], &record["interrupted"]), (&began, &Value::Bool(false)));
    assert_eq!(record["resumed"].as_array().unwrap().len(), 1, "{record:#}");
    assert_eq!(resumed.code, whole.code);

    let again = finish(place, resume(place, "killed"), "killed", SOON);
    assert!(again.stderr.contains("there is nothing to resume"), "{again:#?}");
    assert_eq!((again.code, again.record()), (whole.code, record), "nothing is changed");
}

/// The verdicts so far of the newest run in the folder `results` of the place.
fn so_far(place: &Place, results: &str) -> Run {
    let output = Command::new("true").output().unwrap();
    Run::new(output, &place.path().join(results))
}

/// The message of a command with bad usage.
fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    said.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

/// Waits until the run has its first verdict.
fn wait_for_a_verdict(folder: &Path) {
    let began = Instant::now();
    while !fs::read_to_string(folder.join("verdicts.jsonl")).is_ok_and(|text| text.contains('\n')) {
        assert!(began.elapsed() < ALL, "no verdict within {ALL:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Complete verdicts.
fn complete_lines(folder: &Path) -> usize {
    fs::read(folder.join("verdicts.jsonl")).unwrap().iter().filter(|byte| **byte == b'\n').count()
}

trials! {
    #[ignore = "boots four small stacks several times: two minutes"]
    shards_that_are_merged_and_a_killed_run_that_is_resumed_equal_a_run_in_one_go;
}
