//! A cell that may change this machine, a disposable host: what is found is recorded before, and restored after each attempt. If the
//! cell reboots the machine, it continues after that.

use std::path::Path;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{LevelNumber, Stage};
use nestmatrix_stack::{HostReboot, Observation, Stop};

use super::RunEvent;
use super::execute::Run;
use super::ready_cell::ReadyCell;
use crate::disposable_host::{HostChange, HostGuard, HostPaths, Journal, Purpose, restore};
use crate::records::now;

/// Marks the cell that continues after this machine was rebooted for it by this run. If there is no such cell any more, the machine is
/// restored, so that the other cells find it as it was.
pub(super) fn continue_after_reboot(cells: &mut [ReadyCell], run: &Path) -> Result<(), String> {
    let paths = HostPaths::of_this_machine();
    if !Journal::exists(&paths) {
        return Ok(());
    }
    // A user who can't read it runs on emulated metal.
    let Ok(Some(journal)) = Journal::read(&paths) else { return Ok(()) };
    if !journal.awaits(run) {
        return Ok(());
    }
    let is_it = |cell: &&mut ReadyCell| cell.changes_host && cell.cell.name.as_str() == journal.purpose.cell;
    if let Some(cell) = cells.iter_mut().find(is_it) {
        cell.continues = true;
        return Ok(());
    }
    let restored = restore(&paths).map_err(|e| e.to_string())?;
    restored.and_then(|(_, restored)| restored.problem).map_or(Ok(()), Err)
}

impl Run {
    /// Boots a cell's stack by `boot`, which gets what was done before a reboot, and restores this machine. Returns what was changed.
    pub(super) async fn boot_and_restore_host(
        &self,
        ready: &ReadyCell,
        boot: impl AsyncFnOnce(Option<HostReboot>) -> Observation,
    ) -> (Observation, Vec<HostChange>) {
        let stop = |stage, why: String| Stop::harness(stage, why).about(LevelNumber::ALL[0]);
        let (guard, rebooted) = match self.change_host(ready) {
            Ok(begun) => begun,
            Err(why) => {
                let why = format!("this host can't be changed: {why}");
                return (Observation::stopped(stop(Stage::Provision, why)), Vec::new());
            }
        };
        // A machine that was rebooted has them from the file.
        let set = if rebooted.is_none() { set_modules_options(ready, &guard) } else { Ok(()) };
        let mut observation = match set {
            Ok(()) => boot(rebooted).await,
            Err(why) => Observation::stopped(stop(Stage::Provision, why)),
        };
        let stage = observation.stages.last().map_or(Stage::Provision, |time| time.stage);
        if let Some(reboot) = observation.host_reboot.take() {
            match guard.leave_for_reboot(reboot) {
                Ok(()) => self.awaits_reboot.set(true),
                Err(why) => observation.stop = Some(stop(stage, why)),
            }
            return (observation, Vec::new());
        }
        // Nothing else of this run uses the thread now, and a signal must not cut it off.
        let restored = guard.restore();
        if let Some(problem) = restored.problem {
            self.listener.event(&RunEvent::HostNotRestored { problem: &problem });
            let is_interrupted = observation.stop.as_ref().is_some_and(Stop::is_interrupted);
            if !is_interrupted {
                observation.stop = Some(stop(stage, problem.clone()));
            }
            self.host_problem.replace(Some(problem));
        }
        (observation, restored.changes)
    }

    fn change_host(&self, ready: &ReadyCell) -> Result<(HostGuard, Option<HostReboot>), String> {
        let paths = HostPaths::of_this_machine();
        if let Some((guard, reboot)) = HostGuard::after_reboot(&paths)? {
            return Ok((guard, Some(reboot)));
        }
        let run = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        let purpose = Purpose { cell: ready.cell.name.to_string(), run, began: now() };
        Ok((HostGuard::begin(&paths, purpose)?, None))
    }
}

/// Gives KVM's modules the options with which a cell begins: its kernel parameters, and none of the host's own.
fn set_modules_options(ready: &ReadyCell, guard: &HostGuard) -> Result<(), String> {
    guard.set_options_aside()?;
    let l0 = ready.cell.levels.iter().find(|spec| spec.level == LevelNumber::ALL[0]);
    match l0.map(|l0| &l0.settings.kernel_parameters[..]) {
        None | Some([]) => Ok(()),
        Some(parameters) => {
            guard.set_kernel_parameters(parameters, ArchInfo::of(ready.cell.architecture).kvm_module)
        }
    }
}
