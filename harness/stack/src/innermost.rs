//! What the innermost level says: its report, and, if it boots a guest of the user, that the guest works.

use nestmatrix_model::{Stage, StageKind};

use super::boot_level::Role;
use super::channels::ConsoleShell;
use super::level::{Launched, Level, Reported};
use super::machines::MachineId;
use super::report::ReportReader;
use super::stack::Stack;
use super::watch::Watch;
use super::{Blame, Hypervisor, Stop, Symptom};
use crate::host::last_lines_of;

/// How QEMU calls it if a guest switches itself off.
const POWERED_OFF: &str = "guest-shutdown";

impl Stack<'_> {
    /// Waits until the innermost level has reported, and takes commands if it should stay up.
    pub(super) async fn wait_for_report(
        &mut self,
        launched: Level<Launched>,
        role: Role<'_>,
    ) -> Result<Option<Level<Reported>>, Stop> {
        let id = launched.id;
        if matches!(role, Role::First) {
            let begun = |watch: &Watch| watch.console(id)?.report(|report| report.begun().then_some(()));
            let begun = self.until(id, begun).await;
            begun.map_err(|stop| self.of_guest_if_reported(id, stop))?;
            self.begin(role, id.level, StageKind::Check).await?;
        }
        let complete = |watch: &Watch| watch.console(id)?.report(|report| report.complete().cloned());
        let report = self.until(id, complete).await;
        let report = report.map_err(|stop| self.of_guest_if_reported(id, stop))?;
        self.check_kernel(id, &report.kernel)?;
        self.check_cpus(id, report.cpus)?;
        self.ledger.measured(id).report = Some(report);
        self.wait_for_guest_to_work(id, role).await?;
        if self.request.plan.hypervisor_of(id.level) == Hypervisor::HyperV {
            // It ends by itself, and takes no commands: Windows only passes on what it says.
            self.machines.may_end(id);
            return Ok(None);
        }
        if !self.request.plan.stays {
            return Ok(None);
        }
        self.until(id, |watch| watch.shell_is_ready(id)).await?;
        // Without it, nothing would check later that this level is still alive.
        let shell = self.shell(id)?;
        Ok(Some(launched.becomes(Reported { shell })))
    }

    /// The stop of a level that should report. If it has reported, it is about the user's guest: what that does may be read together with
    /// the end of the report.
    fn of_guest_if_reported(&mut self, id: MachineId, stop: Stop) -> Stop {
        let waits = self.request.level(id.level).is_some_and(|plan| plan.settings.ready().is_some());
        let report =
            self.watch.console(id).and_then(|console| console.report(|report| report.complete().cloned()));
        let of_level = stop.blame == Blame::Stack && stop.level() == Some(id.level);
        // It powers off when it has reported.
        let powered_off = matches!(&stop.symptom, Symptom::ShutDown { said, .. } if said == POWERED_OFF);
        let is_damaged =
            |report: &ReportReader| report.is_damaged() || powered_off && report.may_have_lost_marks();
        if of_level && self.watch.console(id).is_some_and(|console| console.report(is_damaged)) {
            // It ran and reported. What is wrong is how that came here.
            let why = format!("the report of {} on its console is damaged ({})", id.in_words(), stop.symptom);
            return self.harness(why).about(id.level);
        }
        let Some(report) = report.filter(|_| waits && of_level && !id.second) else {
            return self.unless_firmware_failed(id, stop);
        };
        self.ledger.measured(id).report = Some(report);
        if !matches!(stop.stage, Stage::Level(..)) {
            return stop;
        }
        let later = [StageKind::Check, StageKind::Ready].map(|kind| Stage::Level(id.level, kind));
        later.into_iter().filter(|stage| *stage > stop.stage).for_each(|stage| self.enter(stage));
        Stop { stage: self.stage, ..stop }
    }

    /// Waits until the user's guest in the innermost level says that it works, if the scenario waits for that. From now on the level
    /// may power off.
    async fn wait_for_guest_to_work(&mut self, id: MachineId, role: Role<'_>) -> Result<(), Stop> {
        let plan = self.request.level(id.level);
        if plan.is_none_or(|plan| plan.settings.ready().is_none()) {
            return Ok(());
        }
        self.begin(role, id.level, StageKind::Ready).await?;
        self.until(id, |watch| watch.console(id)?.is_ready().then_some(())).await
    }

    /// Waits until the innermost level, which is an installed system, takes commands, and has it report.
    pub(super) async fn ask_for_report(
        &mut self,
        launched: Level<Launched>,
        role: Role<'_>,
    ) -> Result<(), Stop> {
        let up = self.come_up(launched).await?;
        let id = up.id;
        self.levels.add(up.clone());
        self.begin(role, id.level, StageKind::Check).await?;
        let printed = self.during(id, up.state.host.report()).await?;
        let mut reader = ReportReader::default();
        String::from_utf8_lossy(&printed.stdout).lines().for_each(|line| reader.line(line));
        let Some(report) = reader.complete().cloned() else {
            let said = last_lines_of(&String::from_utf8_lossy(&printed.stderr));
            let why = if said.is_empty() { "its script printed no complete report".to_owned() } else { said };
            return Err(self.harness(format!("{} can't report: {why}", id.level)).about(id.level));
        };
        self.check_kernel(id, &report.kernel)?;
        self.check_system(id, &report.system, &report.version)?;
        self.check_cpus(id, report.cpus)?;
        self.check_tpm(id, &*up.state.host).await?;
        self.ledger.measured(id).report = Some(report);
        Ok(())
    }

    /// The shell on the console of a machine.
    pub(super) fn shell(&self, id: MachineId) -> Result<ConsoleShell, Stop> {
        let shell = self.channels.shell(id).cloned();
        shell.ok_or_else(|| self.harness(format!("{} has no console", id.in_words())))
    }
}
