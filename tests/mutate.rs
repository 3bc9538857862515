//! `cargo xtask mutate`: a cell that notices all damage, one whose scenario adds damage that nothing notices, and one that is not
//! green itself. Boots stacks that come no further than to L1's launch.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use common::{Place, boots, copy_folder, of_cells, scenarios, trials};
use serde_json::Value;

/// Longest wait for a cell and its mutants, which take a few seconds each.
const ALL: Duration = Duration::from_secs(20 * 60);

/// What a command printed, line by line.
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
    let output = assert_cmd::Command::from_std(command).timeout(ALL).output().unwrap();
    place.assert_nothing_left();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Mutated { output, lines }
}

fn a_sample_of_the_mutants_of_a_cell_is_killed_and_kept_apart_from_other_runs() {
    let place = Place::new();
    let mutated =
        mutate(&place, &scenarios("sabotage"), &["documented-limitation/*", "--sample", "3", "--seed", "1"]);
    assert_eq!(mutated.code(), Some(0), "{:#?}", mutated.output);
    assert_eq!((mutated.tally("cells"), mutated.tally("killed")), (1, 3), "{:#?}", mutated.output);
    assert_eq!(mutated.lines[0]["original"]["verdict"], "xfail");
    assert!(!place.results().join("latest").exists(), "a mutant is not the latest verdict on its cell");
    let runs = fs::read_dir(place.results()).unwrap().map(|run| run.unwrap().path());
    let purposes: Vec<Value> = runs
        .filter(|run| run.join("run.json").exists())
        .map(|run| fs::read_to_string(run.join("run.json")).unwrap())
        .map(|text| serde_json::from_str::<Value>(&text).unwrap()["purpose"].clone())
        .collect();
    assert_eq!(purposes, ["mutation", "mutation"], "the cell without damage, and its mutants");
}

fn damage_that_nothing_notices_survives_and_fails_the_command() {
    let place = Place::new();
    let changed = place.path().join("changed");
    copy_folder(&scenarios("sabotage"), &changed);
    let scenario = changed.join("faults/documented-limitation.toml");
    // L1 is never started, so nothing depends on what is inside it.
    let mutations = "[[mutation]]\nname = \"l2-differs\"\nlevel = \"l2\"\nkernel-parameters = [\"quiet\"]\n\
                     [[mutation]]\nname = \"l1-differs\"\nlevel = \"l1\"\nkernel-parameters = [\"quiet\"]\n\
                     accept = \"L1 is never started\"\n";
    let text = fs::read_to_string(&scenario).unwrap();
    fs::write(&scenario, format!("{text}\n{mutations}")).unwrap();
    let mutated = mutate(&place, &changed, &["documented-limitation/*"]);
    assert_eq!(mutated.code(), Some(1), "{:#?}", mutated.output);
    assert_eq!(mutated.outcome("custom-l2-differs"), "survived");
    assert_eq!(mutated.outcome("custom-l1-differs"), "accepted");
    for killed in
        ["l0-without-kvm-module", "l0-bogus-property", "l1-bogus-property", "l0-qemu-killed-at-l0-kvm"]
    {
        assert_eq!(mutated.outcome(killed), "killed", "{killed}");
    }
    assert_eq!((mutated.tally("survived"), mutated.tally("undecided")), (1, 0), "{:#?}", mutated.output);
}

fn mutants_of_a_cell_that_is_not_green_would_show_nothing() {
    let place = Place::new();
    let mutated = mutate(&place, &scenarios("sabotage"), &["l0-nested-off/*"]);
    assert_eq!(mutated.code(), Some(3), "{:#?}", mutated.output);
    assert_eq!((mutated.tally("not_green"), mutated.tally("killed")), (1, 0), "{:#?}", mutated.output);
}

trials! {
    a_sample_of_the_mutants_of_a_cell_is_killed_and_kept_apart_from_other_runs;
    damage_that_nothing_notices_survives_and_fails_the_command;
    mutants_of_a_cell_that_is_not_green_would_show_nothing;
}
