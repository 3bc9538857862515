//! A campaign: the undisturbed runs, then one disturbed run after the other.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Output};
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use nestmatrix::records::VerdictWord;
use nestmatrix_images::{Store, StoreOptions};
use nestmatrix_stack::Cancellation;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{sleep, sleep_until};
use xtask::exit::{self, Failure};
use xtask::input;
use xtask::signals::Signals;
use xtask::terminal::{note, print};

use crate::arguments::Chaos;
use crate::clock;
use crate::disturbance::{Disturbance, Kind};
use crate::harness::{Ended, Job, Starter};
use crate::inflict::{Inflicted, Target};
use crate::judge::{self, Undisturbed};
use crate::outcome::{Came, Outcome, table};
use crate::place::Place;
use crate::processes::{Process, with_mark};

/// The cells without a filter.
const DEFAULT_CELLS: [&str; 4] = ["--profile", "default", "*/amd/*", "*/intel/*"];
/// Verdicts of cells that are disturbed: those whose run alone has the exit code 0.
const EXPECTED: [VerdictWord; 2] = [VerdictWord::Pass, VerdictWord::Xfail];
/// Exit code if every run had ended before it was disturbed.
const NOTHING_TESTED: u8 = 4;
/// Longest wait until the processes of an ended run are gone.
const GONE: Duration = Duration::from_secs(10);

/// Why a campaign ended early.
enum Stopped {
    Interrupted,
    Failed(Failure),
}

impl<E: std::error::Error> From<E> for Stopped {
    fn from(e: E) -> Self {
        Self::Failed(Failure::error(e))
    }
}

/// A cell of the campaign.
struct CellOfCampaign {
    undisturbed: Undisturbed,
    /// How long it takes if every level boots.
    cold: Duration,
    /// How long it took when it could last be restored from a snapshot.
    restored: Duration,
}

struct Campaign<'c> {
    arguments: &'c Chaos,
    /// What is drawn from.
    kinds: Vec<Kind>,
    seed: u64,
    starter: Starter,
    into: PathBuf,
    cancellation: Cancellation,
    outcomes: Vec<Outcome>,
}

/// Runs a campaign, and prints what came of it even if it is interrupted.
pub fn run(arguments: &Chaos) -> Result<ExitCode, Failure> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let into = arguments.into.clone().unwrap_or_else(|| build_folder().join(format!("chaos-{seed}")));
    let failed = |e: io::Error| Failure::error(format!("failed to make {}: {e}", into.display()));
    if into.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::bad_input(miette::miette!("{} is not empty", into.display())));
    }
    let kinds = kinds(&arguments.only)?;
    fs::create_dir_all(&into).map_err(failed)?;
    let into = into.canonicalize().map_err(failed)?;
    // One thread, since the parent death signal of a child belongs to the thread that started it.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::error)?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let mut campaign = Campaign {
            arguments,
            kinds,
            seed,
            starter: Starter::new()?,
            into,
            cancellation: signals.cancellation.clone(),
            outcomes: Vec::new(),
        };
        let done = campaign.all().await;
        print(&format!("\n{}", table(&campaign.outcomes)));
        print(&format!("outcomes: {}\n", input::short(&campaign.into).display()));
        match done {
            Err(Stopped::Failed(failure)) => Err(failure),
            Err(Stopped::Interrupted) => Ok(ExitCode::from(signals.exit_code().unwrap_or(exit::ERROR))),
            Ok(()) if campaign.has_tested_nothing() => {
                note!("every run had ended before it was disturbed, so nothing was tested");
                Ok(ExitCode::from(NOTHING_TESTED))
            }
            Ok(()) => Ok(ExitCode::from(u8::from(
                campaign.outcomes.iter().any(|outcome| !outcome.wrong.is_empty()),
            ))),
        }
    }))
}

/// The kinds of disturbances that are possible here, of those that are wanted.
pub fn kinds(only: &[Kind]) -> Result<Vec<Kind>, Failure> {
    let without_library = clock::library().is_none();
    if !only.is_empty() {
        return match without_library && only.contains(&Kind::Clock) {
            true => Err(Failure::bad_input(miette::miette!("a clock that jumps needs libfaketime"))),
            false => Ok(only.to_vec()),
        };
    }
    let all = Kind::value_variants().iter().copied();
    if without_library {
        note!("no clock jumps, since libfaketime is not installed");
    }
    Ok(all.filter(|kind| !(without_library && *kind == Kind::Clock)).collect())
}

/// Cargo's build folder.
fn build_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    let checkout = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    target.map_or_else(|| checkout.join("target"), PathBuf::from)
}

impl Campaign<'_> {
    fn has_tested_nothing(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.came == Came::Undisturbed && outcome.wrong.is_empty())
    }

    async fn all(&mut self) -> Result<(), Stopped> {
        let mut cells = self.undisturbed().await?;
        print(&format!("seed {}: {} cells\n", self.seed, cells.len()));
        let store = Store::open(StoreOptions { offline: true, ..StoreOptions::default() })?;
        let place = Place::new(store.cache())?;
        let mut file = File::create(self.into.join("outcomes.jsonl"))?;
        for number in (self.arguments.from..).take(usize::try_from(self.arguments.runs)?) {
            let outcome = self.one(&place, &mut cells, number).await?;
            print(&outcome.told());
            writeln!(file, "{}", serde_json::to_string(&outcome)?)?;
            self.outcomes.push(outcome);
        }
        Ok(())
    }

    /// Runs the cells undisturbed, with the user's own cache: it builds what is missing, and shows what each cell does.
    async fn undisturbed(&self) -> Result<Vec<CellOfCampaign>, Stopped> {
        let results = self.into.join("undisturbed");
        let mark = format!("{}-undisturbed", std::process::id());
        let cells = match &self.arguments.filter[..] {
            [] => DEFAULT_CELLS.map(str::to_owned).to_vec(),
            filter => filter.to_vec(),
        };
        let job =
            Job { cells: &cells, cold: true, offline: false, results: &results, mark: &mark, clock: None };
        note!("runs the cells undisturbed first");
        let child = self.starter.start(None, &job)?;
        let (output, _) = self.finish(child, &job, None).await?;
        let Some(output) = output else { return Err(hung(self.arguments.limit)) };
        let ended = Ended::new(&output, &results);
        let records = ended.recorded.clone().map_err(|why| Stopped::Failed(Failure::error(why)))?;
        let mut cells = Vec::new();
        for record in records {
            if !EXPECTED.contains(&record.verdict) {
                note!("left out: {}: {}", record.cell, judge::told(&record));
                continue;
            }
            let took = record.attempts.iter().map(|attempt| attempt.end - attempt.start).sum::<f64>();
            let cold = Duration::from_secs_f64(took.max(0.0));
            let undisturbed = Undisturbed { cell: record.cell, verdict: record.verdict, stage: record.stage };
            cells.push(CellOfCampaign { undisturbed, cold, restored: cold });
        }
        if cells.is_empty() {
            let why = format!("no cell has a verdict to compare with; {}", judge::last_words(&ended));
            return Err(Stopped::Failed(Failure::error(why)));
        }
        Ok(cells)
    }

    /// Disturbs a run, and runs the same cell undisturbed after that.
    async fn one(
        &self,
        place: &Place,
        cells: &mut [CellOfCampaign],
        number: u32,
    ) -> Result<Outcome, Stopped> {
        let disturbance = Disturbance::draw(self.seed, number, cells.len(), &self.kinds);
        let cell = &mut cells[disturbance.cell];
        let name = [cell.undisturbed.cell.clone()];
        let folder = place.results().join(format!("run-{number}"));
        let paths = ["disturbed", "second", "after"].map(|name| folder.join(name));
        let [results, others_results, results_after] = &paths;
        let mark = format!("{}-{number}", std::process::id());
        let clock = (disturbance.kind == Kind::Clock).then(|| folder.join("clock"));
        if let Some(clock) = &clock {
            fs::create_dir_all(&folder)?;
            clock::set(clock, 0)?;
        }
        let cold = disturbance.cold;
        let job = Job { cells: &name, cold, offline: true, results, mark: &mark, clock: clock.as_deref() };
        let duration = if disturbance.cold { cell.cold } else { cell.restored };
        let after = duration.mul_f64(disturbance.moment);

        let began = Instant::now();
        let child = self.starter.start(Some(place), &job)?;
        let harness = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        let _shared = clock.is_some().then(|| clock::Shared(harness));
        let target = Target { harness, job, place, starter: &self.starter, others_results };
        let (output, inflicted) = self.finish(child, &job, Some((&target, &disturbance, after))).await?;
        let seconds = began.elapsed().as_secs_f64();
        let mut wrong = Vec::new();
        let ended = output.map(|output| Ended::new(&output, results));
        match (&ended, &inflicted) {
            (None, _) => wrong.push(format!("it has not ended after {} s", self.arguments.limit)),
            (Some(ended), Some(inflicted)) => {
                wrong.extend(judge::of_disturbed(&cell.undisturbed, ended, disturbance.kind, inflicted));
            }
            (Some(ended), None) => wrong.extend(judge::of_undisturbed(&cell.undisturbed, ended)),
        }
        let killed = inflicted.as_ref().is_some_and(|inflicted| inflicted.killed_harness);
        // A killed harness cannot remove its folders; the next one does.
        let left = if killed { Vec::new() } else { place.left() };
        wrong.extend(judge::of_leftovers(&processes_left(&mark).await, &left));

        // A damaged image is built again, which takes the network.
        let offline = disturbance.kind != Kind::Damage;
        let job = Job { cold: false, offline, results: results_after, clock: None, ..job };
        let began = Instant::now();
        let child = self.starter.start(Some(place), &job)?;
        let (output, _) = self.finish(child, &job, None).await?;
        let ended_after = output.map(|output| Ended::new(&output, results_after));
        let after_it = ended_after.map_or_else(
            || vec![format!("it has not ended after {} s", self.arguments.limit)],
            |ended| judge::of_undisturbed(&cell.undisturbed, &ended),
        );
        let after_it =
            after_it.into_iter().chain(judge::of_leftovers(&processes_left(&mark).await, &place.left()));
        wrong.extend(after_it.map(|what| format!("the next run: {what}")));
        cell.restored = began.elapsed();
        place.link_cache()?;
        if wrong.is_empty() {
            fs::remove_dir_all(&folder)?;
        } else {
            keep(&folder, &self.into.join(format!("run-{number}")))?;
        }

        let record = ended.as_ref().and_then(|ended| ended.of(&cell.undisturbed.cell));
        let came = match record {
            _ if inflicted.is_none() => Came::Undisturbed,
            Some(record) if cell.undisturbed.is(record) => Came::Unharmed,
            Some(record) if record.verdict == VerdictWord::Error => Came::Error,
            Some(_) => Came::OtherVerdict,
            None => Came::WithoutVerdict,
        };
        let said = || ended.as_ref().filter(|ended| ended.signal.is_none()).map(judge::last_words);
        Ok(Outcome {
            seed: self.seed,
            run: number,
            cell: cell.undisturbed.cell.clone(),
            cold: disturbance.cold,
            kind: disturbance.kind,
            after: after.as_secs_f64(),
            inflicted: inflicted.map(|inflicted| inflicted.what),
            verdict: record.map(judge::told).or_else(|| Some(format!("no verdict; {}", said()?))),
            came,
            seconds,
            wrong,
        })
    }

    /// Waits for the end of a run, and disturbs it on the way. Without an output, it has not ended in time, and its processes were
    /// killed.
    async fn finish(
        &self,
        child: Child,
        job: &Job<'_>,
        disturbed: Option<(&Target<'_>, &Disturbance, Duration)>,
    ) -> Result<(Option<Output>, Option<Inflicted>), Stopped> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(self.arguments.limit);
        let harness = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let output = child.wait_with_output();
        let disturb = async {
            match disturbed {
                Some((target, disturbance, _)) => target.disturb(disturbance).await,
                None => Ok(None),
            }
        };
        tokio::pin!(output, disturb);
        let moment = disturbed.map(|(_, _, after)| tokio::time::Instant::now() + after);
        let (mut has_begun, mut is_done, mut inflicted) = (false, false, None);
        let mut cancellation = self.cancellation.clone();
        let output = loop {
            tokio::select! {
                () = sleep_until(moment.unwrap_or(deadline)), if !has_begun && moment.is_some() => has_begun = true,
                done = &mut disturb, if has_begun && !is_done => {
                    is_done = true;
                    inflicted = done?;
                }
                output = &mut output => break Some(output?),
                () = sleep_until(deadline) => break None,
                () = cancellation.requested() => {
                    if let Some(harness) = harness {
                        // Fails only if it has ended.
                        let _ = kill(harness, Signal::SIGCONT).and_then(|()| kill(harness, Signal::SIGTERM));
                    }
                    let _ = output.await;
                    return Err(Stopped::Interrupted);
                }
            }
        };
        if output.is_none() {
            with_mark(job.mark).iter().for_each(|process| process.send(Signal::SIGKILL));
        }
        // For example, a second harness runs on.
        if has_begun && !is_done {
            inflicted = disturb.await?;
        }
        Ok((output, inflicted))
    }
}

/// The processes of a run that are alive some time after its end. They are killed, so that they don't disturb the next run.
async fn processes_left(mark: &str) -> Vec<Process> {
    let began = Instant::now();
    loop {
        let left = with_mark(mark);
        if left.is_empty() || began.elapsed() > GONE {
            left.iter().for_each(|process| process.send(Signal::SIGKILL));
            return left;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Moves the records of a run to where they are kept, which may be another file system.
fn keep(from: &Path, to: &Path) -> io::Result<()> {
    for file in crate::damage::files_below(from) {
        let target = to.join(file.strip_prefix(from).map_err(io::Error::other)?);
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::copy(&file, &target)?;
    }
    fs::remove_dir_all(from)
}

fn hung(limit: u64) -> Stopped {
    Stopped::Failed(Failure::error(format!(
        "the undisturbed run has not ended after {limit} s; set a longer --limit"
    )))
}
