//! `repro`: one cell, to be seen again: its stack is booted and held, or what reproduces it is bundled.

mod bundle;
mod hold;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nestmatrix::records::{CellRecord, PastRun};
use nestmatrix::scenario::Filter;

use crate::cli::{ImageSource, MetalArgument, timeout_scale};
use crate::exit::Failure;
use crate::input;
use crate::kernels::Kernels;
use crate::run_matrix::results;

pub use hold::{Noted, desk};

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Repro {
    /// The cell: its name, or a glob that matches no other
    pub cell: String,
    /// Hold the stack once this stage is done, such as `l1-kvm` or `step-1` [default: at its end, or where it stops]
    #[arg(long, value_name = "STAGE", help_heading = HOLD)]
    pub until: Option<String>,
    /// Hold the stack where it stops, and do not hold one that comes to its end
    #[arg(long, help_heading = HOLD)]
    pub on_failure: bool,
    /// What L0 runs on
    #[arg(long, value_enum, default_value = "auto", help_heading = HOLD)]
    pub metal: MetalArgument,
    /// Multiply every time limit by this, for a slow machine
    #[arg(long, value_name = "F", default_value = "1", value_parser = timeout_scale, help_heading = HOLD)]
    pub timeout_scale: f64,
    /// Folder of documents and scenarios
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"), hide_default_value = true, help_heading = HOLD)]
    pub scenarios: PathBuf,
    #[command(flatten, next_help_heading = HOLD)]
    pub source: ImageSource,
    #[command(flatten, next_help_heading = HOLD)]
    pub kernels: Kernels,
    /// Boot nothing: write one archive with a script that boots the cell's stack, the images that it boots and the cell's records,
    /// to attach to a bug report
    #[arg(long, help_heading = BUNDLE, conflicts_with_all = [
        "until", "on_failure", "metal", "timeout_scale", "scenarios", "offline", "recipes", "files", "level", "keep_images",
    ])]
    pub bundle: bool,
    /// The archive [default: the cell's name, with dashes, and `.tar.zst`, in this folder]
    #[arg(long, value_name = "FILE", requires = "bundle", help_heading = BUNDLE)]
    pub output: Option<PathBuf>,
    /// Replace the archive if there is one already
    #[arg(long, requires = "bundle", help_heading = BUNDLE)]
    pub overwrite: bool,
    /// The run whose cell it is: its folder, or its name in that of results
    #[arg(long, value_name = "RUN", default_value = "latest", requires = "bundle", help_heading = BUNDLE)]
    pub run: PathBuf,
    /// Folder of all runs; what is held is a run of its own there [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
}

const HOLD: &str = "To boot the stack and hold it";
const BUNDLE: &str = "To bundle what reproduces it";

const AFTER_HELP: &str = "\
While a stack is held, `cargo xtask shell L1` and `cargo xtask qmp L1` ask its levels, from another terminal. Ctrl-C lets it go.

Exit codes: those of run-matrix for the cell's verdict; 0 for a stack that was let go before it had one, and for a bundle";

pub fn run(arguments: Repro) -> Result<ExitCode, Failure> {
    if !arguments.bundle {
        return hold::boot(arguments);
    }
    let in_results = arguments.results.clone().unwrap_or_else(results);
    let past = input::past_run(&arguments.run, &in_results)?;
    bundle::write(&arguments, &past, find(&past, &arguments.cell)?)
}

/// The record of the cell that is meant.
fn find<'r>(past: &'r PastRun, cell: &str) -> Result<&'r CellRecord, Failure> {
    let exact = |record: &&CellRecord| record.cell.as_str() == cell;
    let mut found: Vec<&CellRecord> = past.cells.iter().filter(exact).collect();
    if found.is_empty() {
        let filter = Filter::parse(&[cell.to_owned()]).map_err(Failure::bad_input)?;
        found = past.cells.iter().filter(|record| filter.matches(&record.cell)).collect();
    }
    let names = |records: &[&CellRecord]| {
        let name = |record: &&CellRecord| match &record.run {
            Some(run) => format!("{} (as {run} saw it)", record.cell),
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
            Err(Failure::bad_input(miette::miette!("{run} has no cell {cell:?}; there are:\n  {known}")))
        }
        several => Err(Failure::bad_input(miette::miette!(
            "{cell:?} can mean several cells; name one, or with --run the run that saw it:\n  {}",
            names(several)
        ))),
    }
}
