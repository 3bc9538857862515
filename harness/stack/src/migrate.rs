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
    /// The innermost level's counter, if it is up.
    before: Option<u64>,
}

impl Stack<'_> {
    /// Migrates `level`, and checks that everything in it lives on; returns a description of that.
    pub(super) async fn migrate(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let prepared = self.prepare_migration(level).await;
        let Prepared { machine, monitor, notices, uri, before } =
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
        let lives = self.check_that_it_lives_on(level, before).await?;
        let ram = &came["ram"];
        Ok(format!(
            "completed in {} ms, down for {} ms, {} KiB in {} rounds; {lives}",
            came["total-time"],
            came["downtime"],
            ram["transferred"].as_u64().unwrap_or(0) / 1024,
            ram["dirty-sync-count"],
        ))
    }

    /// Checks that the innermost level, if it is up, lives before the migration, and makes the second QEMU listen.
    async fn prepare_migration(&mut self, level: LevelNumber) -> Result<Prepared, Stop> {
        let before = self.heartbeat_of_innermost().await?;
        let (index, on) = self.place_of_second(level)?;
        let nonce = self.request.plan.nonce.clone();
        let Fitted { machine, why_default_firmware, .. } =
            self.fitted_machine(index, Instance::Incoming, nonce, &on.host).await?;
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
        Ok(Prepared { machine, monitor, notices, uri, before })
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
        self.machines.forget_first(level);
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
        let quit = async {
            match source.execute(qmp::quit {}).await {
                Ok(_) | Err(CallError::Closed { .. }) => Ok(()),
                Err(e) => Err(e.into()),
            }
        };
        self.during(level, quit).await
    }

    /// Everything in a migrated level must show that it lives: the level by its agent, and the innermost level, if it is up, by
    /// a fresh nonce and an increasing counter.
    async fn check_that_it_lives_on(
        &mut self,
        level: LevelNumber,
        before: Option<u64>,
    ) -> Result<String, Stop> {
        let mut answers = Vec::new();
        if let Some(host) = self.levels.host(level) {
            let facts = self.ask_facts(level, &*host, String::new()).await?;
            answers.push(format!("{level} answers, kernel {}", facts.kernel));
        }
        if let Some((before, innermost)) = before.zip(self.levels.innermost().cloned()) {
            let level = innermost.id.level;
            let after = self.heartbeat(&innermost).await?;
            let later = self.next_beat(&innermost, after).await?;
            if after < before || later <= after {
                let seen = format!("{level}'s counter stands still: {before}, {after}, {later}");
                return Err(Stop::stack(self.stage, Symptom::StandsStill { level, seen }));
            }
            answers.push(format!("{level} answers, its counter was {before}, is {after} and then {later}"));
        }
        Ok(answers.join("; "))
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
async fn outcome(source: &Wire) -> Result<Value, CallError> {
    loop {
        // As data: qapi requires figures that older QEMUs do not report.
        let info = source.call("query-migrate", Value::Null).await?;
        if matches!(info["status"].as_str(), Some("completed" | "failed" | "cancelled") | None) {
            return Ok(info);
        }
        tokio::time::sleep(POLL).await;
    }
}
