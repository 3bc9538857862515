//! From trouble to its cause: why a stack stopped, where, and who is at fault.

use std::time::{Duration, Instant};

use crate::host::HostError;
use crate::qemu::ChannelKind;
use crate::scenario::{LevelNumber, Stage, StageKind};
use crate::wire::CallError;

use super::boot::{Live, Stack};
use super::watch::{Trouble, Watch};
use super::{Blame, Stop};

/// Longest wait for a QEMU's end to be known once a channel of it has closed.
const END_KNOWN: Duration = Duration::from_secs(3);

/// The machine of a level that is waited for: its second one, if that is what it is about, else its own.
fn attended(live: &[Live], level: LevelNumber, on_second: bool) -> Option<&Live> {
    let of_level = live.iter().filter(|live| live.level == level);
    of_level.max_by_key(|live| live.instance.is_second() == on_second)
}

impl Stack<'_> {
    /// Waits for `work`, which is about `level`; trouble meanwhile becomes a stop.
    pub(super) async fn during<T>(
        &mut self,
        level: LevelNumber,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, Stop> {
        let qemu = attended(&self.live, level, self.on_second).map(|live| &*live.qemu);
        match self.watch.during(level, self.limits.of(level), qemu, work).await {
            Ok(value) => Ok(value),
            Err(trouble) => Err(self.explain(trouble).await),
        }
    }

    pub(super) async fn until<T>(
        &mut self,
        level: LevelNumber,
        done: impl Fn(&Watch) -> Option<T>,
    ) -> Result<T, Stop> {
        let Some(live) = attended(&self.live, level, self.on_second) else {
            return Err(Stop::harness(self.stage, format!("{level} does not run")));
        };
        match self.watch.until(level, self.limits.of(level), &*live.qemu, done).await {
            Ok(value) => Ok(value),
            Err(trouble) => Err(self.explain(trouble).await),
        }
    }

    /// Finds the cause behind trouble: a channel that closed is only the consequence of a QEMU's end, and that of the
    /// end of one further out.
    pub(super) async fn explain(&mut self, trouble: Trouble) -> Stop {
        if matches!(trouble, Trouble::Interrupted) {
            return Stop::interrupted(self.stage);
        }
        self.watch.settle().await;
        if let Some((level, end)) = self.first_end(&trouble).await {
            let stop = if level.below().is_none() {
                Stop::harness(self.stage, format!("the emulator that plays {level}'s metal {end}"))
            } else if self.plan.on_emulator(level) {
                Stop::harness(self.stage, format!("the emulator that is L0's hypervisor {end}"))
            } else {
                Stop::stack(self.stage, format!("{level}'s QEMU {end}"))
            };
            return stop.about(level);
        }
        let by_limit = matches!(trouble, Trouble::Silent { .. } | Trouble::Endless { .. });
        let (level, symptom, blame) = self.read_trouble(trouble).await;
        let by_limit = by_limit && self.watch.symptom(level).is_none();
        let symptom = match self.watch.symptom(level) {
            Some(said) => said.to_owned(),
            None => symptom,
        };
        // That an emulator does not boot L0 says nothing of the matrix.
        let booting = self.rebooting || self.stage < Stage::Level(level, StageKind::Kvm);
        let metal_fails = level.below().is_none() && booting;
        let blame = if metal_fails { Blame::Harness } else { blame };
        Stop { stage: self.stage, level: Some(level), symptom, blame, interrupted: false, by_limit }
    }

    /// The outermost QEMU that has ended, where the trouble may come from such an end.
    async fn first_end(&self, trouble: &Trouble) -> Option<(LevelNumber, String)> {
        let closed = match trouble {
            Trouble::Closed { .. } | Trouble::Host { .. } => true,
            Trouble::Silent { .. } | Trouble::Endless { .. } => false,
            Trouble::Symptom { .. }
            | Trouble::ShutDown { .. }
            | Trouble::Halted { .. }
            | Trouble::Interrupted => {
                return None;
            }
        };
        if let Trouble::Host { level, error: HostError::EndedAtStart { ended, output } } = trouble {
            return Some((*level, crate::host::QemuEnd { ended: *ended, output: output.clone() }.describe()));
        }
        let deadline = Instant::now() + END_KNOWN;
        loop {
            for live in &self.live {
                let ended = tokio::time::timeout(END_KNOWN, live.qemu.ended()).await;
                match ended {
                    Ok(Ok(Some(end))) => return Some((live.level, end.describe())),
                    Ok(Ok(None)) => {}
                    // What can't be asked has a host that is in trouble itself: nothing further in can be asked.
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            // The end of a process is known a little later than the end of its sockets.
            if !closed || Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn read_trouble(&self, trouble: Trouble) -> (LevelNumber, String, Blame) {
        match trouble {
            Trouble::Symptom { level, symptom } => (level, symptom, Blame::Stack),
            Trouble::ShutDown { level, reason } => {
                (level, format!("{level} shut down before its work was done ({reason})"), Blame::Stack)
            }
            Trouble::Halted { level } => {
                let state = self.run_state(level).await;
                (level, format!("{level}'s QEMU stopped it ({state})"), Blame::Stack)
            }
            Trouble::Closed { level, channel, why } => {
                (level, format!("{channel} closed while its QEMU runs: {why}"), Blame::Harness)
            }
            Trouble::Silent { level, silence } => {
                let last = self.last_line(level);
                (level, format!("no progress for {} s, {last}", silence.as_secs()), Blame::Stack)
            }
            Trouble::Endless { level, total } => {
                let last = self.last_line(level);
                (level, format!("busy, but not done after {} s, {last}", total.as_secs()), Blame::Stack)
            }
            Trouble::Host { level, error } => {
                let blame = match error {
                    HostError::System { .. } | HostError::Agent(CallError::Unexpected { .. }) => {
                        Blame::Harness
                    }
                    HostError::Agent(_) | HostError::EndedAtStart { .. } | HostError::Command { .. } => {
                        Blame::Stack
                    }
                };
                (level, error.to_string(), blame)
            }
            Trouble::Interrupted => (self.plan.innermost(), "interrupted".into(), Blame::Harness),
        }
    }

    fn last_line(&self, level: LevelNumber) -> String {
        let line = self.watch.last_line(level);
        line.map_or("nothing on its console".into(), |line| format!("last line {line:?}"))
    }

    async fn run_state(&self, level: LevelNumber) -> String {
        let limit = Duration::from_secs(3);
        let asked = match self.watch.wire(level, ChannelKind::Qmp) {
            Some(wire) => wire.call("query-status", serde_json::Value::Null, limit).await.ok(),
            None => None,
        };
        asked
            .and_then(|status| status["status"].as_str().map(str::to_owned))
            .unwrap_or_else(|| "unknown".into())
    }
}
