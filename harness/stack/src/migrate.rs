//! Migrates a level to a second QEMU on the same host, with everything that runs in it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName, Instance, Machine, Monitor};
use nestmatrix_vmm::wire::{CallError, Notice, Wire};
use qapi::qmp;
use serde_json::Value;
use tokio::sync::mpsc;

use super::boot_level::Started;
use super::innermost_machine::Fitted;
use super::machines::{MachineId, Requested};
use super::stack::Stack;
use super::{Stop, Symptom};

/// Pause between two questions for the progress of a migration. QEMU reports its end by an event only if a capability was set
/// before, and the figures must be queried anyway.
const POLL: Duration = Duration::from_millis(250);

/// A migration that is about to begin.
struct Prepared {
    machine: Machine,
    monitor: Monitor,
    notices: mpsc::Receiver<Notice>,
    /// The address on which the second QEMU listens, in QMP's form.
    uri: String,
}

impl Stack<'_> {
    /// Migrates `level`; returns a description of that.
    pub(super) async fn migrate(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let prepared = self.prepare_migration(level).await;
        let Prepared { machine, monitor, notices, uri } =
            prepared.map_err(|stop| stop.before("the migration"))?;
        let source = self.wire(level, ChannelKind::Qmp)?;
        self.watch.begin_move(level);
        self.during(level, async { Ok(source.execute(outgoing(uri)).await?) }).await?;
        let came = self.during(level, async { Ok(outcome(&source).await?) }).await?;
        if came["status"] != "completed" {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let said = text(&came["error-desc"]).unwrap_or_default();
            let status = text(&came["status"]).unwrap_or_else(|| "in no known state".to_owned());
            return Err(Stop::stack(self.stage, Symptom::MigrationFailed { level, status, said }));
        }
        self.switch(&machine, notices, &source).await?;
        self.during(level, async { Ok(monitor.resume().await?) }).await?;
        let answers = self.check_that_it_answers(level).await?;
        let ram = &came["ram"];
        let seen = format!(
            "completed in {} ms, down for {} ms, {} KiB in {} rounds",
            came["total-time"],
            came["downtime"],
            ram["transferred"].as_u64().unwrap_or(0) / 1024,
            ram["dirty-sync-count"],
        );
        Ok([Some(seen), answers].into_iter().flatten().collect::<Vec<_>>().join("; "))
    }

    /// Makes the second QEMU listen.
    async fn prepare_migration(&mut self, level: LevelNumber) -> Result<Prepared, Stop> {
        let (index, on) = self.place_of_second(level)?;
        let nonce = self.request.plan.nonce.clone();
        let Fitted { machine, why_default_firmware, .. } =
            self.fitted_machine(index, Instance::Incoming, nonce, &on.host).await?;
        let cpus = self.machines.requested(level.into()).map(|first| first.machine.hardware.cpus);
        if cpus.is_some_and(|cpus| cpus != machine.hardware.cpus) {
            return Err(
                self.harness(format!("{level} got another CPU, which a second machine does not have"))
            );
        }
        let modules =
            self.machines.requested(level.into()).map(|first| first.machine.hardware.memory_modules);
        if modules.is_some_and(|modules| modules != machine.hardware.memory_modules) {
            return Err(self.harness(format!("{level} got memory, which a second machine does not have")));
        }
        self.machines.request(Requested { machine: machine.clone(), why_default_firmware });
        let id = MachineId::from(&machine);
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

    /// The second QEMU now runs the level. Its channels and those of the levels inside it go through that QEMU, and the first
    /// one ends.
    async fn switch(
        &mut self,
        machine: &Machine,
        notices: mpsc::Receiver<Notice>,
        source: &Wire,
    ) -> Result<(), Stop> {
        let level = machine.level;
        let abort = self.watch.end_move(level);
        self.watch.listen_to(level.into(), notices);
        let first = self.machines.take(level.into());
        if let Some(abort) = abort {
            return Err(self.explain(abort, false).await);
        }
        self.channels.move_console(level.into()).await;
        let own_agent = machine.agent.then(|| machine.channel(ChannelKind::Agent));
        let passed: BTreeSet<ChannelName> = machine.ports.iter().map(|port| port.channel).collect();
        for channel in own_agent.into_iter().chain(passed) {
            match channel.kind {
                // The streams of levels that are not up yet are still waiting.
                _ if !self.machines.runs(channel.level) => {
                    let stream = self.channels.take(channel).map_err(|why| self.harness(why))?;
                    self.channels.add([(ChannelName { second: false, ..channel }, stream)]);
                }
                ChannelKind::Console => {
                    let id = MachineId { level: channel.level, second: channel.second };
                    self.open_console(id, &channel.level.to_string(), false)?;
                    self.channels.move_console(channel.level.into()).await;
                }
                ChannelKind::Qmp | ChannelKind::Agent => {
                    let stream = self.channels.take(channel).map_err(|why| self.harness(why))?;
                    self.wire(channel.level, channel.kind)?.move_to(stream);
                }
            }
        }
        self.quit(level, source).await?;
        match first {
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
