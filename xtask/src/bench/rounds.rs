//! The rounds: in each the script and every yardstick once, so that the machine's noise hits all alike.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nestmatrix::records::Machine;
use nestmatrix_stack::Cancellation;
use tempfile::TempDir;

use super::findings::{Findings, time};
use super::harness_alone;
use super::records::Record;
use super::stacks::{CELL, MATRIX, Prepared, Ran, Stacks, Stopped};
use crate::cli::{Bench, Jobs, Yardstick};
use crate::exit::{self, Failure};
use crate::input;
use crate::signals::Signals;

/// A cell that is measured alone has the machine for itself.
const ALONE: Jobs = Jobs(Some(1));

/// Measures, and prints what was found, also if it was interrupted or failed on the way.
pub fn run(arguments: &Bench) -> Result<ExitCode, Failure> {
    if arguments.only.contains(&Yardstick::Repeat) && arguments.repeat == 0 {
        let why = "`--repeat N` says how often the cell of the yardstick `repeat` is to run";
        return Err(Failure::bad_input(miette::miette!("{why}")));
    }
    // First, so that whoever interrupts a download leaves nothing behind.
    let prepared = arguments.boots().then(|| Prepared::new(&arguments.source)).transpose()?;
    let place = Place::new(arguments).map_err(|e| Failure::error(format!("failed to make folders: {e}")))?;
    let mut findings = Findings::default();
    // One thread: the kernel ties the life of a child to the thread that started it.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::error)?;
    let local = tokio::task::LocalSet::new();
    let (done, code) = runtime.block_on(local.run_until(async {
        let signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(e) => return (Err(Failure::error(e)), None),
        };
        let done = all(arguments, prepared, &place, &mut findings, signals.cancellation.clone()).await;
        let done = match done {
            Err(Stopped::Failed(failure)) => Err(failure),
            Ok(()) | Err(Stopped::Interrupted) => Ok(()),
        };
        (done, signals.exit_code())
    }));
    // A reader who has gone away is no failure.
    crate::run_matrix::say(&findings.to_text(&Machine::this()));
    place.clean_up(&findings);
    done?;
    let incomplete = if findings.incomplete() { exit::ERROR } else { 0 };
    Ok(ExitCode::from(code.unwrap_or(incomplete)))
}

impl Bench {
    /// Whether a yardstick is asked for.
    fn wants(&self, yardstick: Yardstick) -> bool {
        let asked = self.only.is_empty() || self.only.contains(&yardstick);
        asked && (yardstick != Yardstick::Repeat || self.repeat > 0)
    }

    /// Whether anything is booted.
    fn boots(&self) -> bool {
        [Yardstick::Cold, Yardstick::Saved, Yardstick::Matrix, Yardstick::Repeat]
            .into_iter()
            .any(|yardstick| self.wants(yardstick))
    }
}

/// Where the bench keeps its things: with what is built, since states are large and a folder for temporary files
/// may lie in memory.
struct Place {
    /// Saved states, which are nobody's but the bench's.
    work: TempDir,
    /// Records, unless the user has said where they go.
    results: Option<TempDir>,
    given: PathBuf,
}

impl Place {
    fn new(arguments: &Bench) -> std::io::Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
        let checkout = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let target = target.map_or_else(|| checkout.join("target"), PathBuf::from);
        std::fs::create_dir_all(&target)?;
        let target = target.canonicalize()?;
        let folder = |prefix| tempfile::Builder::new().prefix(prefix).tempdir_in(&target);
        let work = folder("bench-")?;
        let (results, given) = match &arguments.results {
            Some(results) => (None, results.clone()),
            None => {
                let results = folder("bench-results-")?;
                let path = results.path().to_owned();
                (Some(results), path)
            }
        };
        Ok(Self { work, results, given })
    }

    /// Keeps the records if something is to be read in them.
    fn clean_up(self, findings: &Findings) {
        if let (Some(results), true) = (self.results, findings.unexpected()) {
            eprintln!("records: {}", input::short(&results.keep()).display());
        }
    }
}

async fn all(
    arguments: &Bench,
    prepared: Option<Prepared>,
    place: &Place,
    findings: &mut Findings,
    cancellation: Cancellation,
) -> Result<(), Stopped> {
    if arguments.wants(Yardstick::Harness) {
        harness(arguments, place, findings, &cancellation).await?;
    }
    let Some(prepared) = prepared else { return Ok(()) };
    let stacks = Stacks::new(prepared, &arguments.source, &place.given, cancellation);
    let mut rounds = Rounds {
        arguments,
        stacks: &stacks.map_err(|e| Stopped::Failed(Failure::error(e)))?,
        findings,
        state: place.work.path().join("state"),
        matrix_states: place.work.path().join("matrix-states"),
    };
    rounds.all().await
}

async fn harness(
    arguments: &Bench,
    place: &Place,
    findings: &mut Findings,
    cancellation: &Cancellation,
) -> Result<(), Stopped> {
    if cfg!(debug_assertions) {
        eprintln!("harness: a debug build says nothing of it: `cargo run --release -p xtask -- bench`");
    }
    let catalog = input::recipes(&arguments.source.recipes).map_err(Stopped::Failed)?;
    for round in 1..=arguments.rounds {
        let folder = place.work.path().join(format!("harness-{round}"));
        let seconds = harness_alone::measure(&catalog, &folder).map_err(Stopped::Failed)?;
        eprintln!(
            "harness, round {round}: read {:.2} s, plan {:.2} s, write {:.2} s",
            seconds.reading, seconds.planning, seconds.writing
        );
        findings.harness.push(seconds);
        // Signals are looked at between rounds alone, since measuring does not wait for anything.
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
    /// Saved states of the one cell.
    state: PathBuf,
    /// Saved states of the matrix.
    matrix_states: PathBuf,
}

impl Rounds<'_> {
    async fn all(&mut self) -> Result<(), Stopped> {
        let wants = |yardstick| self.arguments.wants(yardstick);
        let (cold, saved, matrix) =
            (wants(Yardstick::Cold), wants(Yardstick::Saved), wants(Yardstick::Matrix));
        if saved || wants(Yardstick::Repeat) {
            self.cell("before round 1, saves its state", true).await?;
        }
        let singles = if cold || saved { self.arguments.rounds } else { 0 };
        let matrices = if matrix { self.arguments.matrix_rounds } else { 0 };
        for round in 1..=singles.max(matrices) {
            let script = self.stacks.by_hand().await?;
            eprintln!("round {round}, the script: {script:.2} s");
            self.findings.script.push(script);
            if cold && round <= singles {
                let ran = self.cell(&format!("round {round}, cold"), false).await?;
                self.findings.cold.push(time(&ran.records), script);
            }
            if saved && round <= singles {
                let ran = self.cell(&format!("round {round}, saved"), true).await?;
                let restored = ran.records.iter().all(Record::restored);
                self.findings.saved.push(time(&ran.records).filter(|_| restored), script);
            }
            if round <= matrices {
                self.matrix(round, script).await?;
            }
        }
        for number in 1..=self.arguments.repeat {
            if self.arguments.wants(Yardstick::Repeat) {
                let ran = self.cell(&format!("repeat {number}"), true).await?;
                ran.records.iter().for_each(|record| self.findings.repeated(record.verdict));
            }
        }
        Ok(())
    }

    async fn matrix(&mut self, round: u32, script: f64) -> Result<(), Stopped> {
        empty(&self.matrix_states).map_err(|e| {
            let folder = self.matrix_states.display();
            Stopped::Failed(Failure::error(format!("failed to empty {folder}: {e}")))
        })?;
        let states = Some(self.matrix_states.clone());
        let first = self.twelve(&format!("round {round}, matrix, first"), states.as_deref()).await?;
        self.findings.matrix_first.push(first, script);
        let again = self.twelve(&format!("round {round}, matrix, again"), states.as_deref()).await?;
        self.findings.matrix_again.push(again, script);
        if self.arguments.cold_matrix {
            let cold = self.twelve(&format!("round {round}, matrix, cold"), None).await?;
            self.findings.matrix_cold.push(cold, script);
        }
        Ok(())
    }

    /// Runs the matrix, and gives the seconds of one of its cells on average.
    async fn twelve(&mut self, name: &str, states: Option<&Path>) -> Result<Option<f64>, Stopped> {
        let cells = self.stacks.cells();
        let ran = self.stacks.run(MATRIX, cells, self.arguments.jobs, states).await?;
        self.findings.take(name, &ran);
        Ok(time(&ran.records).map(|seconds| seconds / cells as f64))
    }

    /// Runs the one cell.
    async fn cell(&mut self, name: &str, saved: bool) -> Result<Ran, Stopped> {
        let state = saved.then(|| self.state.clone());
        let ran = self.stacks.run(CELL, 1, ALONE, state.as_deref()).await?;
        self.findings.take(name, &ran);
        Ok(ran)
    }
}

/// Removes a folder that may not be there.
fn empty(folder: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
