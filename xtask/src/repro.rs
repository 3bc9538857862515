//! `repro`: reproduces one cell, in a debug session or as a bundle for a bug report.

mod bundle;
mod session;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nestmatrix::records::{CellRecord, PastRun};
use nestmatrix::scenario::Filter;

use crate::cli::{ImageSource, MetalArgument, Results, ScenariosFolder, Timeouts};
use crate::exit::Failure;
use crate::input;
use crate::kernels::Kernels;

pub use session::{SessionListener, debug_server};

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Repro {
    /// The cell: its name, or a glob that matches no other cell
    pub cell: String,
    #[command(flatten)]
    pub results: Results,
    /// Pause after STAGE, such as `l1-kvm` or `step-1` [default: at the end, or where it stops]
    #[arg(long, value_name = "STAGE", help_heading = SESSION)]
    pub until: Option<String>,
    /// Pause the stack only if it stops before its end
    #[arg(long, help_heading = SESSION)]
    pub on_failure: bool,
    /// Choose what L0 runs on
    #[arg(long, value_enum, default_value = "auto", help_heading = SESSION)]
    pub metal: MetalArgument,
    #[command(flatten, next_help_heading = SESSION)]
    pub timeouts: Timeouts,
    #[command(flatten, next_help_heading = SESSION)]
    pub folder: ScenariosFolder,
    #[command(flatten, next_help_heading = SESSION)]
    pub source: ImageSource,
    #[command(flatten, next_help_heading = SESSION)]
    pub kernels: Kernels,
    /// Write an archive for a bug report instead of booting anything
    ///
    /// It holds a script that boots the cell's stack, the images that it boots, and the cell's records.
    #[arg(long, help_heading = BUNDLE, conflicts_with_all = [
        "until", "on_failure", "metal", "timeout_scale", "scenarios", "offline", "recipes", "files", "level", "keep_images",
    ])]
    pub bundle: bool,
    /// Write the archive to FILE [default: the cell's name, with dashes, and `.tar.zst`]
    #[arg(long, value_name = "FILE", requires = "bundle", help_heading = BUNDLE)]
    pub output: Option<PathBuf>,
    /// Replace an existing archive
    #[arg(long, requires = "bundle", help_heading = BUNDLE)]
    pub overwrite: bool,
    /// Bundle the cell of this run: its folder, or its name in the folder of runs
    #[arg(long, value_name = "RUN", default_value = "latest", requires = "bundle", help_heading = BUNDLE)]
    pub run: PathBuf,
}

const SESSION: &str = "Debug session";
const BUNDLE: &str = "Bundle";

const AFTER_HELP: &str = "\
While the stack is paused, use `cargo xtask shell L1` and `cargo xtask qmp L1` from another
terminal. Press Ctrl-C to end the session.

Exit codes: those of run-matrix for the cell's verdict; 0 for a bundle, and for a session that
ended before there was a verdict";

pub fn run(arguments: Repro) -> Result<ExitCode, Failure> {
    if !arguments.bundle {
        return session::start(arguments);
    }
    let in_results = arguments.results.folder();
    let past = input::past_run(&arguments.run, &in_results)?;
    bundle::write(&arguments, &past, find(&past, &arguments.cell)?)
}

/// The record of the cell with this name, or of the only cell that this glob matches.
fn find<'r>(past: &'r PastRun, cell: &str) -> Result<&'r CellRecord, Failure> {
    let exact = |record: &&CellRecord| record.cell.as_str() == cell;
    let mut found: Vec<&CellRecord> = past.cells.iter().filter(exact).collect();
    if found.is_empty() {
        let filter = Filter::parse(&[cell.to_owned()]).map_err(Failure::bad_input)?;
        found = past.cells.iter().filter(|record| filter.matches(&record.cell)).collect();
    }
    let names = |records: &[&CellRecord]| {
        let name = |record: &&CellRecord| match &record.run {
            Some(run) => format!("{} (from run {run})", record.cell),
            None => record.cell.to_string(),
        };
        records.iter().map(name).collect::<Vec<_>>().join("\n  ")
    };
    match &found[..] {
        [record] => Ok(record),
        [] if past.cells.is_empty() => {
            Err(Failure::bad_input(miette::miette!("{} has no cell with a verdict", past.folder.display())))
        }
        [] => {
            let all: Vec<&CellRecord> = past.cells.iter().collect();
            let known = names(&all);
            let run = past.folder.display();
            Err(Failure::bad_input(miette::miette!("{run} has no cell {cell:?}; its cells are:\n  {known}")))
        }
        several => Err(Failure::bad_input(miette::miette!(
            "{cell:?} matches several records; name one cell, or name its run with --run:\n  {}",
            names(several)
        ))),
    }
}
