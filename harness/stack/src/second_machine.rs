//! A second machine for a level: one more beside the first, or the one to which the first is migrated.
//!
//! Both are started on the same host as the first, with channels of their own (`docs/architecture.md`).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::Answers;
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName, Instance, Machine, Monitor};
use nestmatrix_vmm::wire::{CallError, Notice, Wire};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::boot::{RunningLevel, Stack};
use super::watch::Watch;
use super::{Measurements, StackPlan, Stop, Symptom};
use crate::host::{BootedLevel, Counters, Facts, Host};

/// Pause between two looks at a migration. QEMU tells its end by an event only where a capability was set before, and the
/// figures have to be asked for all the same.
const LOOK: Duration = Duration::from_millis(250);
/// Pause between two questions to a level that must show that it lives. Its counter goes on five times a second of its own
/// clock, which may be several times slower than the host's.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A migration that is about to begin.
struct Prepared {
    machine: Machine,
    monitor: Monitor,
    notices: mpsc::Receiver<Notice>,
    /// Where the second QEMU listens, as QMP takes it.
    uri: Value,
    /// The innermost level's counter, if it is up.
    before: Option<u64>,
}

/// A machine that runs beside the one of its level, with an innermost level of its own.
pub(super) struct SecondMachine {
    level: LevelNumber,
    monitor: Monitor,
    host: BootedLevel,
    inside: LevelNumber,
    monitor_inside: Monitor,
}

impl Stack<'_> {
    /// Boots one more machine like that of `level` beside it, and an innermost level in that; gives what was seen.
    pub(super) async fn boot_another(&mut self, level: LevelNumber) -> Result<String, Stop> {
        self.on_second = true;
        let seen = self.boot_beside(level).await;
        self.on_second = false;
        seen
    }

    async fn boot_beside(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let (machine, host) = self.second(level, Instance::SecondMachine).await?;
        self.watch.show_beside(level);
        self.note_firmware_beside(&machine);
        self.gathered.second_machine = Some(Box::new(Measurements {
            nonce: self.fresh_nonce()?.replace('-', ""),
            l0_counters_unreadable: self.gathered.l0_counters_unreadable,
            emulator_is_l0: self.gathered.emulator_is_l0,
            ..Measurements::default()
        }));
        let (monitor, notices) = self.start(&machine, &*host).await?.of_qemu(self.stage)?;
        self.watch.listen_beside(level, notices);
        self.query_machine(&machine, &monitor).await?;
        self.during(level, async { Ok(monitor.resume().await?) }).await?;
        let greeted = self.greet(self.second_agent(&machine)?, level).await;
        let agent = greeted.map_err(|stop| self.unless_firmware_failed(level, stop))?;
        let host = BootedLevel::new(level, agent, self.plan.profile.qemu, None);
        let facts = self.during(level, host.facts(self.plan.profile, "")).await?;
        self.check_kernel(level, &facts.kernel)?;
        if !(facts.kvm_device && facts.kvm_module) {
            let (module, loaded) = (self.plan.profile.kvm_module.to_owned(), facts.kvm_module);
            let symptom = Symptom::NoKvm { level, module, loaded, said: facts.kvm_says, second: true };
            return Err(Stop::stack(self.stage, symptom));
        }
        let kernel = facts.kernel.clone();
        self.count_beside(level, facts, |gathered| &mut gathered.counters_before).await?;
        let (inside, monitor_inside) = self.boot_inside(level, &host).await?;
        let facts = self.during(level, host.facts(self.plan.profile, "")).await?;
        self.count_beside(level, facts, |gathered| &mut gathered.counters_after).await?;
        self.beside = Some(SecondMachine { level, monitor, host, inside, monitor_inside });
        Ok(format!("a second {level} is up, kernel {kernel}, and runs an {inside} of its own"))
    }

    /// Boots an innermost level in a machine beside `level`, has it report, and leaves it alive.
    async fn boot_inside(
        &mut self,
        level: LevelNumber,
        host: &BootedLevel,
    ) -> Result<(LevelNumber, Monitor), Stop> {
        let inner =
            level.next().and_then(|inner| self.plan.levels.iter().position(|plan| plan.level == inner));
        let index = inner.ok_or_else(|| Stop::harness(self.stage, format!("{level} runs no other level")))?;
        let inside = self.plan.levels[index].level;
        let fitted = self.fitted_plan(index, host).await?;
        let nonce =
            self.gathered.second_machine.as_ref().map(|beside| beside.nonce.clone()).unwrap_or_default();
        // Inside the second machine its channels are called as in the first one, and from here they are the second ones.
        let machine = StackPlan { nonce, ..fitted }.machine(index, Instance::First);
        self.note_firmware_beside(&machine);
        let started = self.during(level, host.start(&machine)).await?;
        self.live.push(RunningLevel { level: inside, instance: Instance::SecondMachine, qemu: started.qemu });
        let machine = Machine { instance: Instance::SecondMachine, ..machine };
        self.watch.add_beside(inside);
        let (monitor, notices) = self.open_channels(&machine).await?.of_qemu(self.stage)?;
        self.watch.listen_beside(inside, notices);
        self.query_machine(&machine, &monitor).await?;
        self.during(inside, async { Ok(monitor.resume().await?) }).await?;
        let console = machine.channel(ChannelKind::Console);
        let complete = |watch: &Watch| watch.console_on(console)?.report(|report| report.complete().cloned());
        let report = self.until(inside, complete).await;
        let report = report.map_err(|stop| self.unless_firmware_failed(inside, stop))?;
        let image = &self.plan.levels[index].kernel_release;
        if report.kernel != *image {
            let why = format!("the second {inside} runs kernel {:?}, its image has {image:?}", report.kernel);
            return Err(Stop::harness(self.stage, why));
        }
        if let Some(beside) = &mut self.gathered.second_machine {
            beside.report = Some(report);
        }
        let ready = |watch: &Watch| watch.console_on(console)?.answers().now(Answers::ready).then_some(());
        self.until(inside, ready).await?;
        Ok((inside, monitor))
    }

    /// Notes what KVM has counted so far in the machine beside `level`, which says so in `facts`, and in the levels further out.
    async fn count_beside(
        &mut self,
        level: LevelNumber,
        facts: Facts,
        into: impl Fn(&mut Measurements) -> &mut BTreeMap<LevelNumber, Counters>,
    ) -> Result<(), Stop> {
        let mut counted = vec![(level, facts.counters)];
        let outer: Vec<_> = self.hosts.iter().filter(|(of, _)| *of < level).cloned().collect();
        for (of, outer) in outer {
            counted.push((of, self.ask(of, &*outer).await?.counters));
        }
        if let Some(beside) = &mut self.gathered.second_machine {
            into(beside).extend(counted);
        }
        Ok(())
    }

    /// A machine that was booted beside a level must run still when the stack has done its work, and so must the innermost level in
    /// it: both of these live at once.
    pub(super) async fn see_that_the_second_runs(&mut self) -> Result<(), Stop> {
        let Some(beside) = self.beside.take() else { return Ok(()) };
        let SecondMachine { level, inside, host, .. } = &beside;
        for (level, monitor) in [(*level, &beside.monitor), (*inside, &beside.monitor_inside)] {
            let state = self.during(level, async { Ok(monitor.run_state().await?) }).await?;
            if state != "running" {
                let seen = format!("the second {level} does not run any more ({state})");
                return Err(Stop::stack(self.stage, Symptom::StandsStill { level, seen }));
            }
        }
        self.during(*level, host.facts(self.plan.profile, "")).await?;
        // Each has moved on between the two times that it was asked, and the other lived in between.
        let first = self.heartbeat().await?;
        self.on_second = true;
        let lives = self.second_lives().await;
        self.on_second = false;
        lives?;
        match first {
            Some(before) => self.moves_on(before).await,
            None => Ok(()),
        }
    }

    /// Sees that the innermost level beside that of the stack moves on.
    async fn second_lives(&mut self) -> Result<(), Stop> {
        match self.heartbeat().await? {
            Some(before) => self.moves_on(before).await,
            None => Ok(()),
        }
    }

    /// Sees that the innermost level's counter moves on from `before`.
    async fn moves_on(&mut self, before: u64) -> Result<(), Stop> {
        let innermost = self.plan.innermost();
        let later = self.next_beat(before).await?;
        if later <= before {
            let second = if self.on_second { "the second " } else { "" };
            let seen = format!("the counter of {second}{innermost} stands still: {before}, {later}");
            return Err(Stop::stack(self.stage, Symptom::StandsStill { level: innermost, seen }));
        }
        Ok(())
    }

    /// The innermost level's counter once it is no longer `before`, or what it is when patience ends.
    async fn next_beat(&mut self, before: u64) -> Result<u64, Stop> {
        let (patience, asking) = (self.limits.of(self.plan.innermost()).silence / 2, self.watch.stopwatch());
        let mut later = self.heartbeat().await?.unwrap_or_default();
        while later == before && asking.elapsed(&self.watch) < patience {
            tokio::time::sleep(HEARTBEAT).await;
            later = self.heartbeat().await?.unwrap_or_default();
        }
        Ok(later)
    }

    /// A number that was never used before.
    fn fresh_nonce(&self) -> Result<String, Stop> {
        let nonce = std::fs::read_to_string("/proc/sys/kernel/random/uuid");
        let nonce = nonce.map_err(|e| Stop::harness(self.stage, format!("failed to read a nonce: {e}")))?;
        Ok(nonce.trim().to_owned())
    }

    /// Migrates `level` to a second QEMU on the host that it runs on, with all that runs in it, and sees that all of it
    /// lives on; gives what was seen.
    pub(super) async fn migrate(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let prepared = self.prepare(level).await;
        self.on_second = false;
        let Prepared { machine, monitor, notices, uri, before } =
            prepared.map_err(|stop| stop.before("the migration"))?;
        let source = self.wire(level, ChannelKind::Qmp)?;
        self.watch.begin_move(level);
        self.during(level, async { Ok(source.call("migrate", uri).await?) }).await?;
        let came = self.during(level, async { Ok(outcome(&source).await?) }).await?;
        if came["status"] != "completed" {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let said = text(&came["error-desc"]).unwrap_or_default();
            let status = text(&came["status"]).unwrap_or_else(|| "in no known state".to_owned());
            return Err(Stop::stack(self.stage, Symptom::MigrationFailed { level, status, said }));
        }
        self.switch(&machine, notices, &source).await?;
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

    /// Sees that the innermost level, if it is up, lives before the migration, and has the second QEMU listen.
    async fn prepare(&mut self, level: LevelNumber) -> Result<Prepared, Stop> {
        let before = self.heartbeat().await?;
        let (machine, host) = self.second(level, Instance::Incoming).await?;
        self.on_second = true;
        let (monitor, notices) = self.start(&machine, &*host).await?.of_qemu(self.stage)?;
        self.query_machine(&machine, &monitor).await?;
        let uri =
            json!({"uri": format!("unix:{}", host.socket_path(&format!("{}.migration", machine.label())))});
        let listening = async { Ok(monitor.wire().call("migrate-incoming", uri.clone()).await?) };
        self.during(level, listening).await?;
        Ok(Prepared { machine, monitor, notices, uri, before })
    }

    /// The second machine of a level as it is to be started, and the host on which the first one runs.
    async fn second(
        &mut self,
        level: LevelNumber,
        instance: Instance,
    ) -> Result<(Machine, Rc<dyn Host>), Stop> {
        let missing = || Stop::harness(self.stage, format!("{level} has no host"));
        let index = self.plan.levels.iter().position(|plan| plan.level == level).ok_or_else(missing)?;
        let host = level.below().and_then(|below| self.host(below)).ok_or_else(missing)?;
        let fitted = self.fitted_plan(index, &*host).await?;
        Ok((fitted.machine(index, instance), host))
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
        notices: mpsc::Receiver<Notice>,
        source: &Wire,
    ) -> Result<(), Stop> {
        let level = machine.level;
        let trouble = self.watch.end_move(level);
        self.watch.take_over(level, notices);
        self.live.retain(|live| live.level != level || live.instance.is_second());
        if let Some(trouble) = trouble {
            return Err(self.explain(trouble).await);
        }
        let own_agent = machine.agent.then(|| machine.channel(ChannelKind::Agent));
        let passed: BTreeSet<ChannelName> = machine.ports.iter().map(|port| port.channel).collect();
        for channel in own_agent.into_iter().chain(passed) {
            match channel.kind {
                // Levels that are not up yet have their streams still waiting.
                _ if !self.live.iter().any(|live| live.level == channel.level) => {
                    let stream = self.stream(channel)?;
                    self.streams.insert(ChannelName { second: false, ..channel }, stream);
                }
                ChannelKind::Console => self.open_console(channel, &channel.level.to_string(), false)?,
                ChannelKind::Qmp | ChannelKind::Agent => {
                    let stream = self.stream(channel)?;
                    self.wire(channel.level, channel.kind)?.move_to(stream);
                }
            }
        }
        let quit = async {
            match source.call("quit", Value::Null).await {
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
            let innermost = self.plan.innermost();
            let after = self.heartbeat().await?.unwrap_or_default();
            let later = self.next_beat(after).await?;
            if after < before || later <= after {
                let seen = format!("{innermost}'s counter stands still: {before}, {after}, {later}");
                return Err(Stop::stack(self.stage, Symptom::StandsStill { level: innermost, seen }));
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
        let nonce = self.fresh_nonce()?;
        // Whoever counts may be just about to write; a line without its end is no answer yet.
        let question = format!("until read -r count </count; do :; done; echo {} $count", nonce.trim());
        let answer = self.run(innermost, &question).await?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        // The kernel may have said something in between.
        let count = text.lines().find_map(|line| line.strip_prefix(nonce.trim())?.trim().parse().ok());
        match count {
            Some(count) => Ok(Some(count)),
            None => {
                let seen = format!("{innermost} was asked for its nonce and counter, it answered {text:?}");
                Err(Stop::stack(self.stage, Symptom::StandsStill { level: innermost, seen }))
            }
        }
    }
}

/// Waits for the end of a migration; gives what `query-migrate` says of it.
async fn outcome(source: &Wire) -> Result<Value, CallError> {
    loop {
        let info = source.call("query-migrate", Value::Null).await?;
        if matches!(info["status"].as_str(), Some("completed" | "failed" | "cancelled") | None) {
            return Ok(info);
        }
        tokio::time::sleep(LOOK).await;
    }
}
