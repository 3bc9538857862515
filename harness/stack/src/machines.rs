//! The machines of a stack: what was requested for each, and the QEMUs that run them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use nestmatrix_model::{Fault, LevelNumber};
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName, Machine};
use tokio::time::timeout;

use super::Usage;
use crate::host::{QemuEnd, RunningProcess};

/// One of the machines of a level: the one that contains the levels inside it, or its second one. Displays as `L1`, or
/// `L1-second`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MachineId {
    pub(super) level: LevelNumber,
    pub(super) second: bool,
}

impl MachineId {
    /// The second machine of a level.
    pub(super) fn second(level: LevelNumber) -> Self {
        Self { level, second: true }
    }

    /// `L1`, or `the second L1`.
    pub(super) fn in_words(self) -> String {
        if self.second { format!("the second {}", self.level) } else { self.level.to_string() }
    }

    /// Its own channel of this kind.
    pub(super) fn channel(self, kind: ChannelKind) -> ChannelName {
        ChannelName { level: self.level, kind, second: self.second }
    }
}

impl From<LevelNumber> for MachineId {
    fn from(level: LevelNumber) -> Self {
        Self { level, second: false }
    }
}

impl From<&Machine> for MachineId {
    fn from(machine: &Machine) -> Self {
        Self { level: machine.level, second: machine.instance.is_second() }
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = if self.second { "-second" } else { "" };
        write!(f, "{}{second}", self.level)
    }
}

/// The machine property that names the firmware, if that is not the machine's default.
pub(super) const FIRMWARE: &str = "firmware";

/// What was requested for a machine.
pub(super) struct Requested {
    pub(super) machine: Machine,
    /// Why it does not have the firmware that is reliable on emulated metal, if so.
    pub(super) why_default_firmware: Option<String>,
}

impl Requested {
    /// Whether the machine has its default firmware.
    pub(super) fn has_default_firmware(&self) -> bool {
        !self.machine.properties.contains_key(FIRMWARE)
    }
}

/// A machine that runs.
pub(super) struct RunningMachine {
    pub(super) id: MachineId,
    pub(super) qemu: Box<dyn RunningProcess>,
}

/// The machines of a stack.
#[derive(Default)]
pub(super) struct Machines {
    requested: BTreeMap<MachineId, Requested>,
    /// Outermost first; second machines come in the order of their start.
    running: Vec<RunningMachine>,
    /// Levels that were migrated: only one QEMU runs each of them.
    migrated: BTreeSet<LevelNumber>,
    /// Levels whose QEMU a fault of the scenario killed.
    killed: BTreeSet<LevelNumber>,
    /// Machines that have done their work, and whose end is the end of that.
    done: BTreeSet<MachineId>,
}

impl Machines {
    /// Notes what is requested for a machine that is about to be started.
    pub(super) fn request(&mut self, requested: Requested) {
        self.requested.insert((&requested.machine).into(), requested);
    }

    /// What was requested for a machine, or for the other one of its level if nothing is known about it.
    pub(super) fn requested(&self, id: MachineId) -> Option<&Requested> {
        self.requested.get(&id).or_else(|| self.requested.get(&id.level.into()))
    }

    /// Notes that a CPU was added to a machine.
    pub(super) fn add_cpu(&mut self, id: MachineId) {
        if let Some(requested) = self.requested.get_mut(&id) {
            requested.machine.hardware.cpus += 1;
        }
    }

    /// Notes that a memory module was added to a machine.
    pub(super) fn add_memory_module(&mut self, id: MachineId) {
        if let Some(requested) = self.requested.get_mut(&id) {
            requested.machine.hardware.memory_modules += 1;
        }
    }

    /// Notes that a machine runs.
    pub(super) fn add(&mut self, id: MachineId, qemu: Box<dyn RunningProcess>) {
        // A machine that replaces another one comes where that was: outer levels are polled first.
        let place = self.running.partition_point(|running| running.id.level <= id.level);
        self.running.insert(place, RunningMachine { id, qemu });
    }

    /// The machines that run.
    pub(super) fn running(&self) -> &[RunningMachine] {
        &self.running
    }

    /// The awaited machine, or the other one of its level if that one does not run.
    pub(super) fn get(&self, id: MachineId) -> Option<&RunningMachine> {
        let of_level = self.running.iter().filter(|running| running.id.level == id.level);
        of_level.max_by_key(|running| running.id.second == id.second)
    }

    /// The QEMU of the awaited machine.
    pub(super) fn qemu(&self, id: MachineId) -> Option<&dyn RunningProcess> {
        self.get(id).map(|running| &*running.qemu)
    }

    /// Whether a machine of this level runs.
    pub(super) fn runs(&self, level: LevelNumber) -> bool {
        self.running.iter().any(|running| running.id.level == level)
    }

    /// The machine that contains the levels inside `level`: after a migration, the one that it was migrated to.
    pub(super) fn current(&self, level: LevelNumber) -> Option<MachineId> {
        self.get(level.into()).map(|running| running.id)
    }

    /// A machine that is about to end, or has ended. From now on it is not one of those that run.
    pub(super) fn take(&mut self, id: MachineId) -> Option<Box<dyn RunningProcess>> {
        let place = self.running.iter().position(|running| running.id == id)?;
        Some(self.running.remove(place).qemu)
    }

    /// Takes the machine that a level was migrated from: it is about to end.
    pub(super) fn take_migrated(&mut self, id: MachineId) -> Option<Box<dyn RunningProcess>> {
        self.migrated.insert(id.level);
        self.take(id)
    }

    /// Forgets the machines of the levels inside `level`, which ended when it was reset.
    pub(super) fn forget_inside(&mut self, level: LevelNumber) {
        for inside in LevelNumber::ALL.into_iter().filter(|inside| *inside > level) {
            if let Some(id) = self.current(inside) {
                self.take(id);
            }
        }
    }

    /// Kills the QEMU that a fault of the scenario names. This is noted first, so that the QEMU's end is expected.
    ///
    /// # Errors
    /// It does not run, or its host fails to kill it.
    pub(super) async fn kill(&mut self, fault: &Fault) -> Result<(), String> {
        self.killed.insert(fault.level);
        let running = self.get(MachineId { level: fault.level, second: fault.second });
        // The first machine is no substitute for the second. After a migration there is only one, on either set of channels.
        let is_it = |id: MachineId| !fault.second || id.second || self.migrated.contains(&id.level);
        let running = running.filter(|running| is_it(running.id));
        let running = running.ok_or_else(|| {
            format!("its {}QEMU does not run yet", if fault.second { "second " } else { "" })
        })?;
        running.qemu.kill().await.map_err(|e| e.to_string())
    }

    /// Notes that a machine has done its work. From now on, its end explains nothing.
    pub(super) fn may_end(&mut self, id: MachineId) {
        self.done.insert(id);
    }

    /// Whether a fault of the scenario killed a QEMU of this level.
    pub(super) fn was_killed(&self, level: LevelNumber) -> bool {
        self.killed.contains(&level)
    }

    /// The outermost QEMU that has ended by now. Each is polled with this limit.
    pub(super) async fn outermost_end(&self, limit: Duration) -> Option<(LevelNumber, QemuEnd)> {
        for running in self.running.iter().filter(|running| !self.done.contains(&running.id)) {
            match timeout(limit, running.qemu.ended()).await {
                Ok(Ok(Some(end))) => return Some((running.id.level, end)),
                Ok(Ok(None)) => {}
                // If a QEMU can't be polled, its host is in trouble itself: nothing further in can be polled.
                Ok(Err(_)) | Err(_) => break,
            }
        }
        None
    }

    /// Whether the emulator of the outermost level, in which all others run, has ended.
    pub(super) async fn outermost_has_ended(&self) -> bool {
        match self.running.first() {
            Some(running) => matches!(running.qemu.ended().await, Ok(Some(_))),
            None => false,
        }
    }

    /// What the emulator of the level `outermost` has used so far.
    pub(super) async fn usage(&self, outermost: Option<LevelNumber>) -> Usage {
        let Some(running) = self.running.iter().find(|running| Some(running.id.level) == outermost) else {
            return Usage::default();
        };
        let qemu = &running.qemu;
        let waited = qemu.run_delay().map(|waits| waits.so_far()).unwrap_or_default();
        Usage {
            cpu_seconds: qemu.cpu_time().await.unwrap_or_default().as_secs_f64(),
            emulator_seconds: qemu.lived().unwrap_or_default().as_secs_f64(),
            waited_seconds: waited.as_secs_f64(),
            peak_memory_mib: qemu.peak_memory_mib().unwrap_or_default(),
        }
    }

    /// Lets the levels that have started machines remove what they made for them, innermost machines first, each within this limit. Returns
    /// the machines that were not removed, and why: that changes no verdict, since it goes with the outermost machine.
    pub(super) async fn clean_up(&self, limit: impl Fn(LevelNumber) -> Duration) -> Vec<(MachineId, String)> {
        let mut left = Vec::new();
        for running in self.running.iter().rev() {
            match timeout(limit(running.id.level), running.qemu.clean_up()).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => left.push((running.id, e.to_string())),
                Err(_) => left.push((running.id, "its role or its level did not do it in time".to_owned())),
            }
        }
        left
    }

    /// Ends every QEMU on this machine: those of the level `outermost`; all others run inside them.
    ///
    /// # Errors
    /// One of them still runs after this time.
    pub(super) async fn end(
        &mut self,
        outermost: Option<LevelNumber>,
        limit: Duration,
    ) -> Result<(), String> {
        let here = || self.running.iter().filter(|running| Some(running.id.level) == outermost);
        for running in here() {
            let _ = running.qemu.kill().await;
        }
        let deadline = Instant::now() + limit;
        for running in here() {
            while matches!(running.qemu.ended().await, Ok(None)) {
                if Instant::now() > deadline {
                    return Err(format!("the emulator of {} lingers after it was killed", running.id.level));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        self.running.clear();
        Ok(())
    }
}
