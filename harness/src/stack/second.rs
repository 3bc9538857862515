//! A second machine for a level: one more beside the first, or the one to which the first is migrated.
//!
//! Both are started on the same host as the first, with channels of their own (`docs/architecture.md`).

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::host::{BootedLevel, Host, RunningQemu};
use crate::qemu::{ChannelKind, ChannelName, Instance, Machine};
use crate::scenario::LevelNumber;
use crate::wire::{CallError, Notice, Wire};

use super::Stop;
use super::boot::{Live, Stack};

/// Pause between two looks at a migration. QEMU has an event for its end, but it is the last word of a monitor that is
/// otherwise no longer listened to.
const LOOK: Duration = Duration::from_millis(250);
/// Pause between two questions to a level that must show that it lives: its counter goes on five times a second.
const HEARTBEAT: Duration = Duration::from_secs(1);

impl Stack<'_> {
    /// Boots one more machine like that of `level` beside it, and asks it for its KVM; gives what was seen.
    pub(super) async fn boot_another(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let (machine, host) = self.second(level, Instance::Beside)?;
        let (qemu, monitor, notices) = self.start(&machine, &*host).await?;
        // The first machine's monitor stays the one that is listened to for this level's end.
        self.live.push(Live { level, qemu });
        self.interrogate(&machine, &monitor).await?;
        self.during(level, async { Ok(monitor.resume().await?) }).await?;
        let agent = self.greet(self.second_agent(&machine)?, level).await?;
        let another: Rc<dyn Host> = Rc::new(BootedLevel::new(level, agent, self.plan.profile.qemu));
        let facts = self.during(level, another.facts(self.plan.profile, false)).await?;
        self.idle_notices.push(notices);
        if facts.kvm_device {
            Ok(format!("a second {level} is up, kernel {}, with a usable /dev/kvm", facts.kernel))
        } else {
            Err(Stop::stack(self.stage, format!("the second {level} has no usable /dev/kvm")).about(level))
        }
    }

    /// Migrates `level` to a second QEMU on the host that it runs on, with all that runs in it, and sees that all of it
    /// lives on; gives what was seen.
    pub(super) async fn migrate(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let before = self.heartbeat().await?;
        let (machine, host) = self.second(level, Instance::Incoming)?;
        let source = self.wire(level, ChannelKind::Qmp)?;
        let (qemu, monitor, notices) = self.start(&machine, &*host).await?;
        self.interrogate(&machine, &monitor).await?;
        let uri =
            json!({"uri": format!("unix:{}", host.socket_path(&format!("{}.migration", machine.label())))});
        let reply = self.limits.reply(level);
        let listening = async { Ok(monitor.wire().call("migrate-incoming", uri.clone(), reply).await?) };
        self.during(level, listening).await?;
        self.watch.begin_move(level);
        self.during(level, async { Ok(source.call("migrate", uri, reply).await?) }).await?;
        let came = self.during(level, async { Ok(outcome(&source, reply).await?) }).await?;
        if came["status"] != "completed" {
            let why = came["error-desc"].as_str().unwrap_or("QEMU gives no reason");
            let symptom = format!("the migration of {level} is {}: {why}", came["status"]);
            return Err(Stop::stack(self.stage, symptom).about(level));
        }
        self.switch(&machine, qemu, notices, &source).await?;
        self.during(level, async { Ok(monitor.resume().await?) }).await?;
        let lives = self.see_that_it_lives(level, before).await?;
        let ram = &came["ram"];
        Ok(format!(
            "completed in {} ms, down for {} ms, {} KiB in {} rounds; {lives}",
            came["total-time"],
            came["downtime"],
            ram["transferred"].as_u64().unwrap_or(0) / 1024,
            ram["dirty-sync-count"],
        ))
    }

    /// The second machine of a level as it is to be started, and the host on which the first one runs.
    fn second(&self, level: LevelNumber, instance: Instance) -> Result<(Machine, Rc<dyn Host>), Stop> {
        let missing = || Stop::harness(self.stage, format!("{level} has no host"));
        let index = self.plan.levels.iter().position(|plan| plan.level == level).ok_or_else(missing)?;
        let host = level.below().and_then(|below| self.host(below)).ok_or_else(missing)?;
        Ok((self.plan.machine(index, instance), host))
    }

    pub(super) fn wire(&self, level: LevelNumber, kind: ChannelKind) -> Result<Wire, Stop> {
        let wire = self.watch.wire(level, kind).cloned();
        wire.ok_or_else(|| Stop::harness(self.stage, format!("{level} has no channel {kind}")))
    }

    fn second_agent(&self, machine: &Machine) -> Result<Wire, Stop> {
        let wire = self.watch.wire_on(machine.channel(ChannelKind::Agent)).cloned();
        wire.ok_or_else(|| Stop::harness(self.stage, format!("{} has no agent", machine.label())))
    }

    /// The level is now what the second machine's QEMU runs: its channels and those of the levels inside it are
    /// reached through that one, and the first one's QEMU ends.
    async fn switch(
        &mut self,
        machine: &Machine,
        qemu: Box<dyn RunningQemu>,
        notices: mpsc::UnboundedReceiver<Notice>,
        source: &Wire,
    ) -> Result<(), Stop> {
        let level = machine.level;
        self.watch.end_move(level);
        self.watch.take_over(level, notices);
        let own_agent = machine.agent.then(|| machine.channel(ChannelKind::Agent));
        let passed: BTreeSet<ChannelName> = machine.ports.iter().map(|port| port.channel).collect();
        for channel in own_agent.into_iter().chain(passed) {
            match channel.kind {
                // Levels that are not up yet have their streams still waiting.
                _ if !self.live.iter().any(|live| live.level == channel.level) => {
                    let stream = self.stream(channel)?;
                    self.streams.insert(ChannelName { second: false, ..channel }, stream);
                }
                ChannelKind::Console => self.open_console(channel, &channel.level.to_string())?,
                ChannelKind::Qmp | ChannelKind::Agent => {
                    let stream = self.stream(channel)?;
                    self.wire(channel.level, channel.kind)?.move_to(stream);
                }
            }
        }
        if let Some(live) = self.live.iter_mut().find(|live| live.level == level) {
            live.qemu = qemu;
        }
        let reply = self.limits.reply(level);
        let quit = async {
            match source.call("quit", Value::Null, reply).await {
                Ok(_) | Err(CallError::Closed { .. }) => Ok(()),
                Err(e) => Err(e.into()),
            }
        };
        self.during(level, quit).await
    }

    /// What lives in a level that was migrated must show it: the level by its agent, the innermost one, if it is up, by
    /// giving back a fresh nonce and by a counter that goes on.
    async fn see_that_it_lives(&mut self, level: LevelNumber, before: Option<u64>) -> Result<String, Stop> {
        let mut seen = Vec::new();
        if let Some(host) = self.host(level) {
            let facts = self.ask(level, &*host).await?;
            seen.push(format!("{level} answers, kernel {}", facts.kernel));
        }
        if let Some(before) = before {
            let after = self.heartbeat().await?.unwrap_or_default();
            tokio::time::sleep(HEARTBEAT).await;
            let later = self.heartbeat().await?.unwrap_or_default();
            let innermost = self.plan.innermost();
            if after < before || later <= after {
                let symptom = format!("{innermost}'s counter stands still: {before}, {after}, {later}");
                return Err(Stop::stack(self.stage, symptom).about(innermost));
            }
            seen.push(format!("{innermost} answers, its counter was {before}, is {after} and then {later}"));
        }
        Ok(seen.join("; "))
    }

    /// Asks the innermost level, if it is up, for a fresh nonce back and for its counter.
    async fn heartbeat(&mut self) -> Result<Option<u64>, Stop> {
        if self.gathered.report.is_none() {
            return Ok(None);
        }
        let innermost = self.plan.innermost();
        let nonce = format!("{}-{}", self.plan.nonce, self.asked);
        let answer = self.run(innermost, &format!("echo {nonce}; cat /count")).await?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        match lines.as_slice() {
            [echoed, count] if *echoed == nonce && count.parse::<u64>().is_ok() => Ok(count.parse().ok()),
            _ => {
                let symptom =
                    format!("{innermost} was asked for its nonce and counter, it answered {text:?}");
                Err(Stop::stack(self.stage, symptom).about(innermost))
            }
        }
    }
}

/// Waits for the end of a migration; gives what `query-migrate` says of it.
async fn outcome(source: &Wire, reply: Duration) -> Result<Value, CallError> {
    loop {
        let info = source.call("query-migrate", Value::Null, reply).await?;
        if matches!(info["status"].as_str(), Some("completed" | "failed" | "cancelled") | None) {
            return Ok(info);
        }
        tokio::time::sleep(LOOK).await;
    }
}
