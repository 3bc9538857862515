//! The command that runs a cell again.

use std::path::Path;

use nestmatrix_model::PROGRAM;
use nestmatrix_stack::Metal;
use nestmatrix_vmm::shell::quote;

use crate::records::{Overview, OverviewCell, RunRecord};
use crate::scenario::CellName;
use crate::trials::original_of_sweep;

/// The command that runs `cell` again, in a checkout, as its run did.
pub(super) fn again(overview: &Overview, cell: &OverviewCell) -> String {
    let run = overview.runs.get(cell.run).map(|run| &run.record);
    of_run(&cell.record.cell, cell.record.cpu_model.as_deref(), cell.record.metal, run)
}

/// The arguments of a run that change what a cell is, and whether their value is a file.
const CARRIED: &[(&str, bool)] =
    &[("--scenarios", true), ("--recipes", true), ("--kernel", true), ("--level", false)];
/// The options of a run, without values, that change which images a cell boots.
const CARRIED_OPTIONS: &[&str] = &["--deny-rebuilds"];
/// The arguments of a search whose value is a file.
const FILES_OF_SEARCH: &[&str] = &["--scenarios", "--recipes", "--kernel", "--results"];

fn of_run(cell: &CellName, cpu_model: Option<&str>, metal: Option<Metal>, run: Option<&RunRecord>) -> String {
    // The arguments of a merged run are those of the merge.
    let run = run.filter(|run| run.merged.is_empty());
    let arguments = run.map_or(&[][..], |run| &run.arguments);
    let working_folder = run.and_then(|run| run.working_folder.as_deref()).unwrap_or(Path::new(""));
    let file = |name: &str| working_folder.join(name).display().to_string();
    if let Some(("bisect", arguments)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return format!("{}  # this cell was a trial of the search", search(arguments, file));
    }
    let mut command = match (cpu_model, original_of_sweep(cell)) {
        (Some(model), Some(original)) => {
            format!("{PROGRAM} cpu-models '{original}' --models {}", quote(model))
        }
        _ => format!("{PROGRAM} run-matrix '{cell}'"),
    };
    if metal == Some(Metal::Native) {
        command.push_str(" --metal native");
    }
    if matches!(arguments.first().map(String::as_str), Some("run-matrix" | "repro" | "cpu-models")) {
        for option in
            CARRIED_OPTIONS.iter().filter(|option| arguments.iter().any(|argument| argument == *option))
        {
            command.push_str(&format!(" {option}"));
        }
        for (option, is_file) in CARRIED {
            for value in values_of(option, arguments) {
                let value = if *is_file { file(value) } else { value.to_owned() };
                command.push_str(&format!(" {option} {}", quote(&value)));
            }
        }
    }
    command
}

/// The command of a search, with absolute paths.
fn search(arguments: &[String], file: impl Fn(&str) -> String) -> String {
    let mut command = format!("{PROGRAM} bisect");
    let mut is_file = false;
    for argument in arguments {
        let joined = argument.split_once('=').filter(|(option, _)| FILES_OF_SEARCH.contains(option));
        let word = match joined {
            _ if is_file => file(argument),
            Some((option, value)) => format!("{option}={}", file(value)),
            None => argument.clone(),
        };
        is_file = !is_file && FILES_OF_SEARCH.contains(&argument.as_str());
        command.push_str(&format!(" {}", quote(&word)));
    }
    command
}

fn values_of<'a>(option: &str, arguments: &'a [String]) -> Vec<&'a str> {
    let mut arguments = arguments.iter();
    let mut values = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix(option) {
            Some("") => values.extend(arguments.next().map(String::as_str)),
            Some(rest) => values.extend(rest.strip_prefix('=')),
            None => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::records::{FORMAT, Machine, Tally};

    /// A run with these arguments.
    fn run(arguments: &[&str]) -> RunRecord {
        let record = json!({
            "format": FORMAT, "nestmatrix": "0.1.0", "run": "x", "began": "", "ended": null, "interrupted": false,
            "arguments": arguments, "working_folder": "/at/home", "machine": Machine::this(), "emulators": [],
            "profile": null, "shard": null, "division": null, "cells": 1, "verdicts": Tally::default(),
        });
        serde_json::from_value(record).unwrap()
    }

    fn words(text: &str) -> Vec<&str> {
        text.split(' ').collect()
    }

    #[rstest]
    #[case::nothing("run-matrix --cold x", "")]
    #[case::apart("run-matrix --scenarios mine x", " --scenarios /at/home/mine")]
    #[case::joined("run-matrix --scenarios=/mine x", " --scenarios /mine")]
    #[case::cut_short("run-matrix --scenarios", "")]
    #[case::kernels(
        "repro a/b --kernel=a.deb --kernel /b.deb --level l0 --level=l1 --recipes r",
        " --recipes /at/home/r --kernel /at/home/a.deb --kernel /b.deb --level l0 --level l1"
    )]
    #[case::images("run-matrix --deny-stand-ins --deny-rebuilds x", " --deny-rebuilds")]
    #[case::hostile("run-matrix --kernel $(reboot)'", r" --kernel '/at/home/$(reboot)'\'''")]
    #[case::levels_of_another_command("doctor --level l1", "")]
    fn arguments_that_change_the_cell_are_kept(#[case] arguments: &str, #[case] expected: &str) {
        let cell: CellName = "s/amd/a+".parse().unwrap();
        let run = run(&words(arguments));
        assert_eq!(
            of_run(&cell, None, None, Some(&run)),
            format!("cargo xtask run-matrix 's/amd/a+'{expected}")
        );
        let native = format!("cargo xtask run-matrix 's/amd/a+' --metal native{expected}");
        assert_eq!(of_run(&cell, None, Some(Metal::Native), Some(&run)), native);
        assert_eq!(of_run(&cell, None, None, None), "cargo xtask run-matrix 's/amd/a+'");
    }

    #[rstest]
    #[case(
        "bisect a/* --axis l0.kernel --kernel one --kernel=two --once --results out",
        "cargo xtask bisect 'a/*' --axis l0.kernel --kernel /at/home/one --kernel=/at/home/two --once --results /at/home/out"
    )]
    #[case("bisect a/b --axis=l1.qemu --from 1:7.2", "cargo xtask bisect a/b --axis=l1.qemu --from 1:7.2")]
    fn a_trial_of_a_search_is_run_again_by_the_search(#[case] arguments: &str, #[case] expected: &str) {
        let cell: CellName = "s/amd/a".parse().unwrap();
        let again = of_run(&cell, None, Some(Metal::Emulated), Some(&run(&words(arguments))));
        assert_eq!(again, format!("{expected}  # this cell was a trial of the search"));
    }

    #[test]
    fn a_model_of_a_sweep_is_run_again_by_the_sweep() {
        let cell: CellName = "s/amd/a/b+_cpu-epyc-v4".parse().unwrap();
        let of = |arguments: &str| of_run(&cell, Some("EPYC-v4"), None, Some(&run(&words(arguments))));
        assert_eq!(of("cpu-models s/*"), "cargo xtask cpu-models 's/amd/a/b+' --models EPYC-v4");
        let expected = "cargo xtask cpu-models 's/amd/a/b+' --models EPYC-v4 --scenarios /at/home/mine";
        assert_eq!(of("cpu-models --scenarios mine s/*"), expected);
    }
}
