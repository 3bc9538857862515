//! Migrates a level to another QEMU on the same host, with everything that runs in it.

use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName, Instance, Machine, Monitor, OtherQemu};
use nestmatrix_vmm::wire::{CallError, Notice, Wire};
use qapi::qmp;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::boot_level::Started;
use super::innermost_machine::Fitted;
use super::lifecycle::machine_of;
use super::machines::{MachineId, Requested};
use super::stack::Stack;
use super::{Metal, Stop, Symptom};

/// Pause between two questions for the progress of a migration. QEMU reports its end by an event only if a capability was set
/// before, and the figures must be queried anyway.
const POLL: Duration = Duration::from_millis(250);

/// More bytes per second than any machine can send. Otherwise QEMU sends 128 MiB per second at most (migration/options.c), by a clock
/// that emulated metal makes several times slower.
const UNLIMITED: u64 = 1 << 40;

/// How often a second QEMU that has not taken a machine is asked whether it has ended.
const ENDED_POLLS: usize = 20;

/// Which QEMU a level is migrated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MigrateTo {
    /// Another process of the one that runs it.
    Same,
    /// The one of another version.
    Other,
    /// The one that its host has.
    Own,
}

/// A migration that is about to begin.
struct Prepared {
    machine: Machine,
    monitor: Monitor,
    notices: mpsc::Receiver<Notice>,
    /// The address on which the second QEMU listens, in QMP's form.
    uri: String,
}

impl Stack<'_> {
    /// Migrates `level` to another QEMU, which uses the set of channels that the present one does not use; returns a description of
    /// that.
    pub(super) async fn migrate(&mut self, level: LevelNumber, to: MigrateTo) -> Result<String, Stop> {
        let from = machine_of(self, level)?;
        let source = self.wire(level, ChannelKind::Qmp)?;
        let old_version = self.version_of(level.into(), &source).await?;
        let prepared = self.prepare_migration(level, from, to).await;
        let Prepared { machine, monitor, notices, uri } =
            prepared.map_err(|stop| stop.before("the migration"))?;
        let new_version = self.version_of((&machine).into(), monitor.wire()).await?;
        if (old_version == new_version) != (to == MigrateTo::Same) {
            let why = format!("{level} runs on QEMU {old_version}, and the next one is QEMU {new_version}");
            return Err(self.harness(why).before("the migration"));
        }
        let to = MachineId::from(&machine);
        self.watch.begin_move(level);
        self.send(level, &source, uri).await?;
        let came = self.during(level, async { Ok(outcome(&source).await?) }).await?;
        if came["status"] != "completed" {
            return Err(self.migration_failed(to, &came).await?);
        }
        // A source has done its part even if the target can't read what it gets.
        let taken = self.during(to, async { Ok(outcome(monitor.wire()).await?) }).await?;
        if taken["status"] != "completed" {
            return Err(self.migration_failed(to, &taken).await?);
        }
        self.switch(&machine, from, notices, &source).await?;
        self.during(level, async { Ok(monitor.resume().await?) }).await?;
        let answers = self.check_that_it_answers(level).await?;
        let ram = &came["ram"];
        let seen = format!(
            "from QEMU {old_version} to QEMU {new_version}, completed in {} ms, down for {} ms, {} KiB in {} rounds",
            came["total-time"],
            came["downtime"],
            ram["transferred"].as_u64().unwrap_or(0) / 1024,
            ram["dirty-sync-count"],
        );
        Ok([Some(seen), answers].into_iter().flatten().collect::<Vec<_>>().join("; "))
    }

    /// Begins to send a machine to `uri`.
    pub(super) async fn send(&mut self, level: LevelNumber, source: &Wire, uri: String) -> Result<(), Stop> {
        let unlimited = self.request.plan.metal == Metal::Emulated;
        let sending = async {
            if unlimited {
                source.call("migrate-set-parameters", json!({ "max-bandwidth": UNLIMITED })).await?;
            }
            source.execute(outgoing(uri)).await
        };
        self.during(level, async { Ok(sending.await?) }).await?;
        Ok(())
    }

    /// The version that a QEMU reports.
    async fn version_of(&mut self, id: MachineId, qemu: &Wire) -> Result<String, Stop> {
        let asked = self.during(id, async { Ok(Monitor::reattach(qemu.clone()).await?) }).await?;
        Ok(asked.version().to_owned())
    }

    /// The QEMU that runs a level after a migration, if that is not the one that its host has.
    fn next_qemu(
        &self,
        level: LevelNumber,
        from: MachineId,
        to: MigrateTo,
    ) -> Result<Option<OtherQemu>, Stop> {
        let present = self.machines.requested(from).and_then(|running| running.machine.other_qemu.clone());
        match (to, present) {
            (MigrateTo::Same, present) => Ok(present),
            (MigrateTo::Other, None) => {
                let other = self.request.plan.other_qemu(level);
                let other = other.ok_or_else(|| self.harness(format!("{level} has no other QEMU")))?;
                Ok(Some(other))
            }
            (MigrateTo::Own, Some(_)) => Ok(None),
            (MigrateTo::Other, Some(_)) => {
                Err(self
                    .harness(format!("{level} runs on the other QEMU already: use `migrate-back` before")))
            }
            (MigrateTo::Own, None) => {
                let why = format!("{level} runs on the QEMU of its host: use `migrate-to-other` before");
                Err(self.harness(why))
            }
        }
    }

    /// Makes another QEMU listen.
    async fn prepare_migration(
        &mut self,
        level: LevelNumber,
        from: MachineId,
        to: MigrateTo,
    ) -> Result<Prepared, Stop> {
        let other_qemu = self.next_qemu(level, from, to)?;
        let (index, on) = self.place_of_second(level)?;
        let nonce = self.request.plan.nonce.clone();
        let instance = Instance::Incoming { second: !from.second };
        let Fitted { machine, why_default_firmware, .. } =
            self.fitted_machine(index, instance, nonce, &on.host).await?;
        let mut machine = Machine { other_qemu, ..machine };
        // A reset after the migration boots with what this QEMU was given.
        self.bring_programs(&mut machine, &on.host).await?;
        let cpus = self.machines.requested(from).map(|running| running.machine.hardware.cpus);
        if cpus.is_some_and(|cpus| cpus != machine.hardware.cpus) {
            return Err(
                self.harness(format!("{level} got another CPU, which a second machine does not have"))
            );
        }
        let modules = self.machines.requested(from).map(|running| running.machine.hardware.memory_modules);
        if modules.is_some_and(|modules| modules != machine.hardware.memory_modules) {
            return Err(self.harness(format!("{level} got memory, which a second machine does not have")));
        }
        self.machines.request(Requested { machine: machine.clone(), why_default_firmware });
        let id = MachineId::from(&machine);
        self.channels.clear(&machine.channels());
        let Started { monitor, .. } = self.start(&machine, &on).await?;
        let (monitor, notices) = monitor.ok_or_else(|| self.harness("the machine has no monitor"))?;
        self.query_machine(&machine, &monitor).await?;
        let listening = async {
            let socket = Rc::clone(&on.host).machine_host()?.path_of(&format!("{id}.migration"));
            let uri = format!("unix:{socket}");
            monitor.wire().execute(incoming(uri.clone())).await?;
            Ok(uri)
        };
        let uri = self.during(id, listening).await?;
        Ok(Prepared { machine, monitor, notices, uri })
    }

    /// The stop of a migration that one of both QEMUs reports as failed. If the second one has ended, it says why better than the
    /// first one, which only lost its connection.
    async fn migration_failed(&mut self, to: MachineId, came: &Value) -> Result<Stop, Stop> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let status = text(&came["status"]).unwrap_or_else(|| "in no known state".to_owned());
        let qemu = self.machines.take(to);
        let polling = async {
            for _ in 0..ENDED_POLLS {
                match &qemu {
                    Some(qemu) => match qemu.ended().await? {
                        Some(end) => return Ok(Some(end)),
                        None => tokio::time::sleep(POLL).await,
                    },
                    None => break,
                }
            }
            Ok(None)
        };
        let end = self.during(to.level.below().unwrap_or(to.level), polling).await;
        // If it runs, it must end with the stack.
        qemu.into_iter().for_each(|qemu| self.machines.add(to, qemu));
        let end = end?;
        let of_second = end.as_ref().map(|end| format!("the second QEMU {}", end.describe()));
        let said = text(&came["error-desc"]).into_iter().chain(of_second).collect::<Vec<_>>().join("; ");
        let stop = Stop::stack(self.stage, Symptom::MigrationFailed { level: to.level, status, said });
        // For example the kernel, if memory runs out.
        let is_taken_away = end.is_some_and(|end| end.ended.is_from_outside());
        Ok(if is_taken_away { stop.not_its_fault() } else { stop })
    }

    /// Another QEMU now runs the level. Its channels and those of the levels inside it go through that QEMU, and the one that ran it
    /// ends.
    async fn switch(
        &mut self,
        machine: &Machine,
        from: MachineId,
        notices: mpsc::Receiver<Notice>,
        source: &Wire,
    ) -> Result<(), Stop> {
        let level = machine.level;
        let second = machine.instance.is_second();
        let abort = self.watch.end_move(level, second);
        self.watch.listen_to(level.into(), notices);
        let left = self.machines.take_migrated(from);
        if let Some(abort) = abort {
            return Err(self.explain(abort, false).await);
        }
        self.channels.move_to(level, second);
        let is_own_monitor =
            |channel: &ChannelName| channel.level == level && channel.kind == ChannelKind::Qmp;
        for channel in machine.channels().into_iter().filter(|channel| !is_own_monitor(channel)) {
            let old = ChannelName { second: from.second, ..channel };
            match channel.kind {
                // The streams of levels that are not up yet are still waiting, in both sets.
                _ if !self.machines.runs(channel.level) => {}
                ChannelKind::Console => self.move_console([old, channel]).await?,
                ChannelKind::Qmp | ChannelKind::Agent => {
                    let stream = self.channels.take(channel).map_err(|why| self.harness(why))?;
                    let wire = self.wire(channel.level, channel.kind)?;
                    let left = wire.move_to(stream).await;
                    self.channels.add(left.map(|stream| (old, stream)));
                }
            }
        }
        self.quit(level, source).await?;
        let stream = source.release().await;
        self.channels.add(stream.map(|stream| (from.channel(ChannelKind::Qmp), stream)));
        match left {
            Some(process) => self.wait_for_end(level, &*process).await,
            None => Ok(()),
        }
    }

    /// Ends a QEMU that runs nothing any more.
    pub(super) async fn quit(&mut self, level: LevelNumber, qemu: &Wire) -> Result<(), Stop> {
        let quit = async {
            match qemu.execute(qmp::quit {}).await {
                Ok(_) | Err(CallError::Closed { .. }) => Ok(()),
                Err(e) => Err(e.into()),
            }
        };
        self.during(level, quit).await
    }

    /// A migrated level must show that it lives, by its agent if it has one.
    async fn check_that_it_answers(&mut self, level: LevelNumber) -> Result<Option<String>, Stop> {
        let Some(host) = self.levels.host(level) else { return Ok(None) };
        let facts = self.ask_facts(level, &*host, String::new()).await?;
        Ok(Some(format!("{level} answers, kernel {}", facts.kernel)))
    }
}

/// The command that migrates a machine to `uri`.
pub(super) fn outgoing(uri: String) -> qmp::migrate {
    qmp::migrate { uri: Some(uri), channels: None, detach: None, resume: None }
}

/// The command that has a QEMU take a machine from `uri`.
pub(super) fn incoming(uri: String) -> qmp::migrate_incoming {
    qmp::migrate_incoming { uri: Some(uri), channels: None, exit_on_error: None }
}

/// Waits for the end of a migration; returns the answer of `query-migrate`.
pub(super) async fn outcome(source: &Wire) -> Result<Value, CallError> {
    loop {
        // As data: qapi requires figures that older QEMUs do not report.
        let info = source.call("query-migrate", Value::Null).await?;
        if matches!(info["status"].as_str(), Some("completed" | "failed" | "cancelled") | None) {
            return Ok(info);
        }
        tokio::time::sleep(POLL).await;
    }
}
