//! Pauses a level: its QEMU stops it, and nothing in it may continue until QEMU lets it.

use std::time::{Duration, Instant};

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::ChannelKind;
use nestmatrix_vmm::wire::Wire;
use qapi::qmp;
use serde_json::Value;

use super::{Done, run_in};
use crate::host::HostError;
use crate::stack::Stack;
use crate::{Limit, Stop, Symptom};

/// The shortest pause. A level that runs answers in a fraction of that.
const SHORTEST: Duration = Duration::from_secs(2);
/// How many times as long as an answer took a pause lasts, so that silence means something.
const TIMES_AN_ANSWER: u32 = 5;

/// A question that every level answers which has a shell.
const QUESTION: &str = "read -r up _ </proc/uptime; echo $up";

impl Stack<'_> {
    /// Stops `level` for some seconds. The level furthest in is asked meanwhile, and must not answer before the end of the pause.
    pub(super) async fn pause_for_a_while(&mut self, level: LevelNumber) -> Result<Done, Stop> {
        let qemu = self.wire(level, ChannelKind::Qmp)?;
        let (inside, guest) =
            self.furthest_in().ok_or_else(|| self.harness(format!("nothing in {level} takes commands")))?;
        let total = self.limits.of(inside).total;
        let (clock, patient) = (self.watch.stopwatch(), Limit { silence: total, total });
        self.during_within(patient, inside.into(), run_in(guest.clone(), QUESTION)).await?;
        let length = SHORTEST.max(clock.elapsed(&self.watch) * TIMES_AN_ANSWER);

        self.watch.expect_stop(level);
        let stopping = Instant::now();
        self.during(level, async { Ok(qemu.execute(qmp::stop {}).await?) }).await?;
        self.check_that_it_is_paused(level, &qemu).await?;
        let mut question = Box::pin(run_in(guest, QUESTION));
        let silence = async {
            tokio::select! {
                answer = &mut question => Ok::<_, HostError>(Some(answer?)),
                () = tokio::time::sleep(length) => Ok(None),
            }
        };
        let answer = self.during_within(patient, level.into(), silence).await?;
        if let Some(answer) = answer {
            let seen = format!("{level} is paused, and {inside} answers {answer:?} all the same");
            return Err(Stop::stack(self.stage, Symptom::StandsStill { level, seen }));
        }
        self.check_that_it_is_paused(level, &qemu).await?;
        self.during(level, async { Ok(qemu.execute(qmp::cont {}).await?) }).await?;
        let stood_still = stopping.elapsed();
        self.during_within(patient, inside.into(), question).await?;
        let seconds = length.as_secs_f64();
        let seen = format!("paused for {seconds:.1} s, in which {inside} did not answer");
        Ok(Done { seen, stood_still, booted_again: None })
    }

    /// Checks that QEMU itself says that `level` is paused.
    pub(super) async fn check_that_it_is_paused(
        &mut self,
        level: LevelNumber,
        qemu: &Wire,
    ) -> Result<(), Stop> {
        let status = self.during(level, async { Ok(qemu.call("query-status", Value::Null).await?) }).await?;
        match status["status"].as_str().unwrap_or_default() {
            "paused" => Ok(()),
            other => {
                let seen = format!("{level} should be paused, and its QEMU says {other:?}");
                Err(Stop::stack(self.stage, Symptom::StandsStill { level, seen }))
            }
        }
    }
}
