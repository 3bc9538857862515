//! `bisect`: finds the version of a kernel or a QEMU at which a cell's verdict changes.

mod choices;
mod search;
mod tell;

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use nestmatrix::scenario::{Cell, Filter, Matrix};
use nestmatrix_images::Part;
use nestmatrix_model::LevelNumber;
use search::Search;

use crate::cli::{Format, ImageSource, timeout_scale};
use crate::exit::Failure;
use crate::live::Builds;
use crate::signals::Signals;
use crate::{input, runtime};

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Bisect {
    /// The cell by its name, or a glob that matches it alone
    pub cell: String,
    /// What is another version each time: the kernel of a level, or the QEMU in it, which runs the level inside
    #[arg(long, value_enum)]
    pub axis: Axis,
    /// Kernels of one's own to choose from, in the place of those of the archive, in the order of their history: the oldest first.
    /// Each is a bzImage, Image or vmlinux that needs no modules, or a package that has them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["suite", "list"])]
    pub kernel: Vec<PathBuf>,
    /// Only versions of these suites of the archive [default: those that recipes know, with their backports and updates]
    #[arg(long, value_name = "NAME")]
    pub suite: Vec<String>,
    /// Leave out lower versions, by Debian's order: `6.12` is lower than `6.12.107-1`; with --kernel, those given before the one of
    /// this release
    #[arg(long, value_name = "VERSION")]
    pub from: Option<String>,
    /// Leave out higher versions; with --kernel, those given behind the one of this release
    #[arg(long, value_name = "VERSION")]
    pub to: Option<String>,
    /// Try every version and show each change: verdicts need not change just once
    #[arg(long)]
    pub all: bool,
    /// Show the versions that there are, and try none
    #[arg(long)]
    pub list: bool,
    /// Take it for a verdict too where the level does not boot with a version (of L0, that is `error`), or does not understand what
    /// it is told; otherwise such a version counts as one that could not be tried
    #[arg(long)]
    pub boot_counts: bool,
    /// Take each trial's word for it; otherwise both sides of the change are tried once more before it is told
    #[arg(long)]
    pub once: bool,
    /// Keep the images that are made for it; otherwise each is removed when it was tried
    #[arg(long)]
    pub keep_images: bool,
    /// Folder of documents and scenarios
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"), hide_default_value = true)]
    pub scenarios: PathBuf,
    #[command(flatten)]
    pub source: ImageSource,
    /// Folder that gets a folder for the run of each version [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Multiply every time limit by this, for a slow machine
    #[arg(long, value_name = "F", default_value = "1", value_parser = timeout_scale)]
    pub timeout_scale: f64,
    /// How what was tried is printed; `json` has one object a line, the last of which is what was found: with --all, all changes
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    a change was found; with --all, every version was tried, or it is told why not; with --list, there are some
  1    no change: both ends have the same verdict
  2    bad usage or bad input
  3    an error of the harness or its machine; nothing certain: a version came out once so and once otherwise
  4    nothing to choose from, or fewer than two versions came to a verdict
  130  interrupted (Ctrl-C); 129 and 143 for SIGHUP and SIGTERM";

/// What is another version each time.
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
    fn level_and_part(self) -> (LevelNumber, Part) {
        match self {
            Self::L0Kernel => (LevelNumber::ALL[0], Part::Kernel),
            Self::L1Kernel => (LevelNumber::ALL[1], Part::Kernel),
            Self::L2Kernel => (LevelNumber::ALL[2], Part::Kernel),
            Self::L0Qemu => (LevelNumber::ALL[0], Part::Qemu),
            Self::L1Qemu => (LevelNumber::ALL[1], Part::Qemu),
        }
    }
}

pub fn run(arguments: &Bisect) -> Result<ExitCode, Failure> {
    let (_, part) = arguments.axis.level_and_part();
    if part == Part::Qemu && !arguments.kernel.is_empty() {
        return Err(Failure::bad_input(miette::miette!("--kernel does not go with the axis of a QEMU")));
    }
    let filter = Filter::parse(std::slice::from_ref(&arguments.cell)).map_err(Failure::bad_input)?;
    let matrix = Matrix::load(&input::short(&arguments.scenarios)).map_err(Failure::bad_input)?;
    let cells: Vec<&Cell> = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).collect();
    let cell = match cells.as_slice() {
        [] => return Ok(input::no_cell()),
        [cell] => (*cell).clone(),
        [first, second, ..] => {
            let (first, second) = (&first.name, &second.name);
            return Err(Failure::bad_input(miette::miette!(
                "{} matches {} cells, {first} and {second} among them: name one",
                arguments.cell,
                cells.len()
            )));
        }
    };
    let catalog = input::recipes(&arguments.source.recipes)?;
    let store = Arc::new(input::store(&arguments.source)?);
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let builds = Arc::new(Builds::new());
        let made = RefCell::default();
        let search = Search { arguments, matrix: &matrix, cell, catalog, store, builds, signals, made };
        let done = search.run().await;
        search.discard_all_but(|_| false);
        done
    })
}
