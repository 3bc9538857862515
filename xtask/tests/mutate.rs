//! `cargo xtask mutate`: a cell that notices all damage, one whose scenario adds damage that goes unnoticed, and one that is
//! not green itself. Boots stacks that stop at L1's launch.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::{Place, boots, copy_folder, of_cells, scenarios, trials};
use serde_json::Value;

/// Longest wait for a cell and its mutants, which take a few seconds each.
const ALL: Duration = Duration::from_secs(20 * 60);

/// The output of a command, line by line.
struct Mutated {
    output: Output,
    lines: Vec<Value>,
}

impl Mutated {
    fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    fn tally(&self, outcome: &str) -> u64 {
        let tally = self.lines.last().unwrap_or_else(|| panic!("{:#?}", self.output));
        tally["tally"][outcome].as_u64().unwrap_or_else(|| panic!("{:#?}", self.output))
    }

    /// The outcome of a mutation of the first cell.
    fn outcome(&self, mutation: &str) -> &str {
        let results = self.lines[0]["results"].as_array().unwrap();
        let result = results.iter().find(|result| result["mutation"] == mutation);
        result.unwrap_or_else(|| panic!("{mutation}: {results:#?}"))["outcome"].as_str().unwrap()
    }
}

fn mutate(place: &Place, scenarios: &Path, arguments: &[&str]) -> Mutated {
    let _guard = boots(&of_cells(scenarios, &arguments[..1]));
    let mut command = place.xtask();
    command.arg("mutate").args(arguments).args(["--format", "json", "--scenarios"]).arg(scenarios);
    command.arg("--results").arg(place.results());
    printed(place, command)
}

/// The output of a command that boots what `mutate` booted before.
fn resume(place: &Place, run: &Path) -> Mutated {
    let _guard = boots(&of_cells(&scenarios("sabotage"), &["documented-limitation/*"]));
    let mut command = place.xtask();
    command.args(["mutate", "--format", "json", "--resume"]).arg(run);
    printed(place, command)
}

fn printed(place: &Place, command: Command) -> Mutated {
    let output = assert_cmd::Command::from_std(command).timeout(ALL).output().unwrap();
    place.assert_nothing_left();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Mutated { output, lines }
}

/// The only run in the results, which is not part of the history.
fn only_run(place: &Place) -> PathBuf {
    let runs = fs::read_dir(place.results()).unwrap().map(|run| run.unwrap().path());
    let runs: Vec<PathBuf> = runs.filter(|run| run.join("run.json").exists()).collect();
    let [run] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!(purpose(run), "mutation");
    run.clone()
}

fn purpose(run: &Path) -> Value {
    let text = fs::read_to_string(run.join("run.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["purpose"].clone()
}

/// The run of the mutants of a run.
fn mutants_of(run: &Path) -> PathBuf {
    let mut runs = fs::read_dir(run.join("mutants")).unwrap();
    let found = runs.next().unwrap().unwrap().path();
    assert!(runs.next().is_none());
    found
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn a_sample_of_the_mutants_of_a_cell_is_killed_and_a_run_that_was_cut_off_is_resumed() {
    let place = Place::new();
    let mutated =
        mutate(&place, &scenarios("sabotage"), &["documented-limitation/*", "--sample", "3", "--seed", "1"]);
    assert_eq!(mutated.code(), Some(0), "{:#?}", mutated.output);
    assert_eq!((mutated.tally("cells"), mutated.tally("killed")), (1, 3), "{:#?}", mutated.output);
    assert_eq!(mutated.lines[0]["original"]["verdict"], "xfail");
    assert!(!place.results().join("latest").exists(), "a mutant is not the latest verdict on its cell");
    let run = only_run(&place);
    let mutants = mutants_of(&run);
    assert_eq!(purpose(&mutants), "mutation");
    let judged = lines(&run.join("mutations.jsonl"));
    assert_eq!(serde_json::from_str::<Value>(&judged[0]).unwrap(), mutated.lines[0]);
    for result in mutated.lines[0]["results"].as_array().unwrap() {
        let records = result["records"].as_str();
        assert!(records.is_none_or(|records| run.join(records).is_dir()), "{result}");
    }

    // The state after a kill while the verdict of the second mutant was written.
    let before = lines(&mutants.join("verdicts.jsonl"));
    fs::write(mutants.join("verdicts.jsonl"), format!("{}\n{}", before[0], &before[1][..40])).unwrap();
    let text = fs::read_to_string(mutants.join("run.json")).unwrap();
    let mut record: Value = serde_json::from_str(&text).unwrap();
    record["ended"] = Value::Null;
    fs::write(mutants.join("run.json"), record.to_string()).unwrap();
    fs::remove_file(run.join("mutations.jsonl")).unwrap();
    let resumed = resume(&place, &run);
    assert_eq!((resumed.code(), resumed.tally("killed")), (Some(0), 3), "{:#?}", resumed.output);
    assert_eq!(mutants_of(&run), mutants);
    let after = lines(&mutants.join("verdicts.jsonl"));
    assert_eq!((after.len(), &after[0]), (3, &before[0]), "what has a verdict keeps it");
    assert!(after[1..].iter().all(|line| !before.contains(line)), "the others were booted again");
    assert_eq!(lines(&run.join("verdicts.jsonl")).len(), 1, "the cell without damage was not");
    assert_eq!(lines(&run.join("mutations.jsonl")).len(), 1);

    let again = resume(&place, &run);
    assert_eq!(again.lines, resumed.lines, "nothing is left to boot");
    assert_eq!(lines(&mutants.join("verdicts.jsonl")), after);
}

fn damage_that_nothing_notices_survives_and_fails_the_command() {
    let place = Place::new();
    let changed = place.path().join("changed");
    copy_folder(&scenarios("sabotage"), &changed);
    let scenario = changed.join("faults/documented-limitation.toml");
    // L1 is never started, so nothing depends on the levels inside it.
    let mutations = "[[mutation]]\nname = \"l2-differs\"\nlevel = \"l2\"\nkernel-parameters = [\"quiet\"]\n\
                     [[mutation]]\nname = \"l1-differs\"\nlevel = \"l1\"\nkernel-parameters = [\"quiet\"]\n\
                     accept = \"L1 is never started\"\n";
    let text = fs::read_to_string(&scenario).unwrap();
    fs::write(&scenario, format!("{text}\n{mutations}")).unwrap();
    let mutated = mutate(&place, &changed, &["documented-limitation/*", "--record"]);
    assert_eq!(mutated.code(), Some(1), "{:#?}", mutated.output);
    assert_eq!(mutated.outcome("custom-l2-differs"), "survived");
    assert_eq!(mutated.outcome("custom-l1-differs"), "accepted");
    for killed in
        ["l0-without-kvm-module", "l0-bogus-property", "l1-bogus-property", "l0-qemu-killed-at-l0-kvm"]
    {
        assert_eq!(mutated.outcome(killed), "killed", "{killed}");
    }
    assert_eq!((mutated.tally("survived"), mutated.tally("undecided")), (1, 0), "{:#?}", mutated.output);
    let recorded = fs::read_to_string(changed.join("decided.toml")).unwrap();
    assert!(recorded.contains("survived = [\"custom-l2-differs\"]\n"), "{recorded}");
    assert!(
        recorded.contains("metal = \"emulated\"\n") && !recorded.contains("custom-l1-differs"),
        "{recorded}"
    );
    fs::remove_file(changed.join("decided.toml")).unwrap();
    let mut command = place.xtask();
    command.arg("mutate").arg("--record-from").arg(only_run(&place)).arg("--scenarios").arg(&changed);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:#?}");
    assert_eq!(
        fs::read_to_string(changed.join("decided.toml")).unwrap(),
        recorded,
        "a run that is over is taken in"
    );
}

fn mutants_of_a_cell_that_is_not_green_would_show_nothing() {
    let place = Place::new();
    let mutated = mutate(&place, &scenarios("sabotage"), &["l0-nested-off/*"]);
    assert_eq!(mutated.code(), Some(3), "{:#?}", mutated.output);
    assert_eq!((mutated.tally("not_green"), mutated.tally("killed")), (1, 0), "{:#?}", mutated.output);
}

trials! {
    a_sample_of_the_mutants_of_a_cell_is_killed_and_a_run_that_was_cut_off_is_resumed;
    #[ignore = "boots one more stack with all its mutants: one minute"]
    damage_that_nothing_notices_survives_and_fails_the_command;
    #[ignore = "boots one more stack"]
    mutants_of_a_cell_that_is_not_green_would_show_nothing;
}
