//! `run-matrix --resume`: goes on with a run that was cut off.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use nestmatrix::contained;
use nestmatrix::run::{CutOff, ResumeError, Resumed, RunRecord};
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
    let cut_off = CutOff::open(&folder).map_err(|e| match e {
        e @ ResumeError::Closed { .. } => Failure::error(e),
        e => Failure::bad_input(miette::miette!("--resume: {e}")),
    })?;
    if cut_off.is_through() {
        eprintln!("{} came to its end: there is nothing to go on with", folder.display());
        return Ok(ExitCode::from(cut_off.record().exit_code()));
    }
    let mut begun_with = recorded(cut_off.record())?;
    begun_with.results = folder.parent().map(Path::to_owned);
    begun_with.format = arguments.format;
    start(&begun_with, Some(cut_off), None)
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

/// The arguments that a run was begun with.
fn recorded(run: &RunRecord) -> Result<RunMatrix, Failure> {
    let words = std::iter::once("cargo xtask").chain(run.arguments.iter().map(String::as_str));
    let parsed = Cli::try_parse_from(words).map_err(|e| {
        let e = e.render();
        Failure::bad_input(miette::miette!(
            "--resume: this nestmatrix does not take the run's arguments: {e}"
        ))
    })?;
    let Command::RunMatrix(mut arguments) = parsed.command else {
        return Err(Failure::bad_input(miette::miette!("--resume: the run is none of run-matrix")));
    };
    let paths = [&mut arguments.selection.scenarios, &mut arguments.source.recipes];
    for path in paths.into_iter().chain(&mut arguments.history).chain(&mut arguments.kernels.files) {
        if path.is_relative() {
            let called_in = run.called_in.as_ref().ok_or_else(|| {
                let path = path.display();
                Failure::bad_input(miette::miette!("--resume: nobody knows where the run's {path} is"))
            })?;
            *path = called_in.join(&path);
        }
    }
    if let (Some(run), Some(called_in)) = (&mut arguments.baseline, &run.called_in) {
        // Else it is a name in the folder of results.
        let there = called_in.join(&run);
        if contained::is_file(&there, Path::new("run.json")) {
            *run = there;
        }
    }
    Ok(arguments)
}
