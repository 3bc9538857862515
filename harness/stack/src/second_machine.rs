//! A second machine for a level: it is started on the same host, with its own channels (`docs/architecture.md`), and runs its
//! own innermost level.

use std::collections::BTreeMap;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::ExecOutput;
use nestmatrix_vmm::qemu::Monitor;

use super::boot_level::Role;
use super::channels::ConsoleShell;
use super::level::{Hosting, Level, Reported, StartedOn};
use super::machines::MachineId;
use super::random::random_hex;
use super::stack::Stack;
use super::{Measurements, Stop, Symptom};
use crate::host::Counters;

/// Pause between two questions to a level that must show that it lives. Its counter increases five times per second of its own
/// clock, which may be several times slower than the host's.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The second machine of a level, and the innermost level in it.
pub(super) struct SecondMachine {
    level: Level<Hosting>,
    inside: Level<Reported>,
}

impl Stack<'_> {
    /// Boots a second machine of `level`, and an innermost level in it; returns a description of that level.
    pub(super) async fn boot_another(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let (index, on) = self.place_of_second(level)?;
        let measurements = &self.ledger.measurements;
        self.ledger.measurements.second_machine = Some(Box::new(Measurements {
            nonce: self.fresh_nonce()?,
            machine_counters_unreadable: measurements.machine_counters_unreadable,
            machine_nested_runs_uncounted: measurements.machine_nested_runs_uncounted,
            emulator_is_l0: measurements.emulator_is_l0,
            this_machine: measurements.this_machine,
            ..Measurements::default()
        }));
        let launched = self.start_level(index, Role::Second, &on).await?;
        let up = self.come_up(launched).await?;
        let second = self.prove_hypervisor(up, Role::Second).await?;
        let kernel = second.state.facts.kernel.clone();
        self.count_outside(level, |measurements| &mut measurements.counters_before).await?;

        let inside = level.next().filter(|inside| self.request.index_of(*inside) == Some(index + 1));
        let inside = inside.ok_or_else(|| self.harness(format!("{level} runs no other level")))?;
        let launched = self.start_level(index + 1, Role::Second, &second.to_start_on()).await?;
        let reported = self.wait_for_report(launched, Role::Second).await?;
        let reported = reported.ok_or_else(|| self.harness(format!("the second {inside} does not stay")))?;

        let host = &second.state.host;
        let facts = self.during(second.id, host.facts(self.request.plan.profile, "")).await?;
        self.ledger.measured(second.id).counters_after.insert(level, facts.counters);
        self.count_outside(level, |measurements| &mut measurements.counters_after).await?;
        self.second = Some(SecondMachine { level: second, inside: reported });
        Ok(format!("a second {level} is up, kernel {kernel}, and runs an {inside} of its own"))
    }

    /// The place of a level among the booted ones, and the host of its second machine, which is that of the first one.
    pub(super) fn place_of_second(&self, level: LevelNumber) -> Result<(usize, StartedOn), Stop> {
        let missing = || self.harness(format!("{level} has no host"));
        let index = self.request.index_of(level).ok_or_else(missing)?;
        let host = level.below().and_then(|below| self.levels.hosting(below)).ok_or_else(missing)?;
        Ok((index, host.to_start_on()))
    }

    /// Notes the counters of KVM on the levels outside the second machine of `level` so far.
    async fn count_outside(
        &mut self,
        level: LevelNumber,
        into: impl Fn(&mut Measurements) -> &mut BTreeMap<LevelNumber, Counters>,
    ) -> Result<(), Stop> {
        let second = MachineId::second(level);
        for (outer, host) in self.levels.hosts().into_iter().filter(|(outer, _)| *outer < level) {
            let facts = self.ask_facts(MachineId::second(outer), &*host, String::new()).await?;
            into(self.ledger.measured(second)).insert(outer, facts.counters);
        }
        Ok(())
    }

    /// When the stack has done its work, the second machine of a level must still run, and so must the innermost level in it:
    /// both innermost levels must be alive at the same time.
    pub(super) async fn check_that_second_machine_runs(&mut self) -> Result<(), Stop> {
        let Some(SecondMachine { level, inside }) = self.second.take() else { return Ok(()) };
        self.check_that_it_runs(level.id, level.monitor.as_ref()).await?;
        self.check_that_it_runs(inside.id, inside.monitor.as_ref()).await?;
        self.during(level.id, level.state.host.facts(self.request.plan.profile, "")).await?;
        // Each counter increased between two questions, and the other level was asked in between.
        let innermost = self.levels.innermost().cloned();
        let first = self.heartbeat_of_innermost().await?;
        let before = self.heartbeat(&inside).await?;
        self.check_that_it_moves_on(&inside, before).await?;
        match innermost.zip(first) {
            Some((innermost, before)) => self.check_that_it_moves_on(&innermost, before).await,
            None => Ok(()),
        }
    }

    async fn check_that_it_runs(&mut self, id: MachineId, monitor: Option<&Monitor>) -> Result<(), Stop> {
        let Some(monitor) = monitor else { return Ok(()) };
        let state = self.during(id, async { Ok(monitor.run_state().await?) }).await?;
        if state != "running" {
            let level = id.level;
            let seen = format!("the second {level} does not run any more ({state})");
            return Err(Stop::stack(self.stage, Symptom::StandsStill { level, seen }));
        }
        Ok(())
    }

    /// Checks that the counter of an innermost level increases from `before`.
    async fn check_that_it_moves_on(&mut self, innermost: &Level<Reported>, before: u64) -> Result<(), Stop> {
        let later = self.next_beat(innermost, before).await?;
        if later <= before {
            let name = innermost.id.in_words();
            let seen = format!("the counter of {name} stands still: {before}, {later}");
            return Err(Stop::stack(self.stage, Symptom::StandsStill { level: innermost.id.level, seen }));
        }
        Ok(())
    }

    /// The counter of an innermost level as soon as it differs from `before`; if it never does, its value at the end of the
    /// wait.
    pub(super) async fn next_beat(&mut self, innermost: &Level<Reported>, before: u64) -> Result<u64, Stop> {
        let patience = self.limits.run.of(innermost.id.level).silence / 2;
        let asking = self.watch.stopwatch();
        let mut later = self.heartbeat(innermost).await?;
        while later == before && asking.elapsed(&self.watch) < patience {
            tokio::time::sleep(HEARTBEAT).await;
            later = self.heartbeat(innermost).await?;
        }
        Ok(later)
    }

    /// Asks an innermost level to return a fresh nonce, and for its counter.
    pub(super) async fn heartbeat(&mut self, innermost: &Level<Reported>) -> Result<u64, Stop> {
        let (id, Reported { shell }) = (innermost.id, &innermost.state);
        let nonce = self.fresh_nonce()?;
        let answer = self.ask_for_counter(id, shell, &nonce).await?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        // The kernel may have printed something in between.
        let count = text.lines().find_map(|line| line.strip_prefix(&nonce)?.trim().parse().ok());
        count.ok_or_else(|| {
            let level = id.level;
            let seen = format!("{level} was asked for its nonce and counter, it answered {text:?}");
            Stop::stack(self.stage, Symptom::StandsStill { level, seen })
        })
    }

    /// The counter of the stack's innermost level, if that is up.
    pub(super) async fn heartbeat_of_innermost(&mut self) -> Result<Option<u64>, Stop> {
        match self.levels.innermost().cloned() {
            Some(innermost) => Ok(Some(self.heartbeat(&innermost).await?)),
            None => Ok(None),
        }
    }

    async fn ask_for_counter(
        &mut self,
        id: MachineId,
        shell: &ConsoleShell,
        nonce: &str,
    ) -> Result<ExecOutput, Stop> {
        // The counting process may be about to write: a line without its end is not an answer yet.
        let question = format!("until read -r count </count; do :; done; echo {nonce} $count");
        self.run_on_console(id, shell, &question).await
    }

    /// A number that was never used before.
    fn fresh_nonce(&self) -> Result<String, Stop> {
        random_hex::<16>().map_err(|e| self.harness(format!("failed to get a nonce: {e}")))
    }
}
