//! `mutate --resume`: what has no verdict yet of a run that was interrupted or killed.

use std::path::Path;
use std::process::ExitCode;

use nestmatrix::records::{CutOff, RunRecord};

use super::{Mutate, mutants_run, start};
use crate::cli::Command;
use crate::exit::Failure;
use crate::run_matrix::results;
use crate::{input, resume};

/// A run that has begun. While it is open, no other process resumes it.
pub(super) struct Begun {
    /// The cells without damage.
    pub(super) cells: CutOff,
    /// Their mutants, if it came to them.
    pub(super) mutants: Option<CutOff>,
}

pub(super) fn run(arguments: &Mutate, run: &Path) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.clone().unwrap_or_else(results);
    let folder =
        input::run(run, &in_results).map_err(|why| Failure::bad_input(miette::miette!("--resume: {why}")))?;
    let cells = resume::open(&folder)?;
    let mut begun_with = recorded(cells.record())?;
    begun_with.results = folder.parent().map(Path::to_owned);
    begun_with.format = arguments.format;
    begun_with.record |= arguments.record;
    pace(&mut begun_with, arguments);
    let mutants = mutants_run(&folder).map(|folder| resume::open(&folder)).transpose()?;
    start(&begun_with, Some(Begun { cells, mutants }))
}

/// Takes over what `later` says of how fast the run goes, which changes none of its mutants.
fn pace(arguments: &mut Mutate, later: &Mutate) {
    arguments.jobs = later.jobs.or(arguments.jobs);
    arguments.timeout_scale = later.timeout_scale.or(arguments.timeout_scale);
}

/// The arguments that a run was begun with.
fn recorded(run: &RunRecord) -> Result<Mutate, Failure> {
    let mut arguments = parsed(&run.arguments)?;
    for resumed in &run.resumed {
        pace(&mut arguments, &parsed(&resumed.arguments)?);
    }
    resume::place([&mut arguments.selection.scenarios, &mut arguments.source.recipes], run)?;
    Ok(arguments)
}

fn parsed(arguments: &[String]) -> Result<Mutate, Failure> {
    match resume::command(arguments)? {
        Command::Mutate(arguments) => Ok(arguments),
        _ => Err(Failure::bad_input(miette::miette!("--resume: the run is not one of mutate"))),
    }
}
