//! A scenario's own steps: commands that are run in levels between the stages of the fold.

use std::rc::Rc;

use serde::Serialize;

use crate::guest::{ExecOutput, printable};
use crate::host::Host;
use crate::scenario::{LevelNumber, Stage, Step, StepAction};

use super::boot::Stack;
use super::{Stop, measure};

/// Longest output of a step that is kept, in characters; a step says what it has to say in a few lines.
const KEPT_OUTPUT: usize = 4000;

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepSeen {
    /// Its name.
    pub name: String,
    /// The level in which it was run.
    pub on: LevelNumber,
    /// What was done: `run`, or a word of what the harness does itself.
    #[serde(rename = "do")]
    pub action: &'static str,
    /// The command, if it was one of the scenario's.
    pub run: Option<String>,
    /// Exit status of the command; absent if a signal ended it.
    pub status: Option<i64>,
    /// What the command printed, standard output first, or what the harness saw.
    pub output: String,
}

impl Stack<'_> {
    /// Runs the steps that come after the stage that is done now.
    pub(super) async fn take_steps(&mut self) -> Result<(), Stop> {
        let done = self.stage;
        let steps = self.steps;
        for (index, step) in steps.iter().enumerate().filter(|(_, step)| step.after == done) {
            self.enter(Stage::Step(u8::try_from(index + 1).unwrap_or(u8::MAX)));
            self.take(step).await?;
        }
        // The stage that is done is still the last one of the fold; what follows is told from it.
        self.stage = done;
        Ok(())
    }

    async fn take(&mut self, step: &Step) -> Result<(), Stop> {
        let Step { name, on, action, .. } = step;
        let mut seen = StepSeen {
            name: name.clone(),
            on: *on,
            action: action.word(),
            run: None,
            status: None,
            output: String::new(),
        };
        match action {
            StepAction::Run { run, fails, output } => {
                // So that one scenario serves every architecture.
                let profile = self.plan.profile;
                let (module, flags) = (profile.kvm_module, profile.documented_flags.join(" "));
                let ended = self.run(*on, &format!("KVM_MODULE={module} CPU_FLAGS='{flags}'; {run}")).await?;
                seen.run = Some(run.clone());
                seen.status = ended.status;
                seen.output = said(&ended);
                let verdict = judge(&seen, *fails, output.as_deref());
                self.steps_seen.push(seen);
                verdict.map_err(|symptom| Stop::stack(self.stage, symptom).about(*on))?;
                self.look_again(*on).await?;
            }
            StepAction::Measure => {
                seen.output = self.measure(*on).await?;
                self.steps_seen.push(seen);
            }
        }
        Ok(())
    }

    /// Asks a level again what it is: a command may have loaded KVM with another parameter.
    async fn look_again(&mut self, level: LevelNumber) -> Result<(), Stop> {
        let Some(host) = self.host(level) else { return Ok(()) };
        let facts = self.ask(level, &*host).await?;
        self.saw(level).nested.clone_from(&facts.nested);
        self.facts.insert(level, facts);
        Ok(())
    }

    /// Times the loops in a level; gives what they printed.
    async fn measure(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let printed = said(&self.run(level, &measure::script(self.plan.profile.exit_loop)).await?);
        let loops = measure::read(&printed).ok_or_else(|| {
            Stop::harness(
                self.stage,
                format!("the loops could not be timed in {level}; they printed {printed:?}"),
            )
        })?;
        self.saw(level).loops = Some(loops);
        Ok(printed)
    }

    /// Runs `/bin/sh -c script` in a level to its end: by its agent, or by the shell on the innermost level's console.
    async fn run(&mut self, level: LevelNumber, script: &str) -> Result<ExecOutput, Stop> {
        if let Some(host) = self.host(level) {
            return self.during(level, host.run(script)).await;
        }
        let stage = self.stage;
        let not_up = |why: String| Stop::harness(stage, format!("{level} can't be asked: {why}"));
        let shell = self.shells.get_mut(&level).ok_or_else(|| not_up("it has no console".into()))?;
        let id = shell.ask(script).await.map_err(|e| not_up(e.to_string()))?;
        self.until(level, |watch| watch.answers(level)?.to(id).cloned()).await
    }

    /// The host that a level has become.
    fn host(&self, level: LevelNumber) -> Option<Rc<dyn Host>> {
        self.hosts.iter().find(|(of, _)| *of == level).map(|(_, host)| Rc::clone(host))
    }
}

/// Whether a command did as the scenario expects; else the symptom.
fn judge(seen: &StepSeen, fails: bool, wanted_output: Option<&str>) -> Result<(), String> {
    let ended = match seen.status {
        Some(status) => format!("exited with status {status}"),
        None => "was ended by a signal".to_owned(),
    };
    let about = |why: String| format!("{} on {}: {why}; it printed {:?}", seen.name, seen.on, seen.output);
    let failed = seen.status != Some(0);
    if failed != fails {
        let wanted = if fails { "it should fail" } else { "it should not fail" };
        return Err(about(format!("it {ended}, {wanted}")));
    }
    match wanted_output {
        Some(wanted) if !seen.output.contains(wanted) => {
            Err(about(format!("{wanted:?} is not in its output")))
        }
        _ => Ok(()),
    }
}

fn said(output: &ExecOutput) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&both);
    let lines: Vec<String> = text.lines().map(printable).collect();
    lines.join("\n").chars().take(KEPT_OUTPUT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn judged(fails: bool, wanted: Option<&str>, status: Option<i64>, output: &str) -> Result<(), String> {
        let seen = StepSeen {
            name: "unload".into(),
            on: LevelNumber::ALL[0],
            action: "run",
            run: Some("modprobe -r kvm_amd".into()),
            status,
            output: output.into(),
        };
        judge(&seen, fails, wanted)
    }

    #[rstest]
    #[case(false, None, Some(0))]
    #[case(false, Some("busy"), Some(0))]
    #[case(true, Some("busy"), Some(1))]
    fn a_step_that_does_as_expected_goes_on(
        #[case] fails: bool,
        #[case] wanted: Option<&str>,
        #[case] status: Option<i64>,
    ) {
        assert_eq!(judged(fails, wanted, status, "it is busy"), Ok(()));
    }

    #[rstest]
    #[case(false, None, Some(1), "it exited with status 1, it should not fail")]
    #[case(true, None, Some(0), "it exited with status 0, it should fail")]
    #[case(false, None, None, "it was ended by a signal, it should not fail")]
    #[case(true, Some("in use"), Some(1), "\"in use\" is not in its output")]
    fn a_step_that_does_otherwise_is_a_symptom(
        #[case] fails: bool,
        #[case] wanted: Option<&str>,
        #[case] status: Option<i64>,
        #[case] expected: &str,
    ) {
        let symptom = judged(fails, wanted, status, "it is busy").unwrap_err();
        assert_eq!(symptom, format!("unload on L0: {expected}; it printed \"it is busy\""));
    }
}
