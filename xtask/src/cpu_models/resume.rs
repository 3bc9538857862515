//! `cpu-models --resume`: resumes an interrupted or killed sweep.

use std::path::Path;
use std::process::ExitCode;

use nestmatrix::records::RunRecord;

use super::{Arguments, start};
use crate::cli::Command;
use crate::exit::Failure;
use crate::{input, resume};

pub(super) fn run(arguments: &Arguments, run: &Path) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.folder();
    let folder =
        input::run(run, &in_results).map_err(|why| Failure::bad_input(miette::miette!("--resume: {why}")))?;
    let interrupted = resume::open(&folder)?;
    let mut original = recorded(interrupted.record())?;
    original.results.results = folder.parent().map(Path::to_owned);
    original.format = arguments.format;
    original.pace.update(arguments.pace);
    start(&original, Some(interrupted))
}

/// The arguments of a sweep, with the pace of its last resumption.
fn recorded(run: &RunRecord) -> Result<Arguments, Failure> {
    let mut arguments = parsed(&run.arguments)?;
    for resumed in &run.resumed {
        arguments.pace.update(parsed(&resumed.arguments)?.pace);
    }
    let paths = [&mut arguments.selection.folder.scenarios, &mut arguments.source.folder.recipes];
    resume::make_absolute(paths, run)?;
    Ok(arguments)
}

fn parsed(arguments: &[String]) -> Result<Arguments, Failure> {
    match resume::command(arguments)? {
        Command::CpuModels(arguments) => Ok(arguments),
        _ => Err(Failure::bad_input(miette::miette!("--resume: cpu-models did not make this run"))),
    }
}
