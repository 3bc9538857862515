//! Restores a stack from a snapshot.
//!
//! A snapshot contains the machine of the outermost level, with all levels that run in it: QEMU has written its devices as for
//! a migration, and a copy of its memory is next to them. A restored stack maps that copy: it reads only what it needs, and its
//! writes stay private. Another emulator than QEMU has saved the devices in its own form, and restores both itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use nestmatrix_model::{LevelNumber, Stage};
use nestmatrix_vmm::qemu::{ChannelKind, Machine, Monitor};
use qapi::qmp::{self, MigrationCapability, MigrationCapabilityStatus};
use tokio::sync::mpsc;

use super::Stop;
use super::boot_level::{NOTICES, Role, Started};
use super::level::{Level, StartedOn, Up};
use super::limits::WaitLimits;
use super::machines::MachineId;
use super::migrate::incoming;
use super::random::random_hex;
use super::snapshots::{Snapshot, SnapshotLevel};
use super::stack::Stack;
use super::watch::WatchEvent;
use crate::host::{Host, Relay, RunningProcess};
use crate::launcher;

/// How many times as long a restore may take if its memory is copied.
const COPY_PATIENCE: f64 = 3.0;

/// The settings of every QEMU that takes or loads a snapshot: the memory is not written with the devices, and the end of a
/// migration is an event.
pub(super) fn capabilities() -> qmp::migrate_set_capabilities {
    let on = |capability| MigrationCapabilityStatus { capability, state: true };
    let capabilities = [MigrationCapability::x_ignore_shared, MigrationCapability::events];
    qmp::migrate_set_capabilities { capabilities: capabilities.map(on).into() }
}

/// A file in the form of QMP's migration commands.
pub(super) fn uri(file: &Path) -> String {
    format!("file:{}", file.display())
}

impl Stack<'_> {
    /// Brings up the levels of a snapshot; returns their number, and the innermost of them as the host of the next level.
    pub(super) async fn restore(
        &mut self,
        snapshot: &Snapshot,
        on: StartedOn,
    ) -> Result<(usize, StartedOn), Stop> {
        // If it takes longer than a few seconds, the snapshot is unusable. Other emulators than QEMU copy all memory first.
        let patience = if self.request.plan.runs_on_qemu() { 1.0 } else { COPY_PATIENCE };
        self.limits = WaitLimits::new(self.request.limits.short().patient(patience));
        let restored = self.restore_levels(snapshot, on).await;
        self.limits = WaitLimits::new(self.request.limits);
        restored
    }

    async fn restore_levels(
        &mut self,
        snapshot: &Snapshot,
        mut on: StartedOn,
    ) -> Result<(usize, StartedOn), Stop> {
        self.enter(Stage::Restore);
        self.copy_records(snapshot)?;
        let mut restored = Vec::new();
        for (index, saved) in snapshot.description().levels.iter().enumerate() {
            let level = self.request.plan.levels[index].level;
            if saved.level != level {
                return Err(self.not_as_saved(format!("{} is not {level}", saved.level)));
            }
            let role = Role::Restored(snapshot, saved);
            let launched = self.start_level(index, role, &on).await?;
            let relay = launched.state.relay.clone();
            let up = self.come_up(launched).await?;
            if let Some(relay) = relay {
                self.renew(&relay, &up).await?;
            }
            on = up.to_restore_on();
            restored.push((up, role));
        }
        let number = restored.len();
        for (up, role) in restored {
            self.prove_hypervisor(up, role).await?;
        }
        Ok((number, on))
    }

    /// Checks that the emulator of the outermost level has restored it, and lets the level know that its channels to the levels inside are
    /// others than before.
    async fn renew(&mut self, relay: &Relay, up: &Level<Up>) -> Result<(), Stop> {
        let checked = self.machines.qemu(up.id).map_or(Ok(()), RunningProcess::check_restored);
        checked.map_err(|why| self.not_as_saved(why.to_string()))?;
        let renewed = self.during(up.id, up.state.host.run(&relay.renewal())).await?;
        if renewed.status == Some(0) {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&renewed.stderr).into_owned();
        Err(self.harness(format!("{} can't be given its new channels: {why}", up.id.level)))
    }

    fn not_as_saved(&self, why: String) -> Stop {
        self.harness(format!("the snapshot is not what was saved: {why}"))
    }

    /// What levels printed before the snapshot was taken is part of this stack's records.
    fn copy_records(&self, snapshot: &Snapshot) -> Result<(), Stop> {
        let copy = || {
            for entry in fs::read_dir(snapshot.records())? {
                let from = entry?.path();
                let Some(name) = from.file_name() else { continue };
                // Later records have the same name.
                let mut to = PathBuf::from(name);
                to.set_extension(format!("saved.{}", from.extension().unwrap_or_default().to_string_lossy()));
                fs::copy(&from, self.request.records.join(to))?;
            }
            Ok(())
        };
        copy().map_err(|e: std::io::Error| self.harness(format!("records can't be written: {e}")))
    }

    /// Restores a machine of a snapshot: a new emulator loads the outermost one, and those inside it run already. Returns its monitor and
    /// its relay, as far as it has them.
    pub(super) async fn restore_machine(
        &mut self,
        machine: &Machine,
        snapshot: &Snapshot,
        saved: &SnapshotLevel,
        on: &StartedOn,
    ) -> Result<(Option<Monitor>, Option<Relay>), Stop> {
        let (monitor, relay) = match saved.pid {
            None => self.load(machine, snapshot, on).await?,
            Some(pid) => (Some(self.adopt(machine, pid, &on.host).await?), None),
        };
        if let Some(monitor) = monitor.as_ref().filter(|monitor| monitor.version() != saved.qemu) {
            let why = format!("{}'s QEMU is {}, not {}", machine.level, monitor.version(), saved.qemu);
            return Err(self.not_as_saved(why));
        }
        Ok((monitor, relay))
    }

    /// Starts the emulator of the outermost level. QEMU is asked to load the devices; another one does it while it starts.
    async fn load(
        &mut self,
        machine: &Machine,
        snapshot: &Snapshot,
        on: &StartedOn,
    ) -> Result<(Option<Monitor>, Option<Relay>), Stop> {
        let level = machine.level;
        let devices = self.devices_file()?;
        // Without the permissions: the snapshot's file is read-only, and the next snapshot is written to this one.
        let copied = async { tokio::fs::write(&devices, tokio::fs::read(snapshot.device()).await?).await };
        copied.await.map_err(|e| self.harness(format!("the devices of a snapshot can't be copied: {e}")))?;
        let Started { monitor, relay } = self.start(machine, on).await?;
        let Some((monitor, notices)) = monitor else { return Ok((None, relay)) };
        self.watch.listen_to(level.into(), notices);
        let wire = monitor.wire();
        let loading = async {
            wire.execute(capabilities()).await?;
            Ok(wire.execute(incoming(uri(&devices))).await?)
        };
        self.during(level, loading).await?;
        match self.migrated(level).await?.as_str() {
            "completed" => Ok((Some(monitor), relay)),
            status => Err(self.not_as_saved(format!("QEMU's loading of it is {status}"))),
        }
    }

    /// The file that the outermost emulator writes devices to, and reads them from.
    pub(super) fn devices_file(&self) -> Result<PathBuf, Stop> {
        let host = Rc::clone(&self.request.this_machine).machine_host();
        let file = host.ok().and_then(|host| Some(host.this_machine()?.devices_file()));
        file.ok_or_else(|| self.harness("this machine has no folder for files"))
    }

    /// Resumes the conversations with a QEMU that runs in a level, and with its guest.
    async fn adopt(&mut self, machine: &Machine, pid: i64, host: &Rc<dyn Host>) -> Result<Monitor, Stop> {
        let id = MachineId::from(machine);
        let process = launcher::adopt(machine, pid, host);
        let process = process.ok_or_else(|| self.not_as_saved(format!("{} runs nothing", host.name())))?;
        // Where channels are connections, they are new ones, and QEMU greets again.
        let opening = async {
            let near_ends = Rc::clone(host).machine_host()?.near_ends(machine.channels())?;
            near_ends.open(&*process).await
        };
        let streams = self.during(id, opening).await?;
        let greets = !streams.is_empty();
        self.channels.add(streams);
        self.machines.add(id, process);
        self.open_console(id, &id.to_string(), false)?;
        if machine.agent {
            let notices = self.watch.inlet(id.level, WatchEvent::Agent);
            self.open_wire(id, ChannelKind::Agent, notices)?;
        }
        let (sender, mut notices) = mpsc::channel(NOTICES);
        let wire = self.open_wire(id, ChannelKind::Qmp, sender)?;
        let monitor = if greets {
            let greeting = async { Ok(Monitor::greet(wire, &mut notices).await?) };
            self.during(id, greeting).await?
        } else {
            self.during(id, async { Ok(Monitor::reattach(wire).await?) }).await?
        };
        self.watch.listen_to(id, notices);
        Ok(monitor)
    }

    /// The script that updates a level after a restore: its clock is late, other stacks have the same random numbers, and its
    /// cached disk contents may be out of date.
    pub(super) fn resync_script(&self) -> Result<String, Stop> {
        let missing = |what: &str| self.harness(format!("no {what} is available"));
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| missing("time"))?.as_secs();
        let seed = random_hex::<32>().map_err(|_| missing("random number"))?;
        Ok(format!(
            "echo {seed} >/dev/urandom; date -u -s @{seconds} >/dev/null; echo 1 >/proc/sys/vm/drop_caches\n"
        ))
    }

    /// Waits until QEMU has written or loaded the devices of a machine; returns the final status.
    pub(super) async fn migrated(&mut self, level: LevelNumber) -> Result<String, Stop> {
        self.until(level, |watch| watch.migrated(level).map(str::to_owned)).await
    }
}
