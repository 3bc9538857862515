//! `cpu-models --resume`: resumes an interrupted or killed sweep.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Arguments, start};
use crate::cli::{Command, Pace};
use crate::exit::Failure;
use crate::input;
use crate::resume::{self, Resumable};

pub(super) fn run(arguments: &Arguments, run: &Path) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.folder();
    let folder =
        input::run(run, &in_results).map_err(|why| Failure::bad_input(miette::miette!("--resume: {why}")))?;
    let interrupted = resume::open(&folder)?;
    let mut original: Arguments = resume::recorded(interrupted.record())?;
    original.results.results = folder.parent().map(Path::to_owned);
    original.format = arguments.format;
    original.pace.update(arguments.pace);
    start(&original, Some(interrupted))
}

impl Resumable for Arguments {
    const NAME: &'static str = "cpu-models";

    fn of(command: Command) -> Option<Self> {
        if let Command::CpuModels(arguments) = command { Some(arguments) } else { None }
    }

    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        vec![&mut self.selection.folder.scenarios, &mut self.source.folder.recipes]
    }
}
