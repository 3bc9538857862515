//! Runs a program of the user in a level: its files go to the level, a script runs it to its end, and the results are read from its
//! exit status and its output.
//!
//! The guest agent of a level brings the files. The innermost level has none if it is made of packages: its initramfs brings them
//! ([`brought`]), and the program is started through the shell on its console.

mod brought;
mod output;
mod script;
mod tap;

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::GzDecoder;
use nestmatrix_model::{CaseOutcome, LevelNumber, Payload, Step, StepTimeout};
use nestmatrix_vmm::guest::ExecOutput;
use nestmatrix_vmm::shell::quote;

pub(crate) use brought::Archive;
pub use output::read_program_cases;
pub use script::{End, ProgramEnd};

use super::channels::ConsoleShell;
use super::exec::CopiedFile;
use super::exec::copy::{self, Present};
use super::level::Guest;
use super::stack::Stack;
use super::steps::{StepRecord, UNKNOWN_SLOWDOWN};
use super::suite::{Case, KnownFailures, SuiteRecord};
use super::{Limit, Stop};
use crate::host::{Host, HostError};
use script::{Header, header_script, packed_in, piece_script};

/// Where the output of a program is in a level while it runs. Some systems mount /run without permission to execute files, and the
/// files of the program are in the same place.
const FOLDER: &str = "/tmp/nestmatrix/program";
/// How long a program may run if its step does not say so, in seconds by the clock of its level on real metal.
const SECONDS: f64 = 60.0;
/// The most of packed output that is unpacked, in bytes. More than a script keeps is not the output of one.
const MOST_OUTPUT: u64 = 8 << 20;

/// A program of the user that can run in a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserProgram {
    /// Its name in steps and in records.
    pub name: String,
    /// The SHA-256 of the program and of the files that come with it.
    pub sha256: String,
    /// The files of this machine that must be in the level first.
    pub files: Vec<CopiedFile>,
    /// What `/bin/sh` runs before it there.
    pub setup: String,
    /// The words that start it there, quoted for `/bin/sh`. Its arguments follow.
    pub command: String,
}

impl UserProgram {
    /// What `/bin/sh` runs in a level.
    fn script(&self, variables: &str, arguments: &[String]) -> String {
        let words = arguments.iter().map(|word| format!(" {}", quote(word)));
        format!("export {variables}\n{}exec {}{}\n", self.setup, self.command, words.collect::<String>())
    }
}

/// How long a program may run.
#[derive(Debug, Clone, Copy)]
struct Time {
    /// By the clock of its level.
    in_level: std::time::Duration,
    /// How long the harness waits for its end.
    limit: Limit,
}

impl Time {
    /// The time in the level, as the script takes it.
    fn seconds(&self) -> String {
        self.in_level.as_secs().max(1).to_string()
    }
}

impl Stack<'_> {
    /// Runs the program of a step, and judges its cases together. `present` are the files that earlier rounds have brought.
    pub(super) async fn run_payload(
        &mut self,
        record: &mut StepRecord,
        step: &Step,
        payload: &Payload,
        present: &mut Present,
    ) -> Result<(), Stop> {
        let named = self.request.programs.iter().find(|program| program.name == payload.name);
        let program =
            named.ok_or_else(|| self.not_started(step, format!("no payload {} was added", payload.name)))?;
        let of_step = record.suite.insert(SuiteRecord::new(&program.name, &program.sha256));
        let known = KnownFailures::new(&payload.known_failures, None, &self.errata());
        let (cases, stop) = match self.run_program(step, program, &payload.arguments, present).await {
            Ok(ended) => {
                self.keep_output(&program.name, &[&ended.stdout[..], &ended.stderr[..]].concat());
                (read_program_cases(&program.name, &ended), None)
            }
            Err(stop) => {
                let why = format!("the stack stopped: {}", stop.symptom);
                (vec![Case::new(&program.name, CaseOutcome::Error, Some(&why))], Some(stop))
            }
        };
        of_step.add(cases, &known, None);
        of_step.close();
        record.output = of_step.summary();
        match stop {
            Some(stop) => Err(stop),
            None => self.judge_suite(step, of_step),
        }
    }

    /// Runs a program in the level of a step to its end.
    pub(super) async fn run_program(
        &mut self,
        step: &Step,
        program: &UserProgram,
        arguments: &[String],
        present: &mut Present,
    ) -> Result<ProgramEnd, Stop> {
        let level = step.on;
        let variables = self.request.plan.variables_of_steps(level);
        let time = self.time_of_program(level, step.timeout).await?;
        match self.levels.guest(level) {
            Some(Guest::Host(host)) => {
                let of_level = self.limits.run.of(level);
                let bringing = bring(&*host, present, &program.files);
                self.during_within(of_level, level.into(), bringing).await?;
                let text =
                    script::script(FOLDER, &program.script(&variables, arguments), &time.seconds(), false);
                let printed =
                    self.during_within(time.limit, level.into(), async { host.run(&text).await }).await?;
                let ended =
                    Header::read(&printed.stdout).and_then(|(header, output)| header.with_output(output));
                ended.ok_or_else(|| self.without_report(step, &printed))
            }
            Some(Guest::Console(shell)) => self.run_on_innermost(step, &shell, time).await,
            None => Err(self.not_started(step, format!("{level} takes no commands"))),
        }
    }

    /// Runs the program of a step in the innermost level, whose initramfs has brought it.
    async fn run_on_innermost(
        &mut self,
        step: &Step,
        shell: &ConsoleShell,
        time: Time,
    ) -> Result<ProgramEnd, Stop> {
        let number = self.stage.to_string();
        let Some(script) = self.archive.as_ref().and_then(|archive| archive.script_of(&number)) else {
            let why = "its initramfs has not brought the program; only one that QEMU loads can";
            return Err(self.not_started(step, why.to_owned()));
        };
        // Each typed byte costs exits.
        let run = format!("sh {script} {}", time.seconds());
        let id = step.on.into();
        let printed = self.run_on_console_within(time.limit, id, shell, &run).await?;
        let mut header = Header::read(&printed.stdout).map(|(header, _)| header);
        if header.is_none() {
            let again = self.run_on_console(id, shell, &header_script(FOLDER)).await?;
            header = Header::read(&again.stdout).map(|(header, _)| header);
        }
        let Some(header) = header else { return Err(self.without_report(step, &printed)) };
        let mut packed = String::new();
        for piece in 0..header.pieces() {
            let printed = self.run_on_console(id, shell, &piece_script(FOLDER, piece)).await?;
            packed += &packed_in(&String::from_utf8_lossy(&printed.stdout));
        }
        let ended = unpacked(&packed).and_then(|output| header.with_output(&output));
        ended.ok_or_else(|| {
            self.not_started(
                step,
                format!("its output is damaged: {} of {} bytes", packed.len(), header.packed),
            )
        })
    }

    /// How long a program may run in a level, and how long the harness waits for it.
    async fn time_of_program(
        &mut self,
        level: LevelNumber,
        timeout: Option<StepTimeout>,
    ) -> Result<Time, Stop> {
        let limits = self.limits.run;
        let slowdown = self.slowdown_now(level).await?.unwrap_or(UNKNOWN_SLOWDOWN).max(1.0);
        let seconds = match timeout {
            Some(StepTimeout::Guest(seconds)) => f64::from(seconds),
            Some(StepTimeout::Real(seconds)) => f64::from(seconds) / slowdown,
            None => SECONDS * self.slowness(level),
        };
        // The script must come to its end before the harness gives it up.
        let total = limits.scaled(seconds * slowdown) + limits.of(level).total;
        Ok(Time { in_level: limits.scaled(seconds), limit: Limit { silence: total, total } })
    }

    fn without_report(&self, step: &Step, printed: &ExecOutput) -> Stop {
        let said = String::from_utf8_lossy(&[&printed.stdout[..], &printed.stderr[..]].concat()).into_owned();
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
        self.not_started(step, format!("the level did not run the program: {last}"))
    }
}

/// Brings files of this machine to a level, by its agent.
async fn bring(host: &dyn Host, present: &mut Present, files: &[CopiedFile]) -> Result<(), HostError> {
    let failed = |why: String| HostError::Command {
        what: "bringing a program".to_owned(),
        host: host.name().to_owned(),
        why,
    };
    let agent = host.agent().ok_or_else(|| failed("it has no guest agent".to_owned()))?;
    copy::bring(agent, present, files).await.map_err(|e| failed(e.to_string()))
}

/// What was packed in base64 and gzip, whose check sum it has.
fn unpacked(packed: &str) -> Option<Vec<u8>> {
    let packed = BASE64.decode(packed).ok()?;
    let mut output = Vec::new();
    GzDecoder::new(&packed[..]).take(MOST_OUTPUT).read_to_end(&mut output).ok()?;
    Some(output)
}
