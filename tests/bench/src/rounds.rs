//! Measures in rounds. Each round runs the script and every yardstick once, so that the machine's noise affects all alike.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum as _;
use nestmatrix::records::Machine;
use nestmatrix_stack::Cancellation;
use tempfile::TempDir;
use xtask::exit::{self, Failure};
use xtask::input;
use xtask::options::Jobs;
use xtask::signals::Signals;
use xtask::terminal::print;

use crate::arguments::{Bench, Yardstick};
use crate::findings::{Findings, restored_time, time};
use crate::harness_alone;
use crate::stacks::{Cells, Prepared, Ran, Stacks, Stopped};

/// A cell measured alone has the machine to itself.
const ALONE: Jobs = Jobs(Some(1));

/// Measures, and prints the findings even if it is interrupted or fails.
pub fn run(arguments: &Bench) -> Result<ExitCode, Failure> {
    if arguments.only.contains(&Yardstick::Repeat) && arguments.repeat == 0 {
        let why = "the yardstick `repeat` requires `--repeat N`";
        return Err(Failure::bad_input(miette::miette!("{why}")));
    }
    // Before the folders, so that an interrupted download leaves none behind.
    let measured = arguments.cells();
    let prepared = (!measured.is_empty()).then(|| Prepared::new(&arguments.source, &measured)).transpose()?;
    let folders =
        Folders::new(arguments).map_err(|e| Failure::error(format!("failed to create folders: {e}")))?;
    let mut findings = Findings::default();
    // One thread, since the parent death signal of a child belongs to the thread that started it.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::error)?;
    let local = tokio::task::LocalSet::new();
    let (done, code) = runtime.block_on(local.run_until(async {
        let signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(e) => return (Err(Failure::error(e)), None),
        };
        let done = measure(arguments, prepared, &folders, &mut findings, signals.cancellation.clone()).await;
        let done = match done {
            Err(Stopped::Failed(failure)) => Err(failure),
            Ok(()) | Err(Stopped::Interrupted) => Ok(()),
        };
        (done, signals.exit_code())
    }));
    print(&findings.to_text(&Machine::this()));
    folders.clean_up(&findings);
    done?;
    let of_findings = match (findings.incomplete(), findings.is_worse()) {
        (true, _) => exit::ERROR,
        (false, is_worse) => u8::from(is_worse),
    };
    Ok(ExitCode::from(code.unwrap_or(of_findings)))
}

impl Bench {
    /// Whether to measure a yardstick.
    fn wants(&self, yardstick: Yardstick) -> bool {
        let selected = self.only.is_empty() || self.only.contains(&yardstick);
        selected && (yardstick != Yardstick::Repeat || self.repeat > 0)
    }

    /// The cells that the yardsticks boot.
    fn cells(&self) -> BTreeSet<Cells> {
        let all = Yardstick::value_variants().iter().filter(|yardstick| self.wants(**yardstick));
        all.filter_map(|yardstick| match yardstick {
            Yardstick::Cold | Yardstick::Snapshot | Yardstick::Repeat => Some(Cells::One),
            Yardstick::Matrix => Some(Cells::Matrix),
            Yardstick::Intel | Yardstick::IntelSnapshot => Some(Cells::Intel),
            Yardstick::Power9 => Some(Cells::Power9),
            Yardstick::DefaultProfile => Some(Cells::DefaultProfile),
            Yardstick::Harness => None,
        })
        .collect()
    }
}

/// The folders of the bench. They are in the target folder, since snapshots are large and the folder of temporary files may be in
/// memory.
struct Folders {
    /// Snapshots and generated scenarios.
    work: TempDir,
    /// Records, unless the user chose a folder.
    temporary_results: Option<TempDir>,
    results: PathBuf,
}

impl Folders {
    fn new(arguments: &Bench) -> std::io::Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
        let checkout = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let target = target.map_or_else(|| checkout.join("target"), PathBuf::from);
        std::fs::create_dir_all(&target)?;
        let target = target.canonicalize()?;
        let folder = |prefix| tempfile::Builder::new().prefix(prefix).tempdir_in(&target);
        let work = folder("bench-")?;
        let (temporary_results, results) = match &arguments.results {
            Some(results) => (None, results.clone()),
            None => {
                let results = folder("bench-results-")?;
                let path = results.path().to_owned();
                (Some(results), path)
            }
        };
        Ok(Self { work, temporary_results, results })
    }

    /// Keeps the records if a cell did not pass.
    fn clean_up(self, findings: &Findings) {
        if let (Some(results), true) = (self.temporary_results, findings.unexpected()) {
            eprintln!("records: {}", input::short(&results.keep()).display());
        }
    }
}

async fn measure(
    arguments: &Bench,
    prepared: Option<Prepared>,
    folders: &Folders,
    findings: &mut Findings,
    cancellation: Cancellation,
) -> Result<(), Stopped> {
    if arguments.wants(Yardstick::Harness) {
        measure_harness(arguments, folders, findings, &cancellation).await?;
    }
    let Some(prepared) = prepared else { return Ok(()) };
    let stacks = Stacks::new(prepared, &arguments.source, &folders.results, cancellation);
    let mut rounds = Rounds {
        arguments,
        stacks: &stacks.map_err(|e| Stopped::Failed(Failure::error(e)))?,
        findings,
        cell_snapshots: folders.work.path().join("cell-snapshots"),
        matrix_snapshots: folders.work.path().join("matrix-snapshots"),
        profile_snapshots: folders.work.path().join("profile-snapshots"),
    };
    rounds.all().await
}

async fn measure_harness(
    arguments: &Bench,
    folders: &Folders,
    findings: &mut Findings,
    cancellation: &Cancellation,
) -> Result<(), Stopped> {
    if cfg!(debug_assertions) {
        eprintln!(
            "harness: a debug build is not representative; use `cargo run --release -p xtask -- bench`"
        );
    }
    let catalog = input::recipes(&arguments.source.folder).map_err(Stopped::Failed)?;
    for round in 1..=arguments.rounds {
        let folder = folders.work.path().join(format!("harness-{round}"));
        let seconds = harness_alone::measure(&catalog, &folder).map_err(Stopped::Failed)?;
        eprintln!(
            "harness, round {round}: read {:.2} s, plan {:.2} s, write {:.2} s",
            seconds.reading, seconds.planning, seconds.writing
        );
        findings.harness.push(seconds);
        // Signals are handled only between rounds, since measuring never yields.
        tokio::task::yield_now().await;
        if cancellation.is_requested() {
            return Err(Stopped::Interrupted);
        }
    }
    Ok(())
}

struct Rounds<'a> {
    arguments: &'a Bench,
    stacks: &'a Stacks,
    findings: &'a mut Findings,
    /// Snapshots of the single cell.
    cell_snapshots: PathBuf,
    /// Snapshots of the matrix.
    matrix_snapshots: PathBuf,
    /// Snapshots of the default profile.
    profile_snapshots: PathBuf,
}

impl Rounds<'_> {
    async fn all(&mut self) -> Result<(), Stopped> {
        let wants = |yardstick| self.arguments.wants(yardstick);
        let (cold, snapshot, matrix) =
            (wants(Yardstick::Cold), wants(Yardstick::Snapshot), wants(Yardstick::Matrix));
        let (intel, intel_snapshot) = (wants(Yardstick::Intel), wants(Yardstick::IntelSnapshot));
        let (power9, profile) = (wants(Yardstick::Power9), wants(Yardstick::DefaultProfile));
        if snapshot || wants(Yardstick::Repeat) {
            self.cell(Cells::One, "before round 1, saves a snapshot", true).await?;
        }
        if intel_snapshot {
            self.cell(Cells::Intel, "before round 1, intel saves a snapshot", true).await?;
        }
        let singles = if cold || snapshot { self.arguments.rounds } else { 0 };
        let has_long_ones = matrix || intel || intel_snapshot || power9 || profile;
        let long_rounds = if has_long_ones { self.arguments.matrix_rounds } else { 0 };
        for round in 1..=singles.max(long_rounds) {
            let script = self.stacks.by_hand().await?;
            eprintln!("round {round}, the script: {script:.2} s");
            self.findings.script.push(script);
            if cold && round <= singles {
                let ran = self.cell(Cells::One, &format!("round {round}, cold"), false).await?;
                self.findings.cold.push(time(&ran.records), script);
            }
            if snapshot && round <= singles {
                let ran = self.cell(Cells::One, &format!("round {round}, snapshot"), true).await?;
                self.findings.snapshot.push(restored_time(&ran.records), script);
            }
            if round > long_rounds {
                continue;
            }
            if matrix {
                self.matrix(round, script).await?;
            }
            if intel {
                let ran = self.cell(Cells::Intel, &format!("round {round}, intel"), false).await?;
                self.findings.intel.push(time(&ran.records), script);
            }
            if intel_snapshot {
                let ran = self.cell(Cells::Intel, &format!("round {round}, intel, snapshot"), true).await?;
                self.findings.intel_snapshot.push(restored_time(&ran.records), script);
            }
            if power9 {
                let ran = self.cell(Cells::Power9, &format!("round {round}, power9"), false).await?;
                self.findings.power9.push(time(&ran.records), script);
            }
            if profile {
                self.default_profile(round, script).await?;
            }
        }
        for number in 1..=self.arguments.repeat {
            if self.arguments.wants(Yardstick::Repeat) {
                let ran = self.cell(Cells::One, &format!("repeat {number}"), true).await?;
                ran.records.iter().for_each(|record| self.findings.repeated(record.verdict));
            }
        }
        Ok(())
    }

    async fn matrix(&mut self, round: u32, script: f64) -> Result<(), Stopped> {
        empty(&self.matrix_snapshots)?;
        let snapshots = Some(self.matrix_snapshots.clone());
        let first = self.twelve(&format!("round {round}, matrix, first"), snapshots.as_deref()).await?;
        self.findings.matrix_first.push(first, script);
        let again = self.twelve(&format!("round {round}, matrix, again"), snapshots.as_deref()).await?;
        self.findings.matrix_again.push(again, script);
        if self.arguments.cold_matrix {
            let cold = self.twelve(&format!("round {round}, matrix, cold"), None).await?;
            self.findings.matrix_cold.push(cold, script);
        }
        Ok(())
    }

    /// Runs the matrix, and returns the average seconds of a cell.
    async fn twelve(&mut self, name: &str, snapshots: Option<&Path>) -> Result<Option<f64>, Stopped> {
        let ran = self.stacks.run(Cells::Matrix, self.arguments.jobs, snapshots).await?;
        self.findings.take(name, &ran);
        Ok(time(&ran.records).map(|seconds| seconds / self.stacks.count(Cells::Matrix) as f64))
    }

    /// Runs the default profile without snapshots, and with those that this has saved.
    async fn default_profile(&mut self, round: u32, script: f64) -> Result<(), Stopped> {
        empty(&self.profile_snapshots)?;
        let snapshots = Some(self.profile_snapshots.clone());
        for name in ["first", "again"] {
            let jobs = self.arguments.jobs;
            let ran = self.stacks.run(Cells::DefaultProfile, jobs, snapshots.as_deref()).await?;
            self.findings.take(&format!("round {round}, default profile, {name}"), &ran);
            let times = match name {
                "first" => &mut self.findings.profile_first,
                _ => &mut self.findings.profile_again,
            };
            times.push(time(&ran.records), script);
        }
        Ok(())
    }

    /// Runs a single cell.
    async fn cell(&mut self, cells: Cells, name: &str, with_snapshots: bool) -> Result<Ran, Stopped> {
        let snapshots = with_snapshots.then(|| self.cell_snapshots.clone());
        let ran = self.stacks.run(cells, ALONE, snapshots.as_deref()).await?;
        self.findings.take(name, &ran);
        Ok(ran)
    }
}

/// Removes a folder, if it exists.
fn empty(folder: &Path) -> Result<(), Stopped> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Stopped::Failed(Failure::error(format!("failed to empty {}: {e}", folder.display()))))
        }
        _ => Ok(()),
    }
}
