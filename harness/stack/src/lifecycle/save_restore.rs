//! Saves a level with everything in it to a file on its host, and restores it in a new QEMU. The first QEMU has ended by then, so
//! the new one takes over its channels.

use std::rc::Rc;
use std::time::{Duration, Instant};

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{ChannelKind, Machine, Monitor};
use nestmatrix_vmm::shell::quote;
use qapi::qmp::{self, MigrationCapability, MigrationCapabilityStatus};

use super::{Done, machine_of};
use crate::host::Host;
use crate::level::{Level, StartedOn};
use crate::migrate::{incoming, outcome};
use crate::stack::Stack;
use crate::steps::text_of;
use crate::{Limit, Stop, Symptom};

/// How often the host is asked whether the file is complete, ten times a second of its own clock.
const ATTEMPTS: u32 = 600;

/// The file that a level is saved in, on the host of the level. Every QEMU from 5.2 on writes to a command and reads from one; few
/// write to a file themselves.
struct Saved {
    file: String,
}

impl Saved {
    /// The address that QEMU writes to, in QMP's form. QEMU kills the shell that it starts as soon as it has written everything, and
    /// so a process of the shell writes the file, and then how that went.
    fn written_to(&self) -> String {
        let file = quote(&self.file);
        format!("exec:(cat >{file} 2>{file}.error; echo $? >{file}.status); :")
    }

    /// The address that QEMU reads from.
    fn read_from(&self) -> String {
        format!("exec:cat {}", quote(&self.file))
    }

    /// The script that waits for the end of the writing. It prints how large the file is, or why it is not complete. If there was no room
    /// even for that, another attempt says so.
    fn await_script(&self) -> String {
        let file = quote(&self.file);
        format!(
            "n=0; until [ -e {file}.status ] || [ $n -ge {ATTEMPTS} ]; do sleep 0.1; n=$((n + 1)); done
             if [ ! -e {file}.status ]; then echo 'no process has written it'; exit 1; fi
             s=; read -r s <{file}.status
             if [ \"$s\" = 0 ]; then wc -c <{file}; exit; fi
             cat {file}.error; [ -n \"$s\" ] || {{ echo 1 >{file}.status; }} 2>&1; exit 1"
        )
    }

    fn remove_script(&self) -> String {
        let file = quote(&self.file);
        format!("rm -f {file} {file}.error {file}.status")
    }
}

impl Stack<'_> {
    /// Saves `level`, ends its QEMU, and restores it in a new one.
    pub(super) async fn save_and_restore(&mut self, level: LevelNumber) -> Result<Done, Stop> {
        // Its new QEMU would get both sets of channels of that level, and only one of them is in use.
        if let Some(moves) = self.request.plan.second.filter(|second| *second > level) {
            return Err(self
                .harness(format!("{level} can't be saved in a scenario that starts {moves} a second time")));
        }
        let id = machine_of(self, level)?;
        let on = self.host_of(level)?;
        let machine = self.machines.requested(id).map(|requested| requested.machine.clone());
        let machine = machine.ok_or_else(|| self.harness(format!("{level} was not launched")))?;
        let folder = Rc::clone(&on.host).machine_host().map_err(|e| self.harness(e.to_string()))?;
        let saved = Saved { file: folder.path_of(&format!("{id}.saved")) };
        let stopping = Instant::now();
        let continues = self.save_and_continue(machine, &saved, &on).await;
        let stood_still = stopping.elapsed();
        let (bytes, saving) = match continues {
            Ok(continues) => continues,
            Err(stop) => {
                self.remove_after_stop(level, &*on.host, &saved.remove_script()).await;
                return Err(stop);
            }
        };
        self.run_on_host_of(level, &*on.host, &saved.remove_script()).await?;
        let seen = format!(
            "saved {} MiB in {:.1} s, restored by another QEMU after {:.1} s",
            bytes.div_ceil(1 << 20),
            saving.as_secs_f64(),
            stood_still.as_secs_f64()
        );
        Ok(Done { seen, stood_still, booted_again: None })
    }

    /// Saves the level of `machine`, and lets it continue in a new QEMU. Returns the size of the file, and how long saving took.
    async fn save_and_continue(
        &mut self,
        machine: Machine,
        saved: &Saved,
        on: &StartedOn,
    ) -> Result<(u64, Duration), Stop> {
        let (level, stopping) = (machine.level, Instant::now());
        let bytes = self.save_to(level, saved, &*on.host).await?;
        let saving = stopping.elapsed();
        self.end_qemu(level).await?;
        let monitor = self.restore_from(machine, saved, on).await?;
        self.during(level, async { Ok(monitor.resume().await?) }).await?;
        Ok((bytes, saving))
    }

    /// Removes files from the host of a level in whose life an event has failed. If the host does not answer soon, they are left: with
    /// the host, they end anyway, and only what stopped the stack counts.
    pub(super) async fn remove_after_stop(&mut self, level: LevelNumber, host: &dyn Host, script: &str) {
        let moment = self.limits.run.moment();
        let limit = Limit { silence: moment, total: moment };
        let about = level.below().unwrap_or(level);
        let _ = self.during_within(limit, about.into(), host.run(script)).await;
    }

    /// Stops `level` and writes it to a file; returns the size of that.
    async fn save_to(&mut self, level: LevelNumber, saved: &Saved, host: &dyn Host) -> Result<u64, Stop> {
        let qemu = self.wire(level, ChannelKind::Qmp)?;
        self.run_on_host_of(level, host, &saved.remove_script()).await?;
        self.watch.expect_stop(level);
        self.during(level, async { Ok(qemu.execute(qmp::stop {}).await?) }).await?;
        self.check_that_it_is_paused(level, &qemu).await?;
        self.send(level, &qemu, saved.written_to()).await?;
        let came = self.during(level, async { Ok(outcome(&qemu).await?) }).await?;
        let (completed, said) = self.run_on_host_of(level, host, &saved.await_script()).await?;
        let size = if completed { said.trim().parse().ok() } else { None };
        if let (Some(size), true) = (size, came["status"] == "completed") {
            return Ok(size);
        }
        let status = came["status"].as_str().unwrap_or("in no known state").to_owned();
        // What the host can't write is not the fault of the level.
        if !completed {
            let status = format!("{status}, because its file could not be written");
            return Err(
                Stop::stack(self.stage, Symptom::MigrationFailed { level, status, said }).not_its_fault()
            );
        }
        let said = came["error-desc"].as_str().unwrap_or_default().to_owned();
        Err(Stop::stack(self.stage, Symptom::MigrationFailed { level, status, said }))
    }

    /// Ends the QEMU of a level that was saved or has powered off, and waits until it is gone: it holds the channels.
    pub(super) async fn end_qemu(&mut self, level: LevelNumber) -> Result<(), Stop> {
        let id = machine_of(self, level)?;
        let qemu = self.wire(level, ChannelKind::Qmp)?;
        self.watch.ignore_monitor(level);
        qemu.suspend_after("quit");
        self.watch.suspend_from(level, id.second);
        match self.machines.take(id) {
            Some(process) => self.wait_for_end(level, &*process).await,
            None => Ok(()),
        }
    }

    /// Starts a new QEMU for `machine` and has it read the file.
    async fn restore_from(
        &mut self,
        machine: Machine,
        saved: &Saved,
        on: &StartedOn,
    ) -> Result<Monitor, Stop> {
        let level = machine.level;
        let machine = Machine { incoming: true, ..machine };
        let monitor = self.start_again(&machine, on).await?;
        self.query_machine(&machine, &monitor).await?;
        let wire = monitor.wire();
        // The QEMU that has ended may have reported the end of its writing.
        self.watch.expect_stop(level);
        let events = MigrationCapabilityStatus { capability: MigrationCapability::events, state: true };
        let loading = async {
            wire.execute(qmp::migrate_set_capabilities { capabilities: vec![events] }).await?;
            Ok(wire.execute(incoming(saved.read_from())).await?)
        };
        self.during(level, loading).await?;
        match self.migrated(level).await?.as_str() {
            "completed" => Ok(monitor),
            status => {
                let (status, said) = (status.to_owned(), "the new QEMU does not load it".to_owned());
                Err(Stop::stack(self.stage, Symptom::MigrationFailed { level, status, said }))
            }
        }
    }

    /// The host of a level's machine.
    pub(super) fn host_of(&self, level: LevelNumber) -> Result<StartedOn, Stop> {
        if self.request.outermost() == Some(level) {
            return Ok(StartedOn { host: Rc::clone(&self.request.this_machine), second: false });
        }
        let host = level.below().and_then(|below| self.levels.hosting(below));
        host.map(Level::to_start_on).ok_or_else(|| self.harness(format!("{level} has no host")))
    }

    /// Runs a script on the host of `level`; returns whether it succeeded, and what it printed.
    pub(super) async fn run_on_host_of(
        &mut self,
        level: LevelNumber,
        host: &dyn Host,
        script: &str,
    ) -> Result<(bool, String), Stop> {
        let about = level.below().unwrap_or(level);
        let total = self.limits.of(about).total;
        let ended =
            self.during_within(Limit { silence: total, total }, about.into(), host.run(script)).await?;
        Ok((ended.status == Some(0), text_of(&ended)))
    }
}
