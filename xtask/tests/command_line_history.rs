//! The history and the trace on the command line: with runs that boot nothing, after a kill, damaged, and on a full disk. Boots
//! nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Place, Run, copy_folder, trace};
use rstest::rstest;
use serde_json::{Value, json};

/// Longest wait for a command that boots nothing.
const SOON: Duration = Duration::from_secs(60);

/// Four cells of the matrix, and one of them.
const CELLS: &str = "rhel-9-preview/amd/*";
const CELL: &str = "rhel-9-preview/amd/rhel-9.2+/rhel-9.2+/rhel-9.2+";

fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.xtask();
    command.env("NESTMATRIX_CACHE", place.path().join("cache")).args(arguments);
    command
}

fn finish(place: &Place, arguments: &[&str]) -> Run {
    place.finish(command(place, arguments), SOON)
}

const SKIPPING: [&str; 7] =
    ["run-matrix", CELLS, "--metal", "emulated", "--deny-stand-ins", "--results", "results"];

/// A run that boots nothing, with its records in the folder `results` of the place.
fn skipping(place: &Place, arguments: &[&str]) -> Run {
    finish(place, &[&SKIPPING[..], arguments].concat())
}

/// The history as JSON: one object per cell.
fn history(place: &Place) -> Vec<Value> {
    let run = finish(place, &["history", "*", "--results", "results", "--format", "json"]);
    assert_eq!(run.code, Some(0), "{run:#?}");
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often the history has seen each cell.
fn sightings(place: &Place) -> Vec<u64> {
    history(place).iter().map(|cell| cell["sightings"].as_u64().unwrap()).collect()
}

fn file(place: &Place) -> PathBuf {
    place.results().join("history.sqlite3")
}

/// The folder of the newest run.
fn newest(place: &Place) -> PathBuf {
    place.results().join("latest").canonicalize().unwrap()
}

/// Changes the newest run: its attempt at the cell got this verdict and took from the second `start` to `end`.
fn pretend(place: &Place, verdict: &str, (start, end): (f64, f64)) -> PathBuf {
    let folder = newest(place);
    let path = folder.join("verdicts.jsonl");
    let change = |line: &str| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        if record["cell"] == CELL {
            record["verdict"] = verdict.into();
            record["metal"] = "emulated".into();
            record["symptom"] = json!((verdict == "fail").then_some("kernel panic: \u{1b}[31m"));
            record["stage"] = json!((verdict == "fail").then_some("l1-boot"));
            record["stages"] = json!([
                {"stage": "l0-boot", "start": 0.0, "end": 1.0}, {"stage": "l1-boot", "start": 1.0, "end": 2.0},
            ]);
            record["attempts"] = json!([{
                "start": start, "end": end, "booted": start, "verdict": verdict, "from": null, "symptom": null,
                "cpu_seconds": 1.0, "peak_memory_mib": 1,
            }]);
        }
        format!("{record}\n")
    };
    let text: String = fs::read_to_string(&path).unwrap().lines().map(change).collect();
    fs::write(&path, text).unwrap();
    folder
}

fn name(folder: &Path) -> &str {
    folder.file_name().unwrap().to_str().unwrap()
}

#[test]
fn every_run_comes_into_the_history_once() {
    let place = Place::new();
    skipping(&place, &[]);
    skipping(&place, &[]);
    assert_eq!(sightings(&place), [2, 2, 2, 2]);
    let first = finish(&place, &["merge", "results/latest", "--results", "results"]);
    assert!(file(&place).is_file(), "{first:#?}");
    let last = skipping(&place, &["--resume", name(&newest(&place))]);
    assert_eq!(last.code, Some(2), "what was merged can't be resumed: {last:#?}");
    assert_eq!(sightings(&place), [2, 2, 2, 2], "a merged run has nothing of its own");
    let filtered = finish(&place, &["history", CELL, "--results", "results"]);
    assert_eq!(filtered.code, Some(0));
    assert!(
        filtered.stdout.starts_with(&format!("{CELL}\n  seen 2 times, always skipped, last ")),
        "{filtered:#?}"
    );
    assert_eq!(finish(&place, &["history", "no/*", "--results", "results"]).code, Some(4));
    assert_eq!(
        finish(&place, &["history", "*", "--since", "yesterday", "--results", "results"]).code,
        Some(2)
    );
    assert_eq!(finish(&place, &["history", "*", "--results", "nowhere"]).code, Some(2));
    assert_eq!(finish(&place, &["history", "--results", "results"]).code, Some(2), "which cells?");
}

#[test]
fn a_merged_run_that_is_put_elsewhere_comes_only_into_a_history_that_is_there() {
    let place = Place::new();
    skipping(&place, &[]);
    pretend(&place, "pass", (1.0, 31.0));
    finish(&place, &["merge", "results/latest", "--into", "elsewhere/merged"]);
    assert!(place.path().join("elsewhere/merged/run.json").is_file());
    assert_eq!(fs::read_dir(place.path().join("elsewhere")).unwrap().count(), 1, "nothing but the run");
    finish(&place, &["history", "*", "--results", "elsewhere"]);
    skipping(&place, &[]);
    pretend(&place, "pass", (1.0, 41.0));
    finish(&place, &["merge", "results/latest", "--into", "elsewhere/another"]);
    // Without the folders, only what was added before can be seen.
    for run in ["merged", "another"] {
        fs::remove_dir_all(place.path().join("elsewhere").join(run)).unwrap();
    }
    let shown = finish(&place, &["history", CELL, "--results", "elsewhere"]);
    assert!(shown.stdout.contains("seen 2 times"), "{shown:#?}");
}

#[test]
fn a_flaky_cell_is_told_as_such_and_fails_all_the_same() {
    let place = Place::new();
    let run = |verdict: &str, times: (f64, f64)| {
        skipping(&place, &[]);
        name(&pretend(&place, verdict, times)).to_owned()
    };
    let (pass, fail) = (run("pass", (1.0, 31.0)), run("fail", (1.0, 41.0)));
    let diff = finish(&place, &["diff", &pass, &fail, "--results", "results"]);
    assert_eq!(diff.code, Some(1), "{diff:#?}");
    assert!(
        diff.stdout.starts_with(
            "flaky: known as flaky, or both verdicts were seen with the same software\n  pass -> fail  "
        ),
        "{diff:#?}"
    );
    let back = finish(&place, &["diff", &fail, &pass, "--results", "results", "--format", "json"]);
    assert_eq!(back.code, Some(0), "{back:#?}");
    assert!(back.stdout.contains(r#""change":"flaky""#), "{back:#?}");
    let base = format!("results/{pass}");
    let merged =
        finish(&place, &["merge", &format!("results/{fail}"), "--baseline", &base, "--results", "results"]);
    assert_eq!(merged.code, Some(1), "{merged:#?}");
    assert!(
        merged.stdout.contains("flaky: known as flaky, or both verdicts were seen with the same software\n"),
        "{merged:#?}"
    );

    let shown = finish(&place, &["history", CELL, "--results", "results"]);
    let said = shown.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("flaky: pass in run")
            && said.contains(&format!("in run {fail}, with the same software")),
        "{said}"
    );
    assert!(said.contains("nothing else that is recorded changed"), "{said}");
    assert!(said.contains("emulated, without a snapshot 35.0 30.0 40.0 40.0 2 ▁█"), "{said}");
    assert!(!shown.stdout.contains('\u{1b}'), "what a guest says is harmless: {said}");
}

#[test]
fn a_run_is_held_against_its_baseline_also_when_it_is_gone_on_with() {
    let place = Place::new();
    skipping(&place, &[]);
    let base = pretend(&place, "fail", (1.0, 31.0));
    fs::rename(&base, place.path().join("base")).unwrap();
    // It was bad before.
    let resume = |arguments: &[&str]| {
        let other = skipping(&place, arguments);
        let folder = pretend(&place, "fail", (1.0, 41.0));
        let run = fs::read_to_string(folder.join("run.json")).unwrap();
        let mut record: Value = serde_json::from_str(&run).unwrap();
        record["interrupted"] = true.into();
        fs::write(folder.join("run.json"), record.to_string()).unwrap();
        (other, finish(&place, &["run-matrix", "--resume", "latest", "--results", "results"]))
    };
    let (_, without) = resume(&[]);
    assert_eq!(without.code, Some(1), "{without:#?}");
    let (skipped, with) = resume(&["--baseline", "base"]);
    assert!(skipped.stdout.contains("gone\n  fail -> skip  "), "{skipped:#?}");
    assert_eq!(skipped.code, Some(4), "nothing ran");
    assert_eq!(with.code, Some(0), "{with:#?}");
    let (none, alone) = resume(&["--baseline", "no-such-run"]);
    assert!(none.stderr.contains("compared with nothing: --baseline: no-such-run is not a run"), "{none:#?}");
    assert_eq!(alone.code, Some(1), "{alone:#?}");
    let (_, itself) = resume(&["--baseline", "latest"]);
    assert!(itself.stderr.contains("--baseline is this very run"), "{itself:#?}");
    assert_eq!(itself.code, Some(1));
}

#[test]
fn a_damaged_history_is_told_set_aside_and_made_anew() {
    let place = Place::new();
    let good = skipping(&place, &[]);
    fs::write(file(&place), "no database ".repeat(1000)).unwrap();
    let run = skipping(&place, &[]);
    assert_eq!(run.code, good.code);
    assert!(
        run.stderr.contains("warning: results/history.sqlite3 was damaged: file is not a database"),
        "{run:#?}"
    );
    assert!(run.stderr.contains("history.sqlite3.aside-1; a new one is made"), "{run:#?}");
    assert_eq!(sightings(&place), [2, 2, 2, 2]);
    assert!(place.results().join("history.sqlite3.aside-1").is_file());
}

#[test]
fn a_history_is_rebuilt_from_the_runs_that_are_there() {
    let place = Place::new();
    skipping(&place, &[]);
    fs::remove_dir_all(newest(&place)).unwrap();
    // A run is identified by its name and the second in which it began, so this run needs its own.
    std::thread::sleep(Duration::from_secs(1));
    skipping(&place, &[]);
    assert_eq!(sightings(&place), [2, 2, 2, 2], "what was seen stays, though a run's folder is gone");
    let rebuilt = finish(&place, &["history", "--rebuild", "--results", "results"]);
    assert_eq!(rebuilt.code, Some(0), "{rebuilt:#?}");
    assert!(rebuilt.stderr.contains("is now results/history.sqlite3.aside-1"), "{rebuilt:#?}");
    assert!(rebuilt.stderr.contains("has 4 verdicts of 1 runs"), "{rebuilt:#?}");
    assert_eq!(sightings(&place), [1, 1, 1, 1]);
}

/// What prevents a history from being written, and the message about it.
#[rstest]
#[case::something_is_in_the_way(|place: &Place| fs::create_dir(file(place)).unwrap(), 0)]
#[case::it_is_of_a_newer_version(|place: &Place| {
    skipping(place, &[]);
    let mut bytes = fs::read(file(place)).unwrap();
    // The user version is at this offset of the header, big endian.
    bytes[60..64].copy_from_slice(&9_u32.to_be_bytes());
    fs::write(file(place), bytes).unwrap();
}, 2)]
fn a_run_that_can_t_write_its_history_keeps_its_verdicts(#[case] prevent: fn(&Place), #[case] code: i32) {
    let place = Place::new();
    fs::create_dir(place.results()).unwrap();
    prevent(&place);
    let before = fs::read(file(&place)).ok();
    let run = skipping(&place, &[]);
    assert_eq!((run.code, run.cells().len()), (Some(4), 4), "{run:#?}");
    let said = "warning: the run is not in the history yet; its verdicts are in its folder: ";
    assert!(run.stderr.contains(said), "{run:#?}");
    assert_eq!(fs::read(file(&place)).ok(), before, "it is left alone");
    let history = finish(&place, &["history", CELL, "--results", "results"]);
    assert_eq!(history.code, Some(code), "{history:#?}");
    assert_eq!(history.stdout.contains("seen once, always skipped"), code == 0, "{history:#?}");
}

#[test]
fn a_run_whose_disk_is_full_keeps_its_verdicts_and_comes_in_later() {
    let place = Place::new();
    // Enough for the records, not for the history: 16 KiB per file. Without the trap, the kernel kills a process that writes
    // more.
    let program = command(&place, &[]).get_program().to_owned();
    let mut full = Command::new("bash");
    full.arg("-c").arg("trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"").arg(program).args(SKIPPING);
    let template = command(&place, &[]);
    full.current_dir(place.path());
    template.get_envs().for_each(|(name, value)| match value {
        Some(value) => _ = full.env(name, value),
        None => _ = full.env_remove(name),
    });
    let run = place.finish(full, SOON);
    assert_eq!((run.code, run.cells().len()), (Some(4), 4), "{run:#?}");
    assert!(run.stderr.contains("warning: the run is not in the history yet"), "{run:#?}");
    assert_eq!(sightings(&place), [1, 1, 1, 1]);
}

#[test]
fn a_writer_that_is_killed_leaves_a_history_that_others_go_on_with() {
    let place = Place::new();
    skipping(&place, &[]);
    let template = pretend(&place, "pass", (1.0, 31.0));
    let runs = 60;
    for number in 1..runs {
        let folder = place.results().join(format!("copy-{number}"));
        copy_folder(&template, &folder);
        let mut record: Value =
            serde_json::from_str(&fs::read_to_string(folder.join("run.json")).unwrap()).unwrap();
        record["began"] = format!("2026-01-01T00:00:{number:02}Z").into();
        record["run"] = format!("copy-{number}").into();
        fs::write(folder.join("run.json"), record.to_string()).unwrap();
    }
    let mut killed = 0;
    for round in 0..12_u64 {
        fs::remove_file(file(&place)).unwrap();
        let mut history = command(&place, &["history", "*", "--results", "results"]);
        let mut child = history.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // At a different moment in each round.
        std::thread::sleep(Duration::from_millis(round * round * 3));
        let _ = child.kill();
        killed += u32::from(child.wait().unwrap().signal().is_some());
        let shown = finish(&place, &["history", CELL, "--results", "results"]);
        assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "nothing is damaged: {shown:#?}");
        assert!(shown.stdout.contains(&format!("seen {runs} times")), "{shown:#?}");
    }
    assert!(killed > 0, "none was killed while it wrote");
}

#[test]
fn a_run_is_written_as_a_trace() {
    let place = Place::new();
    skipping(&place, &[]);
    let folder = pretend(&place, "fail", (1.0, 31.0));
    let run = finish(&place, &["trace", "--results", "results"]);
    assert_eq!(run.code, Some(0), "{run:#?}");
    let text = fs::read_to_string(folder.join("trace.json")).unwrap();
    let trace: Value = serde_json::from_str(&text).unwrap();
    let seen = trace::validate(&trace);
    assert_eq!(seen.slices["cell"], [CELL]);
    assert_eq!(seen.instants, ["fail at l1-boot"]);
    let out = finish(&place, &["trace", name(&folder), "--output", "-", "--results", "results"]);
    assert_eq!(out.stdout, text);
    let refused = finish(&place, &["trace", "--output", "no/such/folder", "--results", "results"]);
    assert_eq!(refused.code, Some(3), "{refused:#?}");
    assert_eq!(finish(&place, &["trace", "none", "--results", "results"]).code, Some(2));
}
