//! Disturbs a run.

use std::io;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::clock;
use crate::damage::damage_one_below;
use crate::disturbance::{Disturbance, Kind, Store};
use crate::harness::{Ended, Job, Starter};
use crate::hostile;
use crate::place::Place;
use crate::processes::{Process, with_mark};

/// The longest file that can still be written on a disk that is said to be full, in bytes. What is written into an existing file below
/// that is possible on a full disk, too.
const LARGEST_FILE: u64 = 4 << 20;

/// How far a clock jumps at most, in seconds: a year.
const LARGEST_JUMP: i64 = 365 * 24 * 60 * 60;

/// What was done to a run.
#[derive(Debug, Clone)]
pub struct Inflicted {
    /// In words.
    pub what: String,
    /// Whether the harness was killed.
    pub killed_harness: bool,
    /// Whether the records of the run may be damaged.
    pub damaged_records: bool,
    /// The second harness.
    pub second: Option<Ended>,
}

impl Inflicted {
    fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), killed_harness: false, damaged_records: false, second: None }
    }
}

/// The run that is disturbed.
pub struct Target<'t> {
    /// Its harness.
    pub harness: i32,
    /// What it was started with.
    pub job: Job<'t>,
    /// The folders of the campaign.
    pub place: &'t Place,
    /// Starts a second harness.
    pub starter: &'t Starter,
    /// The folder of runs of a second harness.
    pub others_results: &'t Path,
}

impl Target<'_> {
    /// Disturbs the run; nothing, if there was nothing to disturb.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn disturb(&self, disturbance: &Disturbance) -> io::Result<Option<Inflicted>> {
        let mut choices = disturbance.choices.clone();
        let processes = with_mark(self.job.mark);
        if processes.is_empty() {
            return Ok(None);
        }
        let one = &processes[choices.usize(..processes.len())];
        let is_harness = |process: &Process| process.pid.as_raw() == self.harness;
        let name = |process: &Process| match is_harness(process) {
            true => "the harness".to_owned(),
            false => format!("{} ({})", process.name, process.pid),
        };
        let done = match disturbance.kind {
            Kind::Kill => {
                one.send(Signal::SIGKILL);
                Inflicted {
                    killed_harness: is_harness(one),
                    ..Inflicted::new(format!("SIGKILL to {}", name(one)))
                }
            }
            Kind::Stop => {
                one.send(Signal::SIGSTOP);
                if is_harness(one) {
                    sleep(disturbance.pause).await;
                    one.send(Signal::SIGCONT);
                    Inflicted::new(format!("the harness stopped for {}", seconds(disturbance.pause)))
                } else {
                    Inflicted::new(format!("SIGSTOP to {}", name(one)))
                }
            }
            Kind::Suspend => {
                // The harness first, so that it starts nothing in the meantime.
                let (harness, others): (Vec<&Process>, Vec<&Process>) =
                    processes.iter().partition(|process| is_harness(process));
                let all = || harness.iter().chain(&others);
                all().for_each(|process| process.send(Signal::SIGSTOP));
                sleep(disturbance.pause).await;
                all().for_each(|process| process.send(Signal::SIGCONT));
                Inflicted::new(format!("all stopped for {}", seconds(disturbance.pause)))
            }
            Kind::Interrupt => {
                let signal = if choices.bool() { Signal::SIGINT } else { Signal::SIGTERM };
                let Some(harness) = processes.iter().find(|process| is_harness(process)) else {
                    return Ok(None);
                };
                harness.send(signal);
                Inflicted::new(format!("{signal} to the harness"))
            }
            Kind::Memory => {
                let size = address_space(one)?;
                limit(one, "as", size).await?;
                Inflicted::new(format!("no more than {} MiB for {}", size >> 20, name(one)))
            }
            Kind::Disk => {
                let size = choices.u64(..LARGEST_FILE);
                for process in &processes {
                    limit(process, "fsize", size).await?;
                }
                Inflicted::new(format!("no file beyond {} KiB", size >> 10))
            }
            Kind::Hostile => {
                // The harness itself is trusted.
                let others: Vec<Process> =
                    processes.iter().filter(|process| !is_harness(process)).cloned().collect();
                let Some(one) = choices.choice(others) else { return Ok(None) };
                let name = name(&one);
                // It may wait for the other side.
                let written = spawn_blocking(move || hostile::write_as(&one, &mut choices)).await;
                let Some(written) = written.map_err(io::Error::other)?? else { return Ok(None) };
                Inflicted::new(format!("{written} {name}"))
            }
            Kind::Clock => {
                let Some(file) = self.job.clock else { return Ok(None) };
                let seconds = choices.i64(-LARGEST_JUMP..=LARGEST_JUMP);
                clock::set(file, seconds)?;
                Inflicted::new(format!("the harness's clock jumped by {seconds:+} s"))
            }
            Kind::Damage => return self.damage(disturbance.store, &mut choices),
            Kind::Second => {
                let job = Job { results: self.others_results, ..self.job };
                let output = self.starter.start(Some(self.place), &job)?.wait_with_output().await?;
                let second = Ended::new(&output, self.others_results);
                Inflicted { second: Some(second), ..Inflicted::new("a second harness beside it") }
            }
        };
        Ok(Some(done))
    }

    fn damage(&self, store: Store, choices: &mut fastrand::Rng) -> io::Result<Option<Inflicted>> {
        let folder = match store {
            Store::Images => self.place.images(),
            Store::Snapshots => self.place.snapshots(),
            Store::Records => self.job.results.to_owned(),
        };
        let damaged = match damage_one_below(&folder, choices) {
            // The run has just removed it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            damaged => damaged?,
        };
        let short = |what: String| what.replace(&format!("{}/", folder.display()), "");
        Ok(damaged.map(|what| Inflicted {
            damaged_records: store == Store::Records,
            ..Inflicted::new(format!("in {store}: {}", short(what)))
        }))
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.0} s", time.as_secs_f64())
}

/// The size of a process's address space in bytes.
fn address_space(process: &Process) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/status", process.pid))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// Sets a limit of a process, with the tool of util-linux. Does nothing if the process has ended.
async fn limit(process: &Process, resource: &str, value: u64) -> io::Result<()> {
    let mut command = Command::new("prlimit");
    command.arg("--pid").arg(process.pid.to_string()).arg(format!("--{resource}={value}"));
    let output = command.output().await?;
    let is_alive = Path::new(&format!("/proc/{}", process.pid)).exists();
    match output.status.success() || !is_alive {
        true => Ok(()),
        false => {
            Err(io::Error::other(format!("prlimit: {}", String::from_utf8_lossy(&output.stderr).trim())))
        }
    }
}
