//! The command line as it is typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nestmatrix::ci::{RunnerKind, architecture_labels};
use nestmatrix::records::Shard;
use nestmatrix_model::LevelNumber;

use crate::bisect::Bisect;
use crate::kernels::Kernels;

/// Turns a documented nested-virtualization support matrix into stacks that boot, and records what really happens.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    everything as expected or known
  1    a cell failed, or a documented limitation is gone (xpass), and that was not known; or
       a limitation that was known to be gone is back;
       with diff or --baseline, something is worse; with doctor, this machine is not usable;
       with bisect, no change was found
  2    bad usage or bad input
  3    an error of the harness or its machine; the result is not complete
  4    nothing ran: no cell matched, or all were skipped; a shard whose cells all were gives 0
  125  with run-matrix --kernel, in place of 3 and 4: the kernel could not be tried, as
       `git bisect run` wants to be told; and 128 in place of 2
  130  interrupted (Ctrl-C); 129 and 143 for SIGHUP and SIGTERM

Environment:
  NESTMATRIX_CACHE    folder of images and packages [default: nestmatrix in the XDG cache folder]
  NESTMATRIX_ARCHIVE  address of the Debian archive [default: that of this machine's own apt]
  NESTMATRIX_KEYRING  keyring that vouches for it [default: this machine's Debian keyring]
  NESTMATRIX_STATES   folder of saved states [default: states in the folder of images]
  NESTMATRIX_LOG      what is logged to standard error, such as `debug` [default: warn]
  NO_COLOR            no colours";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot the matrix's stacks and give each cell its verdict
    RunMatrix(RunMatrix),
    /// Show runs as a page (HTML), as Markdown, TAP, JUnit XML or JSON, or as errata for authors
    Report(crate::report::Report),
    /// Show when a cell's verdict changed, with which kernel and QEMU on each level, how long it takes, whether it is flaky
    History(crate::history::Arguments),
    /// Show what changed from one run to another: regressions, improvements, what is flaky, new, and gone
    Diff(Diff),
    /// Make one result of several runs: of shards, or of several machines
    Merge(Merge),
    /// Write the timeline of a run as a trace file, for Perfetto or Chrome
    Trace(crate::trace::Arguments),
    /// Boot the stack of one cell and hold it, so that its levels can be looked at from inside, or bundle what reproduces it
    Repro(crate::repro::Repro),
    /// Run commands in a level of a stack that `repro` holds
    Shell(Shell),
    /// Ask the QMP monitor of a level's QEMU, in a stack that `repro` holds
    Qmp(Qmp),
    /// Find the first version of a kernel or a QEMU with which a cell's verdict is another one
    Bisect(Bisect),
    /// Damage cells and their scenarios on purpose, and report which damage no verdict shows
    Mutate(crate::mutate::Mutate),
    /// Show the matrix as the documents lay it out; nothing is booted
    List(List),
    /// Build, show and remove what levels boot
    Images(Images),
    /// Show and remove saved states of stacks
    SnapshotCache(SnapshotCache),
    /// Tell which of several kinds of runners run which cells, as a CI system reads it; nothing is booted
    CiMatrix(CiMatrix),
    /// Tell what this machine can run, what it lacks, and the commands that mend that; nothing is changed
    Doctor(Doctor),
    /// Measure nestmatrix, above all against a script that boots the same stack by hand
    Bench(Bench),
}

/// Which scenarios, and which of their cells.
#[derive(Debug, Args)]
pub struct Selection {
    /// Only cells whose name matches one of these globs, such as `rhel-10-preview/*`; `*` also crosses `/`
    pub filter: Vec<String>,
    /// Folder of documents and scenarios
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"), hide_default_value = true)]
    pub scenarios: PathBuf,
    /// Skip cells for which there is only an image that stands in for the system of the document
    #[arg(long)]
    pub deny_stand_ins: bool,
}

/// Where images come from.
#[derive(Debug, Args)]
pub struct ImageSource {
    /// Use the cache alone, never the network; say what is missing
    #[arg(long)]
    pub offline: bool,
    /// Folder of image recipes
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/recipes"), hide_default_value = true)]
    pub recipes: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For machines: one JSON object a line
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MetalArgument {
    /// Native metal if this machine's KVM proves itself by booting a guest, emulated metal otherwise
    Auto,
    /// This machine is L0; cells are skipped, with the reason, where it can't be
    Native,
    /// An emulator plays the bare machine, and a real L0 kernel with KVM boots on it
    Emulated,
}

#[derive(Debug, Args)]
pub struct RunMatrix {
    #[command(flatten)]
    pub selection: Selection,
    /// Only cells of this profile, one of those in profiles.toml among the scenarios; `full` takes all cells [default: the
    /// default profile, or with FILTER none]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Cells that must run on this machine, by globs: what keeps one from it is an error and no skip, so that nobody takes a run
    /// for a good one that has lost its hardware
    #[arg(long, value_name = "GLOB")]
    pub deny_skip: Vec<String>,
    /// Only the cells of shard K of N: each is in exactly one, and the shards can be run on machines that know nothing of each
    /// other; `cargo xtask merge` makes one result of them
    #[arg(long, value_name = "K/N")]
    pub shard: Option<Shard>,
    /// Runs by whose durations cells are dealt out, so that all shards take about as long; each shard must be given the same
    #[arg(long, value_name = "RUN", num_args = 1.., requires = "shard")]
    pub history: Vec<PathBuf>,
    /// Go on with a run that was cut off, with the arguments that it was begun with: its folder, or its name in the folder of
    /// results. Cells that have a verdict keep it. `--jobs` and `--timeout-scale` override the earlier values
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "filter", "scenarios", "deny_stand_ins", "profile", "deny_skip", "shard", "history", "offline", "recipes", "metal",
        "cold", "repeat", "saved_limit", "baseline", "files", "level", "keep_images",
    ])]
    pub resume: Option<PathBuf>,
    #[command(flatten)]
    pub kernels: Kernels,
    #[command(flatten)]
    pub source: ImageSource,
    /// What L0 runs on
    #[arg(long, value_enum, default_value = "auto")]
    pub metal: MetalArgument,
    /// How many cells run side by side, or `auto`: as many as this machine has cores and memory for, by what those before
    /// them used [default: auto]
    #[arg(long, value_name = "N", value_parser = jobs)]
    pub jobs: Option<Jobs>,
    /// Boot every stack from its beginning: use no saved states, and save none
    #[arg(long)]
    pub cold: bool,
    /// Boot each cell this many times in one setting. If its verdicts differ, it is `flaky`, which fails the run unless its scenario says
    /// that it is known to be [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub repeat: Option<u16>,
    /// Disk space in GiB that saved states may take; those that were used longest ago go first
    #[arg(long, value_name = "GIB", default_value = "10", conflicts_with = "cold")]
    pub saved_limit: u64,
    /// A run to compare with, its folder or its name in that of results: exit code 1 is then for what is worse than there, or new and
    /// not as expected, and not for what was bad already
    #[arg(long, value_name = "RUN")]
    pub baseline: Option<PathBuf>,
    /// Folder that gets a folder for this run [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Multiply every time limit by this, for a slow machine [default: 1]
    #[arg(long, value_name = "F", value_parser = timeout_scale)]
    pub timeout_scale: Option<f64>,
    /// How verdicts are printed
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

impl RunMatrix {
    /// How many cells run side by side; none is as many as there is room for.
    pub fn jobs(&self) -> Option<usize> {
        self.jobs.and_then(|jobs| jobs.0)
    }

    /// How often each cell is booted.
    pub fn repeat(&self) -> usize {
        self.repeat.map_or(1, usize::from)
    }

    /// What time limits are multiplied by.
    pub fn timeout_scale(&self) -> f64 {
        self.timeout_scale.unwrap_or(1.0)
    }
}

#[derive(Debug, Args)]
pub struct Merge {
    /// Folders of runs, also of merged ones and of such as were cut off
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// Folder that becomes that of the merged run; it must not be there yet [default: one named after now, in that of results]
    #[arg(long, value_name = "DIR", conflicts_with = "results")]
    pub into: Option<PathBuf>,
    /// A run to compare with: exit code 1 is then for what is worse than there, or new and not as expected, and not for what was
    /// bad already
    #[arg(long, value_name = "RUN")]
    pub baseline: Option<PathBuf>,
    /// Folder that gets a folder for the merged run [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// How verdicts are printed
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The run to compare with: its folder, or its name in that of results
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// The run that is compared
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    /// Folder of all runs [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// How changes are printed
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub selection: Selection,
    /// Only cells of this profile, one of those in profiles.toml among the scenarios
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Folder of image recipes
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/recipes"), hide_default_value = true)]
    pub recipes: PathBuf,
    /// Show every claim of the documents with the cells that try it, whether they decide it, and where documents contradict each
    /// other. A claim is decided, observed, major version only, undecided, skipped or untestable; docs/scenarios.md explains these
    #[arg(long, conflicts_with_all = ["filter", "profile"])]
    pub claims: bool,
    /// Show which kinds of machines could run the cells if there were an image of every system, and why some can run nowhere
    #[arg(long, conflicts_with = "claims")]
    pub machines: bool,
    /// How the matrix is printed
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// The help of `ci-matrix --runner`.
fn runner_help() -> String {
    format!(
        "A kind of runners by its labels: `emulated`, or, for a bare machine whose KVM is used, `bare-metal`, one of {}, and its \
         system, such as `debian-13`. Other labels are passed on",
        architecture_labels()
    )
}

#[derive(Debug, Args)]
pub struct CiMatrix {
    #[command(flatten)]
    pub selection: Selection,
    /// Only cells of this profile, one of those in profiles.toml among the scenarios
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Folder of image recipes
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/recipes"), hide_default_value = true)]
    pub recipes: PathBuf,
    #[arg(long, value_name = "LABEL,...", required = true, help = runner_help())]
    pub runner: Vec<RunnerKind>,
    /// Jobs for each kind, each of which runs a part of its cells
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub shards: u32,
    /// The CI system
    #[arg(long, value_enum, default_value = "github")]
    pub format: CiFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CiFormat {
    /// The value of a job's `strategy.matrix`
    Github,
    /// A child pipeline
    Gitlab,
}

#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXIT_CODES)]
pub struct Doctor {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub source: ImageSource,
    /// What L0 is to run on: `auto` is content with either metal, `native` wants KVM to prove itself
    #[arg(long, value_enum, default_value = "auto")]
    pub metal: MetalArgument,
    /// Ask this level of an emulated stack in the place of this machine: the first cell that matches FILTER is booted up to it
    #[arg(long, value_enum, value_name = "LEVEL", conflicts_with = "metal")]
    pub level: Option<LevelArgument>,
    /// Multiply every time limit by this, for a slow machine
    #[arg(long, value_name = "F", default_value = "1", value_parser = timeout_scale)]
    pub timeout_scale: f64,
    /// How findings are printed; `json` is one object
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

const DOCTOR_EXIT_CODES: &str = "\
Exit codes:
  0    usable: all cells that match FILTER can run on the metal asked for, those of the default profile without one;
       with --metal native, this machine's KVM has booted a guest and lets it nest; with --level, the level can host
  1    not usable
  2    bad usage or bad input
  3    an error of the harness or its machine
  4    no cell matched";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelArgument {
    /// The host on the emulated metal
    L0,
    /// Its guest
    L1,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: that of the command, 128 and the signal's number if one ended it; without a command 0; \
                        255 if the level could not be asked"
)]
pub struct Shell {
    /// The level: L0, L1, ...
    #[arg(value_parser = level)]
    pub level: LevelNumber,
    /// What to run: joined by spaces, by `/bin/sh -c` in the level [default: each line of standard input, in a shell of its own]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Which stack, if several are held: a glob of its cell's name
    #[arg(long, value_name = "GLOB")]
    pub cell: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 if all was answered, 255 if QEMU refused something or could not be asked"
)]
pub struct Qmp {
    /// The level that the QEMU runs: L0, L1, ...
    #[arg(value_parser = level)]
    pub level: LevelNumber,
    /// The command, such as `query-status` [default: each line of standard input, such as `query-status`,
    /// `device_del {"id": "x"}` or a whole `{"execute": ...}`]
    pub command: Option<String>,
    /// Its arguments, a JSON object
    #[arg(value_parser = json_object)]
    pub arguments: Option<serde_json::Value>,
    /// COMMAND is one of the human monitor, such as `info registers`
    #[arg(long, requires = "command", conflicts_with = "arguments")]
    pub human: bool,
    /// Which stack, if several are held: a glob of its cell's name
    #[arg(long, value_name = "GLOB")]
    pub cell: Option<String>,
}

#[derive(Debug, Args)]
pub struct SnapshotCache {
    #[command(subcommand)]
    pub command: StatesCommand,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub enum StatesCommand {
    /// Show every saved state, the one that was used last first
    List,
    /// Remove every saved state that is not in use
    Clear,
}

#[derive(Debug, Args)]
pub struct Images {
    #[command(flatten)]
    pub source: ImageSource,
    #[command(subcommand)]
    pub command: ImagesCommand,
}

#[derive(Debug, Subcommand)]
pub enum ImagesCommand {
    /// Show the recipes and what the cache has of each
    List,
    /// Build what is missing in the cache
    Build {
        /// Recipes to build [default: all]
        recipe: Vec<String>,
        /// Ask the archive for current packages also where the cache has an image
        #[arg(long)]
        refresh: bool,
    },
    /// Show what a recipe's images are made of
    Show {
        /// Recipe
        recipe: String,
    },
    /// Remove everything from the cache but the current images of the recipes
    Prune,
}

#[derive(Debug, Args)]
pub struct Bench {
    /// Rounds: in each the script and every yardstick once, so that the machine's noise hits all alike
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Rounds of the matrix, each of which takes minutes
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    pub matrix_rounds: u32,
    /// Boot the matrix in each of its rounds once more without saved states, to compare the verdicts
    #[arg(long)]
    pub cold_matrix: bool,
    /// How many cells of the matrix run side by side, or `auto`, as for run-matrix
    #[arg(long, value_name = "N", default_value = "auto", value_parser = jobs)]
    pub jobs: Jobs,
    /// Run one cell from its saved state so often, and compare the verdicts
    #[arg(long, value_name = "N", default_value = "0")]
    pub repeat: u32,
    /// Measure only these
    #[arg(long, value_name = "NAME", value_enum, num_args = 1.., value_delimiter = ',')]
    pub only: Vec<Yardstick>,
    /// Folder that gets the records of every run [default: a temporary one, kept if a cell did not pass]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    #[command(flatten)]
    pub source: ImageSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Yardstick {
    /// One cold stack
    Cold,
    /// The same from a saved state
    Saved,
    /// Twelve cells, with nothing saved and again with what was saved
    Matrix,
    /// One cell over and over; `--repeat` says how often
    Repeat,
    /// Planning and writing, where nothing is booted
    Harness,
}

/// How many cells run side by side; none is as many as there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jobs(pub Option<usize>);

pub fn jobs(text: &str) -> Result<Jobs, String> {
    match text.parse::<u16>() {
        _ if text == "auto" => Ok(Jobs(None)),
        Ok(jobs) if jobs > 0 => Ok(Jobs(Some(jobs.into()))),
        _ => Err("it must be `auto` or a number from 1 to 65535".into()),
    }
}

fn level(text: &str) -> Result<LevelNumber, String> {
    let known = || LevelNumber::ALL.map(|level| level.to_string()).join(", ");
    let found = LevelNumber::ALL.into_iter().find(|level| level.to_string().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("levels are {}", known()))
}

/// Reads a JSON object.
pub fn json_object(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err("it must be a JSON object".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// Reads what time limits are multiplied by.
pub fn timeout_scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale.is_finite() && (0.01..=1000.0).contains(&scale) => Ok(scale),
        _ => Err("it must be a number from 0.01 to 1000".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
