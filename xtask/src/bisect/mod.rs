//! `bisect`: finds the kernel or QEMU version that changed a cell's verdict, or the outcome of one of its test cases.

mod candidates;
mod output;
mod search;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use nestmatrix::scenario::{Cell, Filter, Matrix};
use nestmatrix_images::Component;
use nestmatrix_model::LevelNumber;
use search::Search;

use crate::cli::{Format, ImageSource, Results, ScenariosFolder, Timeouts};
use crate::exit::Failure;
use crate::progress::BuildProgress;
use crate::signals::Signals;
use crate::{input, runtime};

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Bisect {
    /// The cell: its name, or a glob that matches no other cell
    pub cell: String,
    /// The component to vary: the kernel of a level, or the QEMU in it that runs the next level
    #[arg(long, value_enum)]
    pub axis: Axis,
    /// Search for a change of this test case's outcome instead of the cell's verdict
    ///
    /// CASE is the name of one case of the tests that a step runs, or a glob that matches no other: `svm: cr3 read intercept`. If several steps
    /// have a case of that name, put the step's name before it: `STEP: CASE`. Other cases may fail. A version with which the case has
    /// no outcome is skipped.
    #[arg(long, value_name = "CASE", conflicts_with = "boot_counts")]
    pub case: Option<String>,
    /// Search among your own kernels instead of the archive's; give the oldest first
    ///
    /// FILE is a bzImage, Image or vmlinux that needs no modules, or a package that has them.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["suite", "list"])]
    pub kernel: Vec<PathBuf>,
    /// Search only this suite of the archive [default: the recipes' suites and related ones]
    #[arg(long, value_name = "NAME")]
    pub suite: Vec<String>,
    /// Skip lower versions in Debian's order: `6.12` is lower than `6.12.107-1`
    ///
    /// With --kernel, skip kernels that are given before the one of this release.
    #[arg(long, value_name = "VERSION")]
    pub from: Option<String>,
    /// Skip higher versions
    ///
    /// With --kernel, skip kernels that are given after the one of this release.
    #[arg(long, value_name = "VERSION")]
    pub to: Option<String>,
    /// Test every version and show every change, since a verdict can change more than once
    #[arg(long)]
    pub all: bool,
    /// List the available versions and test none
    #[arg(long)]
    pub list: bool,
    /// Count a failed boot or a rejected command line as a verdict instead of skipping that version
    ///
    /// The verdict is `error` if L0 does not boot.
    #[arg(long)]
    pub boot_counts: bool,
    /// Do not repeat the two versions at the boundary to confirm the result
    #[arg(long)]
    pub once: bool,
    /// Keep the image of each version instead of removing it after its test
    #[arg(long)]
    pub keep_images: bool,
    #[command(flatten)]
    pub folder: ScenariosFolder,
    #[command(flatten)]
    pub source: ImageSource,
    #[command(flatten)]
    pub results: Results,
    #[command(flatten)]
    pub timeouts: Timeouts,
    /// Print tests and the result in this format
    ///
    /// The last line of `json` is the result: the change, or with --all every change.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    a change was found; with --all, every version was tested, or skipped with a reason;
       with --list, there are versions
  1    no change: both ends have the same verdict, or the case the same outcome
  2    bad usage or bad input; --case matches no case, or several
  3    the harness or its machine failed; or inconclusive: repeated runs of a version disagreed
  4    fewer than two versions to choose from, or with a verdict or an outcome of the case
  130  interrupted (Ctrl-C); 129 and 143 for SIGHUP and SIGTERM";

/// The component to vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Axis {
    /// The kernel of L0
    #[value(name = "l0.kernel")]
    L0Kernel,
    /// The kernel of L1
    #[value(name = "l1.kernel")]
    L1Kernel,
    /// The kernel of L2
    #[value(name = "l2.kernel")]
    L2Kernel,
    /// The QEMU in L0, which runs L1
    #[value(name = "l0.qemu")]
    L0Qemu,
    /// The QEMU in L1, which runs L2
    #[value(name = "l1.qemu")]
    L1Qemu,
}

impl Axis {
    fn level_and_component(self) -> (LevelNumber, Component) {
        match self {
            Self::L0Kernel => (LevelNumber::ALL[0], Component::Kernel),
            Self::L1Kernel => (LevelNumber::ALL[1], Component::Kernel),
            Self::L2Kernel => (LevelNumber::ALL[2], Component::Kernel),
            Self::L0Qemu => (LevelNumber::ALL[0], Component::Qemu),
            Self::L1Qemu => (LevelNumber::ALL[1], Component::Qemu),
        }
    }
}

pub fn run(arguments: &Bisect) -> Result<ExitCode, Failure> {
    let (_, component) = arguments.axis.level_and_component();
    if component == Component::Qemu && !arguments.kernel.is_empty() {
        return Err(Failure::bad_input(miette::miette!("--kernel cannot be used with a QEMU axis")));
    }
    let filter = Filter::parse(std::slice::from_ref(&arguments.cell)).map_err(Failure::bad_input)?;
    let matrix = Matrix::load(&input::short(&arguments.folder.scenarios)).map_err(Failure::bad_input)?;
    let cells: Vec<&Cell> = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).collect();
    let cell = match cells.as_slice() {
        [] => return Ok(input::no_cell()),
        [cell] => (*cell).clone(),
        [first, second, ..] => {
            let (first, second) = (&first.name, &second.name);
            return Err(Failure::bad_input(miette::miette!(
                "{} matches {} cells, such as {first} and {second}; name one cell",
                arguments.cell,
                cells.len()
            )));
        }
    };
    let catalog = input::recipes(&arguments.source.folder)?;
    let store = Arc::new(input::store(&arguments.source)?);
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let builds = Arc::new(BuildProgress::new());
        let (made, seen) = Default::default();
        let search = Search { arguments, matrix: &matrix, cell, catalog, store, builds, signals, made, seen };
        let done = search.run().await;
        search.discard_except(|_| false);
        done
    })
}
