//! `run-matrix --resume`: goes on with a run that was cut off.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use nestmatrix::contained;
use nestmatrix::records::{CutOff, ResumeError, Resumed, RunRecord};
use nestmatrix::scenario::CellName;

use crate::cli::{Cli, Command, RunMatrix};
use crate::exit::Failure;
use crate::input;
use crate::run_matrix::{results, start};

/// Cells that are named where the matrix has changed; more are counted.
const NAMED: usize = 5;

pub fn run(arguments: &RunMatrix, run: &Path) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.clone().unwrap_or_else(results);
    let folder =
        input::run(run, &in_results).map_err(|why| Failure::bad_input(miette::miette!("--resume: {why}")))?;
    let cut_off = open(&folder)?;
    if cut_off.is_through() {
        eprintln!("{} came to its end: there is nothing to go on with", folder.display());
        return Ok(ExitCode::from(cut_off.record().exit_code()));
    }
    let mut begun_with = recorded(cut_off.record())?;
    begun_with.results = folder.parent().map(Path::to_owned);
    begun_with.format = arguments.format;
    pace(&mut begun_with, arguments);
    start(&begun_with, Some(cut_off), None)
}

/// Opens a run that was cut off.
pub fn open(folder: &Path) -> Result<CutOff, Failure> {
    CutOff::open(folder).map_err(|e| match e {
        e @ ResumeError::Closed { .. } => Failure::error(e),
        e => Failure::bad_input(miette::miette!("--resume: {e}")),
    })
}

/// Says what is left to do, and in what the run is not what it was when it began.
pub fn tell(resumed: &Resumed) {
    eprintln!("resuming: {} of {} cells have a verdict", resumed.verdicts(), resumed.cells());
    for (cells, what) in [(&resumed.new, "new in the matrix"), (&resumed.gone, "gone from the matrix")] {
        if !cells.is_empty() {
            eprintln!("{what} since the run began: {}", names(cells));
        }
    }
}

fn names(cells: &[CellName]) -> String {
    let mut names: Vec<String> = cells.iter().take(NAMED).map(ToString::to_string).collect();
    if cells.len() > NAMED {
        names.push(format!("and {} more", cells.len() - NAMED));
    }
    names.join(", ")
}

/// Takes over what `later` says of how fast the run goes, which changes none of its cells.
fn pace(arguments: &mut RunMatrix, later: &RunMatrix) {
    arguments.jobs = later.jobs.or(arguments.jobs);
    arguments.timeout_scale = later.timeout_scale.or(arguments.timeout_scale);
}

/// These arguments as they were typed.
fn parsed(arguments: &[String]) -> Result<RunMatrix, Failure> {
    match command(arguments)? {
        Command::RunMatrix(arguments) => Ok(arguments),
        _ => Err(Failure::bad_input(miette::miette!("--resume: the run is not one of run-matrix"))),
    }
}

/// The command that has these arguments.
pub fn command(arguments: &[String]) -> Result<Command, Failure> {
    let words = std::iter::once("cargo xtask").chain(arguments.iter().map(String::as_str));
    let parsed = Cli::try_parse_from(words).map_err(|e| {
        let e = e.render();
        Failure::bad_input(miette::miette!(
            "--resume: this nestmatrix does not take the run's arguments: {e}"
        ))
    })?;
    Ok(parsed.command)
}

/// The arguments that a run was begun with, at the pace of the last time that it was resumed.
fn recorded(run: &RunRecord) -> Result<RunMatrix, Failure> {
    let mut arguments = parsed(&run.arguments)?;
    // An older nestmatrix did not record them.
    for resumed in run.resumed.iter().filter(|resumed| !resumed.arguments.is_empty()) {
        pace(&mut arguments, &parsed(&resumed.arguments)?);
    }
    let paths = [&mut arguments.selection.scenarios, &mut arguments.source.recipes];
    place(paths.into_iter().chain(&mut arguments.history).chain(&mut arguments.kernels.files), run)?;
    if let (Some(run), Some(working_folder)) = (&mut arguments.baseline, &run.working_folder) {
        // Else it is a name in the folder of results.
        let there = working_folder.join(&run);
        if contained::is_file(&there, Path::new("run.json")) {
            *run = there;
        }
    }
    Ok(arguments)
}

/// Makes paths absolute that were relative to the folder in which the run was begun.
pub fn place<'a>(paths: impl IntoIterator<Item = &'a mut PathBuf>, run: &RunRecord) -> Result<(), Failure> {
    for path in paths.into_iter().filter(|path| path.is_relative()) {
        let working_folder = run.working_folder.as_ref().ok_or_else(|| {
            let path = path.display();
            Failure::bad_input(miette::miette!("--resume: cannot resolve the run's relative path {path}"))
        })?;
        *path = working_folder.join(&*path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use nestmatrix::records::{FORMAT, Machine, Tally};
    use serde_json::json;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    /// `--jobs` and `--timeout-scale` of a run that was begun by the first command and resumed by the others, the last of them now.
    fn pace_of(begun: &str, resumed: &[&str]) -> (Option<usize>, f64) {
        let (now, before) = resumed.split_last().unwrap();
        let resumption = |typed: &&str| {
            let arguments = if typed.is_empty() { Vec::new() } else { words(typed) };
            json!({
                "at": "2026-03-01T20:15:09Z", "nestmatrix": "0.1.0", "machine": Machine::this(), "verdicts": 0,
                "arguments": arguments,
            })
        };
        let record = json!({
            "format": FORMAT, "nestmatrix": "0.1.0", "run": "r", "began": "2026-03-01T20:15:09Z", "ended": null,
            "interrupted": true, "arguments": words(begun), "machine": Machine::this(), "emulators": [], "profile": null,
            "cells": 0, "verdicts": Tally::default(), "working_folder": "/", "resumed": before.iter().map(resumption).collect::<Vec<_>>(),
        });
        let mut arguments = recorded(&serde_json::from_value(record).unwrap()).unwrap();
        pace(&mut arguments, &parsed(&words(now)).unwrap());
        (arguments.jobs(), arguments.timeout_scale())
    }

    #[test]
    fn a_resumed_run_has_the_pace_that_was_asked_for_last() {
        let plain = "run-matrix --resume r";
        assert_eq!(pace_of("run-matrix", &[plain]), (None, 1.0));
        let begun = "run-matrix --jobs 2 --timeout-scale 3";
        assert_eq!(pace_of(begun, &[plain]), (Some(2), 3.0), "as recorded");
        assert_eq!(pace_of(begun, &["run-matrix --resume r --jobs 1"]), (Some(1), 3.0));
        assert_eq!(pace_of(begun, &["run-matrix --resume r --jobs auto --timeout-scale 0.5"]), (None, 0.5));
        let slower = "run-matrix --resume r --timeout-scale 5";
        assert_eq!(pace_of(begun, &[slower, "", plain]), (Some(2), 5.0), "as it was resumed with before");
    }
}
