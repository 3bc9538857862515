//! A scenario's own steps: commands that are run in levels between the stages of the fold.

use serde::Serialize;

use crate::guest::{ExecOutput, printable};
use crate::scenario::{LevelNumber, Stage, Step};

use super::Stop;
use super::boot::Stack;

/// Longest output of a step that is kept, in characters; a step says what it has to say in a few lines.
const KEPT_OUTPUT: usize = 4000;

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepSeen {
    /// Its name.
    pub name: String,
    /// The level in which it was run.
    pub on: LevelNumber,
    /// What was run.
    pub run: String,
    /// Exit status; absent if a signal ended it.
    pub status: Option<i64>,
    /// What it printed, standard output first.
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
        let Some((_, host)) = self.hosts.iter().find(|(level, _)| *level == step.on).cloned() else {
            return Err(Stop::harness(self.stage, format!("{}: {} is not up", step.name, step.on)));
        };
        // So that one scenario serves every architecture.
        let profile = self.plan.profile;
        let (module, flags) = (profile.kvm_module, profile.documented_flags.join(" "));
        let script = format!("KVM_MODULE={module} CPU_FLAGS='{flags}'; {}", step.run);
        let output = self.during(step.on, host.run(&script)).await?;
        let seen = StepSeen {
            name: step.name.clone(),
            on: step.on,
            run: step.run.clone(),
            status: output.status,
            output: said(&output),
        };
        let verdict = judge(step, &seen);
        self.steps_seen.push(seen);
        verdict.map_err(|symptom| Stop::stack(self.stage, symptom).about(step.on))?;
        // A step may have loaded KVM with another parameter.
        let facts = self.ask(step.on, &*host).await?;
        self.saw(step.on).nested.clone_from(&facts.nested);
        self.facts.insert(step.on, facts);
        Ok(())
    }
}

/// Whether a step did as the scenario expects; else the symptom.
fn judge(step: &Step, seen: &StepSeen) -> Result<(), String> {
    let ended = match seen.status {
        Some(status) => format!("exited with status {status}"),
        None => "was ended by a signal".to_owned(),
    };
    let about = |why: String| format!("{} on {}: {why}; it printed {:?}", step.name, step.on, seen.output);
    let failed = seen.status != Some(0);
    if failed != step.fails {
        let wanted = if step.fails { "it should fail" } else { "it should not fail" };
        return Err(about(format!("it {ended}, {wanted}")));
    }
    match &step.output {
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
        let step = Step {
            name: "unload".into(),
            after: "l1-kvm".parse().unwrap(),
            on: LevelNumber::ALL[0],
            run: "modprobe -r kvm_amd".into(),
            fails,
            output: wanted.map(str::to_owned),
        };
        let (name, on, run) = (step.name.clone(), step.on, step.run.clone());
        judge(&step, &StepSeen { name, on, run, status, output: output.into() })
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
