//! The reset of a level that hosts, and the reboot of the outermost one, as steps of a scenario.

use nestmatrix_model::{Isa, LevelNumber};
use nestmatrix_vmm::guest::Agent;
use nestmatrix_vmm::qemu::ChannelKind;
use nestmatrix_vmm::wire::Wire;
use qapi::qmp::{self, RebootAction};
use serde_json::Value;

use super::Stop;
use super::stack::Stack;
use super::steps::text_of;
use super::watch::Watch;

impl Stack<'_> {
    /// Resets a level in which nothing runs that is still needed, and checks its KVM again; returns a description of that.
    pub(super) async fn reboot(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let before = self.boot_id(level).await?;
        self.run(level, "sync").await?;
        self.boot_again(level, &before).await
    }

    /// Resets a level whose kernel has, or had, this boot id. It must boot again. Checks its KVM; returns a description of that.
    pub(super) async fn boot_again(&mut self, level: LevelNumber, before: &str) -> Result<String, Stop> {
        self.reset(level).await?;
        let after = self.boot_id(level).await?;
        if after == before {
            return Err(self.harness(format!("{level} was reset and has boot id {after} as before")));
        }
        if let Some(up) = self.levels.up(level).cloned() {
            self.inspect(&up, String::new()).await?;
        }
        let nested = self.ledger.level(level).nested.clone();
        Ok(format!("{level} is up again; nested={}", nested.unwrap_or_else(|| "is absent".into())))
    }

    async fn reset(&mut self, level: LevelNumber) -> Result<(), Stop> {
        let qemu = self.wire(level, ChannelKind::Qmp)?;
        self.let_reset(level, &qemu, true).await?;
        let own_resets = self.watch.own_resets(level);
        self.system_reset(level, &qemu).await.map_err(blame_emulator_for_l0)?;
        let agent = self.wire(level, ChannelKind::Agent)?;
        let requested = self.machines.current(level).and_then(|id| self.machines.requested(id));
        let greeting = if requested.is_some_and(|requested| requested.machine.uefi.is_some()) {
            self.during(level, async { Ok(Agent::greet_repeatedly(agent).await?) }).await
        } else {
            self.greet(level, agent).await
        };
        greeting.map_err(blame_emulator_for_l0)?;
        // Not before it is up again: SeaBIOS answers a reset with one of its own.
        self.let_reset(level, &qemu, false).await?;
        self.check_own_resets(level, own_resets).map_err(blame_emulator_for_l0)
    }

    /// Checks that a level that was reset, and had reset itself `before` times, has not reset itself again. Nothing else would show
    /// that: meanwhile it may start again.
    pub(super) fn check_own_resets(&self, level: LevelNumber, before: usize) -> Result<(), Stop> {
        let own = self.watch.own_resets(level).saturating_sub(before);
        let of_firmware = usize::from(self.request.plan.profile.isa == Isa::Amd64);
        if own <= of_firmware {
            return Ok(());
        }
        Err(self.explainer(false).of_own_resets(level, own))
    }

    /// Sets whether a machine starts again when it is reset. Every machine is started with -no-reboot: otherwise a guest that gives
    /// up would start again unnoticed.
    pub(super) async fn let_reset(&mut self, level: LevelNumber, qemu: &Wire, may: bool) -> Result<(), Stop> {
        let reboot = Some(if may { RebootAction::reset } else { RebootAction::shutdown });
        let action = qmp::set_action { reboot, panic: None, shutdown: None, watchdog: None };
        self.during(level, async {
            qemu.execute(action).await?;
            Ok(())
        })
        .await
    }

    /// Resets a machine from outside: when the guest asked for it, the emulator was seen to hang in its firmware.
    pub(super) async fn system_reset(&mut self, level: LevelNumber, qemu: &Wire) -> Result<(), Stop> {
        let resets = self.watch.resets(level);
        self.during(level, async { Ok(qemu.execute(qmp::system_reset {}).await?) }).await?;
        self.until(level, |watch: &Watch| (watch.resets(level) > resets).then_some(())).await?;
        // After a panic, QEMU may have stopped it.
        self.watch.expect_nothing(level);
        let status = self.during(level, async { Ok(qemu.call("query-status", Value::Null).await?) }).await?;
        if status["running"] == false {
            self.during(level, async { Ok(qemu.execute(qmp::cont {}).await?) }).await?;
        }
        Ok(())
    }

    /// The number that a kernel gives itself when it starts.
    pub(super) async fn boot_id(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let id = text_of(&self.run(level, "read -r id </proc/sys/kernel/random/boot_id; echo $id").await?);
        if id.is_empty() {
            return Err(self.harness(format!("{level} reports no boot id")));
        }
        Ok(id)
    }
}

/// The same stop, with the emulator at fault if it is about L0.
fn blame_emulator_for_l0(stop: Stop) -> Stop {
    // Only an L0 that QEMU plays is rebooted.
    if stop.symptom.level().is_some_and(|level| level.below().is_none()) {
        stop.not_its_fault()
    } else {
        stop
    }
}
