//! `mutate --resume`: resumes an interrupted or killed run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nestmatrix::records::CutOff;

use super::{Mutate, mutants_run, start};
use crate::cli::{Command, Pace};
use crate::exit::Failure;
use crate::input;
use crate::resume::{self, Resumable};

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
    let mut original = resume::recorded::<Mutate>(cells.record())?;
    original.results.results = folder.parent().map(Path::to_owned);
    original.format = arguments.format;
    original.record |= arguments.record;
    original.pace.update(arguments.pace);
    let mutants = mutants_run(&folder).map(|folder| resume::open(&folder)).transpose()?;
    start(&original, Some(InterruptedRun { cells, mutants }))
}

impl Resumable for Mutate {
    const NAME: &'static str = "mutate";

    fn of(command: Command) -> Option<Self> {
        if let Command::Mutate(arguments) = command { Some(arguments) } else { None }
    }

    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    fn paths(&mut self) -> Vec<&mut PathBuf> {
        vec![&mut self.selection.folder.scenarios, &mut self.source.folder.recipes]
    }
}
