//! `mutate --resume`: resumes an interrupted or killed run.

use std::path::Path;
use std::process::ExitCode;

use nestmatrix::records::{CutOff, RunRecord};

use super::{Mutate, mutants_run, start};
use crate::cli::Command;
use crate::exit::Failure;
use crate::{input, resume};

/// An interrupted run. While it is open, no other process can resume it.
pub(super) struct InterruptedRun {
    /// The undamaged cells.
    pub(super) cells: CutOff,
    /// Their mutants, if the run reached them.
    pub(super) mutants: Option<CutOff>,
}

pub(super) fn run(arguments: &Mutate, run: &Path) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.folder();
    let folder =
        input::run(run, &in_results).map_err(|why| Failure::bad_input(miette::miette!("--resume: {why}")))?;
    let cells = resume::open(&folder)?;
    let mut original = recorded(cells.record())?;
    original.results.results = folder.parent().map(Path::to_owned);
    original.format = arguments.format;
    original.record |= arguments.record;
    original.pace.update(arguments.pace);
    let mutants = mutants_run(&folder).map(|folder| resume::open(&folder)).transpose()?;
    start(&original, Some(InterruptedRun { cells, mutants }))
}

/// The arguments of a run, with the pace of its last resumption.
fn recorded(run: &RunRecord) -> Result<Mutate, Failure> {
    let mut arguments = parsed(&run.arguments)?;
    for resumed in &run.resumed {
        arguments.pace.update(parsed(&resumed.arguments)?.pace);
    }
    let paths = [&mut arguments.selection.folder.scenarios, &mut arguments.source.folder.recipes];
    resume::make_absolute(paths, run)?;
    Ok(arguments)
}

fn parsed(arguments: &[String]) -> Result<Mutate, Failure> {
    match resume::command(arguments)? {
        Command::Mutate(arguments) => Ok(arguments),
        _ => Err(Failure::bad_input(miette::miette!("--resume: mutate did not make this run"))),
    }
}
