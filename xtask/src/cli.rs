//! The command line: commands with their own options, and their help.

mod after_help;
mod as_called;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use nestmatrix::ci::{RunnerKind, architecture_labels};
use nestmatrix::records::Shard;
use nestmatrix_model::{LevelNumber, PROGRAM};

use crate::bisect::Bisect;
use crate::kernels::Kernels;
use crate::list::List;
use crate::settings;

use after_help::AFTER_HELP;

pub use xtask::options::{
    Format, ImageSource, Jobs, MetalArgument, Pace, RecipesFolder, Results, ScenariosFolder, Selection,
    Timeouts,
};

/// Turn nested-virtualization support matrices into regression tests that boot
#[derive(Debug, Parser)]
#[command(name = PROGRAM, bin_name = PROGRAM, version, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot the matrix's stacks and give each cell a verdict
    RunMatrix(RunMatrix),
    /// Show runs as HTML, Markdown, TAP, JUnit XML, tmt or JSON, or as errata for authors
    Report(crate::report::Report),
    /// Show how a cell's verdict, software and duration changed from run to run
    History(crate::history::Arguments),
    /// Compare two runs: regressions, improvements, flaky, new and gone cells
    Diff(Diff),
    /// Merge the results of several runs, such as shards
    Merge(Merge),
    /// Write the timeline of a run as a trace file for Perfetto or Chrome
    Trace(crate::trace::Arguments),
    /// Boot one cell in a debug session, or bundle it for a bug report
    Repro(crate::repro::Repro),
    /// Run a command in a level of a stack, such as a test that needs /dev/kvm
    Exec(crate::exec::Arguments),
    /// Run commands in a level of a paused stack
    Shell(Shell),
    /// Send commands to the QMP monitor of a level's QEMU in a paused stack
    Qmp(Qmp),
    /// Find the kernel or QEMU version that changed a cell's verdict or a test case
    Bisect(Bisect),
    /// Boot a cell with each CPU model that its innermost level can have
    CpuModels(crate::cpu_models::Arguments),
    /// Damage cells and scenarios on purpose and report damage that no verdict shows
    Mutate(crate::mutate::Mutate),
    /// List the cells of the matrix, or its claims, without booting anything
    List(List),
    /// Build, show and remove the images that levels boot
    Images(Images),
    /// Add, list and check sources of RPM packages, such as an installation image of RHEL
    Sources(crate::sources::Arguments),
    /// Add, list and check disk images of whole systems, such as RHEL's image for KVM guests
    Media(crate::media::Arguments),
    /// Add, list and check programs, guests and test suites that run in levels
    Payloads(crate::payloads::Arguments),
    /// Compare what the emulated metal gets wrong with its list of errata
    MetalErrata(crate::metal_errata::Arguments),
    /// Turn libvirt's domain XML into a scenario, and list what it does not express
    ImportDomain(crate::import_domain::Arguments),
    /// Write a level of a cell as libvirt's domain XML
    ExportDomain(crate::export_domain::Arguments),
    /// List and remove snapshots of stacks
    #[command(alias = "states")]
    Snapshots(Snapshots),
    /// Print a CI job matrix that assigns cells to runner types, or write it for tmt or Slurm
    CiMatrix(CiMatrix),
    /// Restore a machine that cells were allowed to change
    Host(crate::host::Arguments),
    /// Show what this machine can run, what is missing, and how to fix it
    Doctor(Doctor),
    /// Pack this program and its data into an archive that runs on machines without Rust
    Dist(crate::dist::Arguments),
    /// Measure nestmatrix against a script that boots the same stack
    // The program has its own help.
    #[command(disable_help_flag = true)]
    Bench(crate::development::Arguments),
    /// Disturb runs at random moments, and check that no verdict is wrong
    #[command(disable_help_flag = true)]
    Chaos(crate::development::Arguments),
}

#[derive(Debug, Args)]
pub struct RunMatrix {
    #[command(flatten)]
    pub selection: Selection,
    /// Select the cells of a profile in profiles.toml; `full` is all cells
    ///
    /// Without this option and without FILTER, the default profile runs.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Fail instead of skipping if a matching cell cannot run here, so that missing hardware is noticed
    #[arg(long, value_name = "GLOB")]
    pub deny_skip: Vec<String>,
    /// Run only shard K of N; merge the results with `cargo xtask merge`
    ///
    /// Every cell is in exactly one shard; the machines need no coordination.
    #[arg(long, value_name = "K/N")]
    pub shard: Option<Shard>,
    /// Balance shards by the durations of these runs; give every shard the same runs
    #[arg(long, value_name = "RUN", num_args = 1.., requires = "shard")]
    pub history: Vec<PathBuf>,
    /// Resume an interrupted run: its folder, or its name in the folder of runs
    ///
    /// Cells keep their verdicts, and the run keeps its arguments. `--jobs` and `--timeout-scale` override the earlier values.
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "filter", "scenarios", "deny_rebuilds", "deny_stand_ins", "profile", "deny_skip", "shard", "history", "offline", "recipes", "metal",
        "disposable_host", "cold", "repeat", "snapshot_limit", "baseline", "files", "level", "keep_images",
    ])]
    pub resume: Option<PathBuf>,
    #[command(flatten)]
    pub kernels: Kernels,
    #[command(flatten)]
    pub source: ImageSource,
    /// Choose what L0 runs on
    #[arg(long, value_enum, default_value = "auto")]
    pub metal: MetalArgument,
    /// Run cells that change L0 natively too, and restore this machine after each; needs root
    ///
    /// Only with --metal native, and only if the machine's administrator permits it; see docs/disposable-hosts.md.
    #[arg(long)]
    pub disposable_host: bool,
    #[command(flatten)]
    pub pace: Pace,
    /// Ignore snapshots, boot every level, and save no snapshots
    #[arg(long)]
    pub cold: bool,
    /// Boot each cell N times; it is `flaky` if its verdicts differ [default: 1]
    ///
    /// A flaky cell fails the run, unless its scenario says that it is known to be flaky.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub repeat: Option<u16>,
    /// Limit the disk space of snapshots; least recently used snapshots are evicted first
    #[arg(long, alias = "saved-limit", value_name = "GIB", default_value_t = settings::SNAPSHOT_LIMIT_GIB, conflicts_with = "cold")]
    pub snapshot_limit: u64,
    /// Compare with this run, and exit with 1 only if something is worse than there
    ///
    /// RUN is a folder, or a name in the folder of runs. A new cell that is not as expected counts as worse. What was bad in the
    /// baseline does not.
    #[arg(long, value_name = "RUN")]
    pub baseline: Option<PathBuf>,
    #[command(flatten)]
    pub results: Results,
    /// Print verdicts in this format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

impl RunMatrix {
    /// How often each cell is booted.
    pub fn repeat(&self) -> usize {
        self.repeat.map_or(1, usize::from)
    }
}

#[derive(Debug, Args)]
pub struct Merge {
    /// Run folders; merged and interrupted runs are accepted
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// Write the merged run to this new folder [default: a new one in the folder of runs]
    #[arg(long, value_name = "DIR", conflicts_with = "results")]
    pub into: Option<PathBuf>,
    /// Compare with this run, and exit with 1 only if something is worse than there
    ///
    /// A new cell that is not as expected counts as worse. What was bad in the baseline does not.
    #[arg(long, value_name = "RUN")]
    pub baseline: Option<PathBuf>,
    #[command(flatten)]
    pub results: Results,
    /// Print verdicts in this format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The earlier run: its folder, or its name in the folder of runs
    #[arg(value_name = "BEFORE")]
    pub before: PathBuf,
    /// The later run
    #[arg(value_name = "AFTER")]
    pub after: PathBuf,
    #[command(flatten)]
    pub results: Results,
    /// Print changes in this format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// The help of `ci-matrix --runner`.
const RUNNER_HELP: &str = "Add a runner type by its labels, such as `emulated` or `bare-metal,amd,debian-13`";

/// The same with the labels explained.
fn runner_long_help() -> String {
    format!(
        "{RUNNER_HELP}\n\nA bare machine whose KVM is used has the labels `bare-metal`, one of {}, and its system. With \
         `disposable-host`, cells may change it. A virtual machine of a cell's L0 has `guest-of-aws` or the like instead of \
         `bare-metal`. Other labels are passed on.",
        architecture_labels()
    )
}

#[derive(Debug, Args)]
pub struct CiMatrix {
    #[command(flatten)]
    pub selection: Selection,
    /// Select the cells of a profile in profiles.toml
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    #[command(flatten)]
    pub folder: RecipesFolder,
    #[arg(long, value_name = "LABEL,...", required = true, help = RUNNER_HELP, long_help = runner_long_help())]
    pub runner: Vec<RunnerKind>,
    /// Split the cells of each runner type into N jobs
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub shards: u32,
    /// Print the matrix for this CI system, or write it for tmt or Slurm
    #[arg(long, value_enum, default_value = "github")]
    pub format: CiFormat,
    #[command(flatten)]
    pub tree: crate::ci_matrix::Tree,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CiFormat {
    /// The value of a job's `strategy.matrix`
    Github,
    /// A child pipeline
    Gitlab,
    /// Plans and tests of tmt, in files below --into
    Fmf,
    /// Job arrays of Slurm, in files below --into
    Slurm,
}

#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXIT_CODES)]
pub struct Doctor {
    #[command(flatten)]
    pub selection: Selection,
    #[command(flatten)]
    pub source: ImageSource,
    /// Choose what L0 runs on: `auto` accepts either metal; `native` requires a working KVM
    #[arg(long, value_enum, default_value = "auto")]
    pub metal: MetalArgument,
    /// Check this level of an emulated stack instead of this machine
    ///
    /// The first cell that matches FILTER is booted up to that level.
    #[arg(long, value_enum, value_name = "LEVEL", conflicts_with = "metal")]
    pub level: Option<LevelArgument>,
    #[command(flatten)]
    pub timeouts: Timeouts,
    /// Print findings in this format; `json` prints a single object
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

const DOCTOR_EXIT_CODES: &str = "\
Exit codes:
  0    usable: all cells that match FILTER can run on this metal; without FILTER, all cells of the
       default profile; with --metal native, this machine's KVM booted a guest and supports nesting;
       with --level, the level can run guests
  1    not usable
  2    bad usage or bad input
  3    the harness or its machine failed
  4    no cell matched";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelArgument {
    /// The host on emulated metal
    L0,
    /// The guest of L0
    L1,
}

#[derive(Debug, Args)]
#[command(after_help = SHELL_EXIT_CODES)]
pub struct Shell {
    /// The level: L0, L1, ...
    #[arg(value_parser = level)]
    pub level: LevelNumber,
    /// The command; its words are joined by spaces for `/bin/sh -c`
    ///
    /// Without a command, each line of standard input runs in a new shell.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Choose the stack by a glob of its cell's name, if several are paused
    #[arg(long, value_name = "GLOB")]
    pub cell: Option<String>,
}

const SHELL_EXIT_CODES: &str = "\
Exit codes: that of the command; 128 plus the number of the signal that ended it;
255 if the level did not answer; 0 without a command";

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 if QEMU accepted every command, 255 if it refused one or did not answer"
)]
pub struct Qmp {
    /// The level that the QEMU runs: L0, L1, ...
    #[arg(value_parser = level)]
    pub level: LevelNumber,
    /// The command, such as `query-status` [default: send each line of standard input]
    ///
    /// A line of standard input is such a command, a command with arguments (`device_del {"id": "x"}`), or a whole
    /// `{"execute": ...}`.
    pub command: Option<String>,
    /// The command's arguments, as a JSON object
    #[arg(value_parser = json_object)]
    pub arguments: Option<serde_json::Value>,
    /// Send COMMAND to the human monitor, such as `info registers`
    #[arg(long, requires = "command", conflicts_with = "arguments")]
    pub human: bool,
    /// Choose the stack by a glob of its cell's name, if several are paused
    #[arg(long, value_name = "GLOB")]
    pub cell: Option<String>,
}

#[derive(Debug, Args)]
pub struct Snapshots {
    #[command(subcommand)]
    pub command: SnapshotsCommand,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub enum SnapshotsCommand {
    /// List all snapshots, the most recently used first
    List,
    /// Remove all snapshots that are not in use
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
    /// List recipes and their cached images
    List,
    /// Build images that are missing from the cache
    Build {
        /// Recipes to build [default: all]
        recipe: Vec<String>,
        /// Rebuild cached images from the archive's current packages, if those changed
        #[arg(long)]
        refresh: bool,
    },
    /// Show what a recipe's images are made of
    Show {
        /// Recipe
        recipe: String,
    },
    /// Remove everything from the cache except the recipes' current images
    Prune,
}

pub fn level(text: &str) -> Result<LevelNumber, String> {
    let known = || LevelNumber::ALL.map(|level| level.to_string()).join(", ");
    let found = LevelNumber::ALL.into_iter().find(|level| level.to_string().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("the levels are {}", known()))
}

/// Reads a JSON object.
pub fn json_object(text: &str) -> Result<serde_json::Value, String> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err("it must be a JSON object".to_owned()),
        Err(e) => Err(e.to_string()),
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

    #[test]
    fn former_words_are_accepted() {
        let parsed = |words: &str| Cli::try_parse_from(words.split(' ')).unwrap().command;
        assert!(matches!(parsed("xtask states list"), Command::Snapshots(_)));
        let Command::RunMatrix(run) = parsed("xtask run-matrix --saved-limit 3") else {
            panic!("another command")
        };
        assert_eq!(run.snapshot_limit, 3);
    }
}
