//! The steps of a scenario: commands and tests that run in levels between the stages of the boot.

use std::time::Duration;

use nestmatrix_model::{Command, LevelNumber, OwnAction, Stage, Step, StepAction, StepTimeout, Word as _};
use nestmatrix_vmm::guest::{ExecOutput, printable};
use serde::{Deserialize, Serialize};

use super::benchmark::BenchmarkRecord;
use super::channels::ConsoleShell;
use super::exec::copy::Present;
use super::level::Guest;
use super::lifecycle::Before;
use super::machines::MachineId;
use super::stack::Stack;
use super::suite::SuiteRecord;
use super::symptom::ExitStatus;
use super::{Limit, Stop, Symptom, measure};
use crate::host::HostError;

/// Longest output of a step that is kept, in characters; a few lines are enough.
const KEPT_OUTPUT: usize = 4000;

/// How much slower a clock is assumed to be before anything is known about it.
pub(super) const UNKNOWN_SLOWDOWN: f64 = 10.0;

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its name.
    pub name: String,
    /// The level in which it ran.
    pub on: LevelNumber,
    /// Its action: `run`, or the word for an action of the harness.
    #[serde(rename = "do")]
    pub action: String,
    /// The command, if it was one of the scenario's.
    pub run: Option<String>,
    /// Exit status of the command; absent if a signal ended it.
    pub status: Option<i64>,
    /// The output of the command, standard output first, or what the harness observed.
    pub output: String,
    /// The results of the tests of a suite or of a program, if it ran some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<SuiteRecord>,
    /// The figures of a benchmark, if it ran one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benchmark: Option<BenchmarkRecord>,
}

impl StepRecord {
    /// Adds what was seen of one action.
    fn add_line(&mut self, seen: &str) {
        if !self.output.is_empty() {
            self.output.push('\n');
        }
        self.output.push_str(seen);
    }

    /// Notes in which round of several the output was seen.
    fn note_round(&mut self, round: u32, of: u32) {
        if of > 1 {
            self.output = format!("round {round} of {of}: {}", self.output);
        }
    }
}

impl Stack<'_> {
    /// Runs the steps after the current stage. In a debug session, the stack pauses between them if the user asked for that.
    pub(super) async fn take_steps(&mut self) -> Result<(), Stop> {
        let done = self.stage;
        self.pause_after(done).await?;
        let steps = self.request.steps;
        for (index, step) in steps.iter().enumerate().filter(|(_, step)| step.after == done) {
            self.enter(Stage::Step(u8::try_from(index + 1).unwrap_or(u8::MAX)));
            if self.was_taken_before_reboot(step).await? {
                continue;
            }
            self.limits.step_total = self.total_of_step(step.on, step.timeout).await?;
            let taken = self.take(step).await;
            self.limits.step_total = None;
            taken?;
            self.pause_after(self.stage).await?;
        }
        // The current stage is still the last one of the boot; the next stages are counted from it.
        self.stage = done;
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> Result<(), Stop> {
        let Step { name, on, action, .. } = step;
        let mut record = StepRecord {
            name: name.clone(),
            on: *on,
            action: action.word().to_owned(),
            run: None,
            status: None,
            output: String::new(),
            suite: None,
            benchmark: None,
        };
        // A step before may have reset the level.
        let mut present = Present::default();
        let mut done = Ok(());
        for round in 1..=step.repeat {
            // What a round before showed is not what this one shows.
            (record.status, record.suite, record.benchmark) = (None, None, None);
            record.output.clear();
            done = match action {
                StepAction::Run(command) => self.run_command(&mut record, command).await,
                StepAction::Suite(suite) => self.run_suite(&mut record, step, suite, &mut present).await,
                StepAction::Payload(payload) => {
                    self.run_payload(&mut record, step, payload, &mut present).await
                }
                StepAction::Measure(measure) => self.run_benchmark(&mut record, step, measure).await,
                StepAction::Own { .. } | StepAction::Chain { .. } => {
                    self.act(&mut record, action.actions()).await
                }
            };
            if let Err(stop) = &done
                && record.output.is_empty()
            {
                record.output = stop.symptom.to_string();
            }
            if done.is_err() || round == step.repeat {
                record.note_round(round, step.repeat);
                break;
            }
        }
        self.ledger.add_step(record);
        done
    }

    /// Performs actions of the harness, one after another. What was seen of them goes to `record`.
    async fn act(&mut self, record: &mut StepRecord, actions: &[OwnAction]) -> Result<(), Stop> {
        record.output.clear();
        let mut before = None;
        for action in actions {
            let seen = self.act_once(record.on, *action, &mut before).await;
            let said = match &seen {
                Ok(seen) => seen.clone(),
                Err(stop) => stop.symptom.to_string(),
            };
            record.add_line(&if actions.len() > 1 { format!("{}: {said}", action.word()) } else { said });
            seen?;
        }
        Ok(())
    }

    /// Performs one action on a level. `before` is what was known before it, and becomes what is known now.
    async fn act_once(
        &mut self,
        on: LevelNumber,
        action: OwnAction,
        before: &mut Option<Before>,
    ) -> Result<String, Stop> {
        match action {
            OwnAction::Measure => self.measure(on).await,
            OwnAction::Reboot if self.is_this_machine(on) => Err(self.end_for_host_reboot(on).await),
            OwnAction::Reboot => Box::pin(self.reboot(on)).await,
            // A boot takes steps, so the future is recursive and needs a box.
            OwnAction::BootAnother => Box::pin(self.boot_another(on)).await,
            OwnAction::Migrate
            | OwnAction::MigrateToOther
            | OwnAction::MigrateBack
            | OwnAction::Pause
            | OwnAction::SaveRestore
            | OwnAction::Reset
            | OwnAction::PowerOff
            | OwnAction::Crash
            | OwnAction::HotplugCpu
            | OwnAction::HotplugMemory
            | OwnAction::HotplugDisk
            | OwnAction::HotplugNetwork => {
                let mut known = match before.take() {
                    Some(known) => known,
                    None => self.before_lifecycle(action).await?,
                };
                // Its waits are deep inside each other, and the compiler limits the depth of a future without a box.
                let seen = Box::pin(self.live_through(on, action, &mut known)).await?;
                *before = Some(known);
                Ok(seen)
            }
        }
    }

    /// Runs a command of the scenario and judges its result, which goes to `record`.
    async fn run_command(&mut self, record: &mut StepRecord, command: &Command) -> Result<(), Stop> {
        record.run = Some(command.run.clone());
        let script = format!("{}; {}", self.request.plan.variables_of_steps(record.on), command.run);
        let ended = self.run(record.on, &script).await?;
        record.status = ended.status;
        record.output = text_of(&ended);
        if let Some(why) = never_ran(record) {
            let symptom = Symptom::NotStarted { level: record.on, why };
            return Err(Stop::stack(self.stage, symptom).not_its_fault());
        }
        let judged = judge(record, command);
        judged.map_err(|symptom| Stop::stack(self.stage, symptom))?;
        self.ask_facts_again(record.on).await
    }

    /// Queries a level again: a command may have loaded KVM with another parameter.
    async fn ask_facts_again(&mut self, level: LevelNumber) -> Result<(), Stop> {
        let Some(host) = self.levels.host(level) else { return Ok(()) };
        let facts = self.ask_facts(level, &*host, String::new()).await?;
        self.ledger.level(level).nested.clone_from(&facts.nested);
        self.levels.replace_facts(level, facts);
        Ok(())
    }

    /// The time limit of each wait of a step on `level`, by this machine's clock, if the step sets one.
    async fn total_of_step(
        &mut self,
        level: LevelNumber,
        timeout: Option<StepTimeout>,
    ) -> Result<Option<Duration>, Stop> {
        let limits = self.limits.run;
        Ok(match timeout {
            None => None,
            Some(StepTimeout::Real(seconds)) => Some(limits.scaled(f64::from(seconds))),
            Some(StepTimeout::Guest(seconds)) => {
                let slowdown = self.slowdown_now(level).await?.unwrap_or(UNKNOWN_SLOWDOWN);
                // The rest of a step takes as long as that of any other.
                let besides = limits.of(level).total;
                Some(besides + limits.scaled(f64::from(seconds) * slowdown.max(1.0)))
            }
        })
    }

    /// Asks a level with an agent for its clock.
    pub(super) async fn slowdown_now(&mut self, level: LevelNumber) -> Result<Option<f64>, Stop> {
        // The innermost level's clock is derived from that of the level that runs it.
        let asked = if self.levels.host(level).is_some() { Some(level) } else { level.below() };
        let asked = asked.filter(|level| !self.is_windows(*level));
        let Some((asked, host)) = asked.and_then(|level| Some((level, self.levels.host(level)?))) else {
            return Ok(None);
        };
        let output = self.during(asked, host.run("read -r u _ </proc/uptime; echo $u")).await?;
        let uptime = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
        Ok(uptime.and_then(|uptime| self.clocks.slowdown(asked, uptime)))
    }

    /// Times the loops in a level; returns their output.
    async fn measure(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let exit_loop = self.request.plan.profile.exit_loop;
        let printed = text_of(&self.run(level, &measure::script(exit_loop)).await?);
        let loops = measure::read(&printed, if exit_loop.is_some() { 3 } else { 2 });
        let loops = loops.ok_or_else(|| {
            self.harness(format!("the loops could not be timed in {level}; they printed {printed:?}"))
        })?;
        self.ledger.level(level).loops = Some(loops);
        Ok(printed)
    }

    /// Runs `/bin/sh -c script` in a level of the stack to its end.
    pub(super) async fn run(&mut self, level: LevelNumber, script: &str) -> Result<ExecOutput, Stop> {
        match self.levels.guest(level) {
            Some(Guest::Host(host)) => self.during(level, host.run(script)).await,
            Some(Guest::Console(shell)) => self.run_on_console(level.into(), &shell, script).await,
            None => Err(self.harness(format!("{level} can't be asked: it takes no commands"))),
        }
    }

    /// Runs `script` in the shell on the console of a machine.
    pub(super) async fn run_on_console(
        &mut self,
        id: MachineId,
        shell: &ConsoleShell,
        script: &str,
    ) -> Result<ExecOutput, Stop> {
        // A shell prints nothing while a command runs, and a command that waits uses no CPU. This is not silence of the level.
        let total = self.limits.of(id.level).total;
        self.run_on_console_within(Limit { silence: total, total }, id, shell, script).await
    }

    /// The same within `limit`.
    pub(super) async fn run_on_console_within(
        &mut self,
        limit: Limit,
        id: MachineId,
        shell: &ConsoleShell,
        script: &str,
    ) -> Result<ExecOutput, Stop> {
        // A level that does not read its console takes no command: typing is part of the wait.
        let typing = async {
            let what = || format!("typing at the console of {}", id.level);
            shell.run(script).await.map_err(|source| HostError::System { what: what(), source })
        };
        self.during_within(limit, id, typing).await
    }
}

/// Why a command shows nothing, if so: the shell did not find it or was not allowed to run it, or a signal ended it (POSIX,
/// Shell Command Language, 2.8.2). Such a command does not fail as documented.
fn never_ran(seen: &StepRecord) -> Option<String> {
    let why = match seen.status {
        None => "it was ended by a signal",
        Some(126) => "it could not be run",
        Some(127) => "a program in it was not found",
        // The status of a shell whose command was ended by a signal.
        Some(129..=192) => "a signal ended a command in it",
        Some(_) => return None,
    };
    Some(format!("{}: {why}; it printed {:?}", seen.name, seen.output))
}

/// Checks that a command did as the scenario expects; otherwise returns the symptom.
fn judge(seen: &StepRecord, command: &Command) -> Result<(), Symptom> {
    let (level, step, said) = (seen.on, seen.name.clone(), seen.output.clone());
    let status = seen.status.unwrap_or_default();
    let wanted = match command.status {
        Some(wanted) => ExitStatus::Exactly(wanted.into()),
        None if command.fails => ExitStatus::Failure,
        None => ExitStatus::Success,
    };
    if !wanted.is_met_by(status) {
        return Err(Symptom::StepStatus { level, step, status, wanted, said });
    }
    match &command.output {
        Some(wanted) if !said.contains(wanted.as_str()) => {
            Err(Symptom::StepOutput { level, step, wanted: wanted.clone(), said })
        }
        _ => Ok(()),
    }
}

/// The output of a command, standard output first.
pub(super) fn text_of(output: &ExecOutput) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&both);
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("\n").chars().take(KEPT_OUTPUT).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn judged(fails: bool, wanted: Option<&str>, status: Option<i64>, output: &str) -> Result<(), Symptom> {
        judge(&seen(status, output), &Command { fails, ..command(None, wanted) })
    }

    fn command(status: Option<u8>, output: Option<&str>) -> Command {
        Command { run: "modprobe -r kvm_amd".into(), fails: false, status, output: output.map(str::to_owned) }
    }

    fn seen(status: Option<i64>, output: &str) -> StepRecord {
        StepRecord {
            name: "unload".into(),
            on: LevelNumber::ALL[0],
            action: "run".into(),
            run: Some("modprobe -r kvm_amd".into()),
            status,
            output: output.into(),
            suite: None,
            benchmark: None,
        }
    }

    #[rstest]
    #[case(Some(127), true)]
    #[case(Some(126), true)]
    #[case(Some(137), true)]
    #[case(None, true)]
    #[case(Some(255), false)]
    #[case(Some(1), false)]
    #[case(Some(0), false)]
    fn a_command_that_never_ran_does_not_fail_as_documented(
        #[case] status: Option<i64>,
        #[case] expected: bool,
    ) {
        assert_eq!(never_ran(&seen(status, "")).is_some(), expected);
    }

    #[rstest]
    #[case(false, None, Some(0))]
    #[case(false, Some("busy"), Some(0))]
    #[case(true, Some("busy"), Some(1))]
    fn a_step_that_does_as_expected_passes(
        #[case] fails: bool,
        #[case] wanted: Option<&str>,
        #[case] status: Option<i64>,
    ) {
        assert_eq!(judged(fails, wanted, status, "it is busy"), Ok(()));
    }

    #[rstest]
    #[case(1, Ok(()))]
    #[case(0, Err("it exited with status 0, it should exit with 1"))]
    // What grep says of a file that is not there.
    #[case(2, Err("it exited with status 2, it should exit with 1"))]
    fn a_status_that_is_asked_for_is_the_only_one_that_will_do(
        #[case] status: i64,
        #[case] expected: Result<(), &str>,
    ) {
        let expected = expected.map_err(|why| format!("unload on L0: {why}; it printed \"busy\""));
        let judged = judge(&seen(Some(status), "busy"), &command(Some(1), Some("busy")));
        assert_eq!(judged.map_err(|symptom| symptom.to_string()), expected);
    }

    #[rstest]
    #[case(false, None, Some(1), "it exited with status 1, it should not fail")]
    #[case(true, None, Some(0), "it exited with status 0, it should fail")]
    #[case(true, Some("in use"), Some(1), "\"in use\" is not in its output")]
    fn a_step_that_does_otherwise_is_a_symptom(
        #[case] fails: bool,
        #[case] wanted: Option<&str>,
        #[case] status: Option<i64>,
        #[case] expected: &str,
    ) {
        let symptom = judged(fails, wanted, status, "it is busy").unwrap_err();
        assert_eq!(symptom.to_string(), format!("unload on L0: {expected}; it printed \"it is busy\""));
        assert_eq!(symptom.said().as_deref(), Some("it is busy"));
    }
}
