//! `run-matrix --resume`: resumes an interrupted run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use nestmatrix::contained;
use nestmatrix::records::{CutOff, ResumeError, Resumed, RunRecord};
use nestmatrix::scenario::CellName;
use nestmatrix_model::PROGRAM;

use crate::cli::{Cli, Command, Pace, RunMatrix};
use crate::exit::Failure;
use crate::input;
use crate::run_matrix::start;
use crate::terminal::note;

/// Most cells that are listed by name; the others are counted.
const LISTED: usize = 5;

pub fn run(arguments: &RunMatrix, run: &Path) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.folder();
    let folder =
        input::run(run, &in_results).map_err(|why| Failure::bad_input(miette::miette!("--resume: {why}")))?;
    let interrupted = open(&folder)?;
    if interrupted.is_through() {
        note!("{} is complete; there is nothing to resume", folder.display());
        return Ok(ExitCode::from(interrupted.record().exit_code()));
    }
    let mut original = recorded_with_baseline(interrupted.record())?;
    original.results.results = folder.parent().map(Path::to_owned);
    original.format = arguments.format;
    original.pace.update(arguments.pace);
    start(&original, Some(interrupted), None)
}

/// Opens an interrupted run.
pub fn open(folder: &Path) -> Result<CutOff, Failure> {
    CutOff::open(folder).map_err(|e| match e {
        e @ ResumeError::Closed { .. } => Failure::error(e),
        e => Failure::bad_input(miette::miette!("--resume: {e}")),
    })
}

/// Prints how many cells are left, and how the matrix changed since the run began.
pub fn print_resumed(resumed: &Resumed) {
    note!("resuming: {} of {} cells have a verdict", resumed.verdicts(), resumed.cells());
    for (cells, what) in [(&resumed.new, "new in the matrix"), (&resumed.gone, "gone from the matrix")] {
        if !cells.is_empty() {
            note!("{what} since the run began: {}", names(cells));
        }
    }
}

fn names(cells: &[CellName]) -> String {
    let mut names: Vec<String> = cells.iter().take(LISTED).map(ToString::to_string).collect();
    if cells.len() > LISTED {
        names.push(format!("and {} more", cells.len() - LISTED));
    }
    names.join(", ")
}

/// Parses recorded arguments.
fn command(arguments: &[String]) -> Result<Command, Failure> {
    let words = std::iter::once(PROGRAM).chain(arguments.iter().map(String::as_str));
    let parsed = Cli::try_parse_from(words).map_err(|e| {
        let e = e.render();
        Failure::bad_input(miette::miette!(
            "--resume: this version does not support the run's arguments: {e}"
        ))
    })?;
    Ok(parsed.command)
}

/// The arguments of a command whose runs can be resumed.
pub trait Resumable: Sized {
    /// The command's name.
    const NAME: &'static str;

    /// Its arguments, if this is the command.
    fn of(command: Command) -> Option<Self>;

    /// What a resumption may set anew.
    fn pace(&mut self) -> &mut Pace;

    /// Paths that may be relative.
    fn paths(&mut self) -> Vec<&mut PathBuf>;
}

/// The arguments of a run, with the pace of its last resumption. Relative paths are resolved against the folder in which the run began.
pub fn recorded<A: Resumable>(run: &RunRecord) -> Result<A, Failure> {
    let mut arguments: A = parsed(&run.arguments)?;
    // Older versions did not record the arguments of a resumption.
    for resumed in run.resumed.iter().filter(|resumed| !resumed.arguments.is_empty()) {
        let pace = *parsed::<A>(&resumed.arguments)?.pace();
        arguments.pace().update(pace);
    }
    make_absolute(arguments.paths(), run)?;
    Ok(arguments)
}

fn parsed<A: Resumable>(arguments: &[String]) -> Result<A, Failure> {
    A::of(command(arguments)?)
        .ok_or_else(|| Failure::bad_input(miette::miette!("--resume: {} did not make this run", A::NAME)))
}

impl Resumable for RunMatrix {
    const NAME: &'static str = "run-matrix";

    fn of(command: Command) -> Option<Self> {
        if let Command::RunMatrix(arguments) = command { Some(arguments) } else { None }
    }

    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        let of_folders = [&mut self.selection.folder.scenarios, &mut self.source.folder.recipes];
        of_folders.into_iter().chain(&mut self.history).chain(&mut self.kernels.files).collect()
    }
}

/// The same of a `run-matrix` command. A baseline that was a path stays one.
fn recorded_with_baseline(run: &RunRecord) -> Result<RunMatrix, Failure> {
    let mut arguments: RunMatrix = recorded(run)?;
    if let (Some(run), Some(working_folder)) = (&mut arguments.baseline, &run.working_folder) {
        // Otherwise it is a name in the folder of runs.
        let there = working_folder.join(&run);
        if contained::is_file(&there, Path::new("run.json")) {
            *run = there;
        }
    }
    Ok(arguments)
}

/// Resolves relative paths against the folder in which the run began.
fn make_absolute<'a>(
    paths: impl IntoIterator<Item = &'a mut PathBuf>,
    run: &RunRecord,
) -> Result<(), Failure> {
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

    /// `--jobs` and `--timeout-scale` of a run that the first command began and the others resumed, the last of them now.
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
        let mut arguments: RunMatrix = recorded(&serde_json::from_value(record).unwrap()).unwrap();
        arguments.pace.update(parsed::<RunMatrix>(&words(now)).unwrap().pace);
        (arguments.pace.jobs(), arguments.pace.timeouts.scale())
    }

    #[test]
    fn a_resumed_run_has_the_pace_that_was_given_last() {
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
