//! Events in the life of a level, as steps of a scenario: it is paused, saved and restored, reset, powered off, migrated, its kernel
//! panics, or it gets other hardware.
//! After each one, the same is checked without being asked: every level lives, no kernel has complained, and clocks run as they
//! should.

mod crash;
mod dump;
mod hotplug;
mod pause;
mod plug_device;
mod power_off;
mod reset;
mod save_restore;
mod successor;
mod vitals;

use std::time::Duration;

use nestmatrix_model::{LevelNumber, OwnAction, Word as _};
use nestmatrix_vmm::guest::printable;

use super::boot_level::Role;
use super::level::{Guest, StartedOn};
use super::machines::MachineId;
use super::stack::Stack;
use super::{Stop, Symptom};
use crate::host::{HostError, RunningProcess};
use crate::migrate::MigrateTo;
use reset::Begin;
use vitals::Vitals;
pub(crate) use vitals::is_complaint;

/// Interval at which a process that is about to end is polled.
const POLL: Duration = Duration::from_millis(100);

/// What an action did to a level.
struct Done {
    /// What was seen, for the record.
    seen: String,
    /// How long the level stood still, if it did.
    stood_still: Duration,
    /// The outermost level that has booted again, if one has.
    booted_again: Option<LevelNumber>,
}

/// What is known about the levels before an action.
pub(super) struct Before {
    vitals: Vitals,
    /// The counter of the innermost level, if that is up.
    count: Option<u64>,
}

impl Stack<'_> {
    /// What the levels say before the first action of a step.
    pub(super) async fn before_lifecycle(&mut self, action: OwnAction) -> Result<Before, Stop> {
        let now = async {
            Ok(Before { vitals: self.vitals().await?, count: self.heartbeat_of_innermost().await? })
        };
        now.await.map_err(|stop: Stop| stop.before(&format!("`{}`", action.word())))
    }

    /// Performs an action on a level and checks that everything lives on. Returns what was seen; `before` becomes what the levels
    /// say now.
    pub(super) async fn live_through(
        &mut self,
        level: LevelNumber,
        action: OwnAction,
        before: &mut Before,
    ) -> Result<String, Stop> {
        let stays = |seen| Done { seen, stood_still: Duration::ZERO, booted_again: None };
        let done = match action {
            OwnAction::Pause => self.pause_for_a_while(level).await?,
            OwnAction::SaveRestore => self.save_and_restore(level).await?,
            // A boot takes steps, so the future is recursive and needs a box.
            OwnAction::Reset => Box::pin(self.reset_and_boot(level, Begin::AtOnce)).await?,
            OwnAction::Crash => Box::pin(self.reset_and_boot(level, Begin::ByCrash)).await?,
            OwnAction::PowerOff => Box::pin(self.power_off_and_boot(level)).await?,
            OwnAction::HotplugCpu => self.hotplug_cpu(level).await?,
            OwnAction::HotplugMemory => self.hotplug_memory(level).await?,
            OwnAction::HotplugDisk => self.hotplug_disk(level).await?,
            OwnAction::HotplugNetwork => self.hotplug_network(level).await?,
            OwnAction::Migrate => stays(self.migrate(level, MigrateTo::Same).await?),
            OwnAction::MigrateToOther => stays(self.migrate(level, MigrateTo::Other).await?),
            OwnAction::MigrateBack => stays(self.migrate(level, MigrateTo::Own).await?),
            OwnAction::Measure | OwnAction::Reboot | OwnAction::BootAnother => {
                return Err(self.harness(format!("`{}` is no event in a level's life", action.word())));
            }
        };
        let innermost = self.request.plan.innermost();
        let counts_anew = done.booted_again.is_some_and(|outermost| innermost >= outermost);
        let lives = self.check_that_innermost_lives(before.count.filter(|_| !counts_anew)).await?;
        let vitals = self.vitals().await?;
        let noted = self.compare(&before.vitals, &vitals, level, &done)?;
        let count = lives.as_ref().map(|(_, count)| *count);
        *before = Before { vitals, count };
        let said = [Some(done.seen), lives.map(|(lives, _)| lives), noted];
        Ok(said.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }

    /// Checks that the innermost level, if it is up, returns a fresh nonce and that its counter advances: from `before`, unless it
    /// has started again. Returns this in words, and the counter.
    async fn check_that_innermost_lives(
        &mut self,
        before: Option<u64>,
    ) -> Result<Option<(String, u64)>, Stop> {
        let Some(innermost) = self.levels.innermost().cloned() else { return Ok(None) };
        let level = innermost.id.level;
        let now = self.heartbeat(&innermost).await?;
        let later = self.next_beat(&innermost, now).await?;
        if before.is_some_and(|before| now < before) || later <= now {
            let before = before.map(|before| format!("{before}, ")).unwrap_or_default();
            let seen = format!("{level}'s counter stands still: {before}{now}, {later}");
            return Err(Stop::stack(self.stage, Symptom::StandsStill { level, seen }));
        }
        let before = before.map(|before| format!("was {before}, ")).unwrap_or_default();
        Ok(Some((format!("{level} answers, its counter {before}is {now} and then {later}"), later)))
    }

    /// The level furthest in that takes commands: those around it live if it does.
    fn furthest_in(&self) -> Option<(LevelNumber, Guest)> {
        let mut levels = LevelNumber::ALL.into_iter().rev();
        levels.find_map(|level| Some((level, self.levels.guest(level)?)))
    }

    /// Waits until a process that runs a machine of `level` has ended.
    pub(super) async fn wait_for_end(
        &mut self,
        level: LevelNumber,
        process: &dyn RunningProcess,
    ) -> Result<(), Stop> {
        let ended = async {
            while process.ended().await?.is_none() {
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        self.during(level.below().unwrap_or(level), ended).await
    }

    /// Launches the levels inside the one at `index` again, each in the one around it.
    async fn relaunch_inside(&mut self, index: usize, mut on: StartedOn) -> Result<(), Stop> {
        let plan = self.request.plan;
        for inside in index + 1..plan.levels.len() {
            let launched = self.start_level(inside, Role::Again, &on).await?;
            if plan.reports(launched.id.level) && plan.levels[inside].image.disk().is_some() {
                self.ask_for_report(launched, Role::Again).await?;
            } else if plan.reports(launched.id.level) {
                let reported = self.wait_for_report(launched, Role::Again).await?;
                reported.into_iter().for_each(|innermost| self.levels.add_innermost(innermost));
            } else {
                let up = self.come_up(launched).await?;
                on = self.prove_hypervisor(up, Role::Again).await?.to_start_on();
            }
        }
        Ok(())
    }
}

/// Runs `script` in a level to its end, without any time limit; returns what it printed.
async fn run_in(guest: Guest, script: &str) -> Result<String, HostError> {
    let output = match guest {
        Guest::Host(host) => host.run(script).await?,
        Guest::Console(shell) => {
            let typed = shell.run(script).await;
            typed.map_err(|source| HostError::System { what: "typing at a console".into(), source })?
        }
    };
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(printable).collect::<Vec<_>>().join("\n"))
}

/// The machine of a level that an action is about.
pub(super) fn machine_of(stack: &Stack<'_>, level: LevelNumber) -> Result<MachineId, Stop> {
    stack.machines.current(level).ok_or_else(|| stack.harness(format!("{level} does not run")))
}
