//! The reboot of the outermost level, as a step of a scenario.

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::ChannelKind;
use qapi::qmp::{self, RebootAction};

use super::Stop;
use super::stack::Stack;
use super::steps::text_of;
use super::watch::Watch;

impl Stack<'_> {
    /// Reboots the outermost level, in which nothing runs yet, and checks its KVM again; returns a description of that.
    pub(super) async fn reboot(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let before = self.boot_id(level).await?;
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
        // Every machine is started with -no-reboot: otherwise a guest that gives up would start again unnoticed.
        let on_reboot = async |action: RebootAction| {
            let reboot = Some(action);
            qemu.execute(qmp::set_action { reboot, panic: None, shutdown: None, watchdog: None }).await?;
            Ok(())
        };
        self.during(level, on_reboot(RebootAction::reset)).await?;
        // A reset from outside: when the guest asked for it, the emulator was seen to hang in its firmware.
        let resets = self.watch.resets(level);
        self.run(level, "sync").await?;
        let reset = async { Ok(qemu.execute(qmp::system_reset {}).await?) };
        // If an emulator does not boot L0 again, that says nothing about the matrix.
        self.during(level, reset).await.map_err(blame_emulator_for_l0)?;
        let is_reset = |watch: &Watch| (watch.resets(level) > resets).then_some(());
        self.until(level, is_reset).await.map_err(blame_emulator_for_l0)?;
        let wire = self.wire(level, ChannelKind::Agent)?;
        self.greet(level, wire).await.map_err(blame_emulator_for_l0)?;
        // Not before it is up again: SeaBIOS answers a reset with one of its own.
        self.during(level, on_reboot(RebootAction::shutdown)).await
    }

    /// The number that a kernel gives itself when it starts.
    async fn boot_id(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let id = text_of(&self.run(level, "cat /proc/sys/kernel/random/boot_id").await?);
        if id.is_empty() {
            return Err(self.harness(format!("{level} reports no boot id")));
        }
        Ok(id)
    }
}

/// The same stop, with the emulator at fault if it is about L0.
fn blame_emulator_for_l0(stop: Stop) -> Stop {
    if stop.symptom.level().is_some_and(|level| level.below().is_none()) {
        stop.not_its_fault()
    } else {
        stop
    }
}
