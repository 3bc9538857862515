//! Watches the levels of a stack while something is awaited: reads their consoles and monitors as they speak, and ends the
//! wait at once when a level will not go on.
//!
//! Every sign of every level comes through one queue and is put in order here; nothing else looks at them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::guest::{SharedAnswers, symptom_in};
use crate::host::{HostError, RunningQemu, Waits};
use crate::qemu::{ChannelKind, ChannelName};
use crate::scenario::LevelNumber;
use crate::wire::{Event, Notice, Wire};

use super::report::ReportReader;
use super::{Cancellation, Limit};

/// What a level lets be seen from outside.
#[derive(Debug)]
pub(super) enum Sign {
    /// A line of its console.
    Line(String),
    /// Something that its QEMU says unasked.
    Monitor(Notice),
    /// Something that its agent says unasked: only that it is gone.
    Agent(Notice),
}

/// Why a wait ended without what was awaited.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A console says that its level will not go on.
    Symptom { level: LevelNumber, symptom: String },
    /// A level shut down that was needed.
    ShutDown { level: LevelNumber, reason: String },
    /// A level's QEMU stopped it.
    Halted { level: LevelNumber },
    /// The channel to a level's monitor or agent closed.
    Closed { level: LevelNumber, channel: String, why: String },
    /// No sign of life.
    Silent { level: LevelNumber, silence: Duration },
    /// Signs of life, but no end.
    Endless { level: LevelNumber, total: Duration },
    /// A host did not do as asked.
    Host { level: LevelNumber, error: HostError },
    /// Somebody asked the harness to end.
    Interrupted,
}

/// Lines of a console that are kept for a symptom's sake.
const KEPT_LINES: usize = 20;
/// Longest pause between two looks at a level that gives no sign.
const LOOK: Duration = Duration::from_secs(5);
/// The part of its time for which a guest must use a CPU for that to count as a sign of life. An idle L2 on emulated metal
/// still uses a tenth for its timers, or more where its machine is loaded; one that boots uses nearly all of it.
const BUSY: f64 = 0.4;
/// How long signs are still taken in after trouble: a panic's message comes behind the event that it causes.
const AFTERMATH: Duration = Duration::from_millis(1500);
/// After trouble, how long a pause between two signs means that all have come.
const QUIET: Duration = Duration::from_millis(300);

#[derive(Debug)]
struct LevelState {
    lines: VecDeque<String>,
    symptom: Option<String>,
    report: ReportReader,
    answers: SharedAnswers,
    shut_down: Option<String>,
    /// Its power-off is what it is meant to do.
    may_shut_down: bool,
    /// The conversations with it, those of its second machine behind those of its first.
    wires: Vec<(ChannelName, Wire)>,
    /// It is being migrated, or saved: its QEMU stops it on purpose.
    moving: bool,
    /// It stands still to be saved, until it is let run again.
    pausing: bool,
    /// With which status its QEMU has ended a migration, to another QEMU or to a file or from one.
    migrated: Option<String>,
    /// How often it was reset.
    resets: usize,
    /// What brings in what its monitor says.
    monitor: Option<AbortHandle>,
}

/// What a look at a level that gives no sign has seen.
#[derive(Debug, Clone, Copy)]
struct Looked {
    when: Instant,
    /// CPU time that its QEMU had used.
    used: Duration,
    /// How long the outermost machine's emulator had waited for a CPU.
    waited: Duration,
}

/// Watches every level of one stack.
#[derive(Debug)]
pub(super) struct Watch {
    signs: mpsc::UnboundedReceiver<(LevelNumber, Sign)>,
    sender: mpsc::UnboundedSender<(LevelNumber, Sign)>,
    levels: BTreeMap<LevelNumber, LevelState>,
    /// The level that was migrated: from it on inwards, channels are those of its second machine.
    moved: Option<LevelNumber>,
    cancellation: Cancellation,
    last_sign: Instant,
    /// The emulator that all levels run in, if it is known how long it had to wait for this machine.
    metal: Option<Waits>,
}

impl Watch {
    pub(super) fn new(cancellation: Cancellation) -> Self {
        let (sender, signs) = mpsc::unbounded_channel();
        Self {
            signs,
            sender,
            levels: BTreeMap::new(),
            moved: None,
            cancellation,
            last_sign: Instant::now(),
            metal: None,
        }
    }

    /// From now on, time in which the outermost machine's emulator waits for a CPU of this machine counts for nobody's silence
    /// or slowness: others are at fault for it.
    pub(super) fn forgive_waits_of(&mut self, metal: Waits) {
        self.metal = Some(metal);
    }

    fn waited(&self) -> Duration {
        self.metal.as_ref().map(Waits::so_far).unwrap_or_default()
    }

    /// Begins to watch `level`; `may_shut_down` if powering off is what it is meant to do.
    pub(super) fn add(&mut self, level: LevelNumber, may_shut_down: bool) {
        let state = LevelState {
            lines: VecDeque::new(),
            symptom: None,
            report: ReportReader::default(),
            answers: SharedAnswers::default(),
            shut_down: None,
            may_shut_down,
            wires: Vec::new(),
            moving: false,
            pausing: false,
            migrated: None,
            resets: 0,
            monitor: None,
        };
        self.levels.insert(level, state);
    }

    /// A queue whose messages come in as signs of `level`.
    pub(super) fn inlet<T: 'static>(
        &self,
        level: LevelNumber,
        sign: impl Fn(T) -> Sign + 'static,
    ) -> mpsc::UnboundedSender<T> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.forward(level, receiver, sign);
        sender
    }

    fn forward<T: 'static>(
        &self,
        level: LevelNumber,
        mut messages: mpsc::UnboundedReceiver<T>,
        sign: impl Fn(T) -> Sign + 'static,
    ) -> AbortHandle {
        let all = self.sender.clone();
        let task = tokio::task::spawn_local(async move {
            while let Some(message) = messages.recv().await {
                if all.send((level, sign(message))).is_err() {
                    return;
                }
            }
        });
        task.abort_handle()
    }

    /// Lets what still comes out of `notices` in as signs of `level`.
    pub(super) fn take_over(&mut self, level: LevelNumber, notices: mpsc::UnboundedReceiver<Notice>) {
        let monitor = self.forward(level, notices, Sign::Monitor);
        if let Some(state) = self.levels.get_mut(&level) {
            state.monitor = Some(monitor);
        }
    }

    /// Likewise for the monitor of a machine that runs beside that of `level`.
    pub(super) fn listen_beside(&self, level: LevelNumber, notices: mpsc::UnboundedReceiver<Notice>) {
        self.forward(level, notices, Sign::Monitor);
    }

    /// From now on, `level` is being migrated.
    pub(super) fn begin_move(&mut self, level: LevelNumber) {
        if let Some(state) = self.levels.get_mut(&level) {
            state.moving = true;
        }
    }

    /// From now on until it runs again, `level` stands still so that its state can be saved.
    pub(super) fn pause(&mut self, level: LevelNumber) {
        if let Some(state) = self.levels.get_mut(&level) {
            (state.moving, state.pausing) = (true, true);
            state.migrated = None;
        }
    }

    /// With which status its QEMU has ended the last migration.
    pub(super) fn migrated(&self, level: LevelNumber) -> Option<&str> {
        self.levels.get(&level)?.migrated.as_deref()
    }

    /// `level` has been migrated: what its first machine's QEMU says does not matter any more, and the channels of the
    /// level and of those inside it are those of the second machine. Gives the trouble that there was until now, if it
    /// was another's.
    pub(super) fn end_move(&mut self, level: LevelNumber) -> Option<Trouble> {
        self.moved = Some(level);
        if let Some(monitor) = self.levels.get_mut(&level).and_then(|state| state.monitor.take()) {
            monitor.abort();
        }
        // What it has said before counts as said during the move.
        let mut trouble = None;
        while let Ok((of, sign)) = self.signs.try_recv() {
            let its_monitor = of == level && matches!(sign, Sign::Monitor(_));
            let taken_in = self.take_in(of, sign);
            trouble = trouble.or(taken_in.filter(|_| !its_monitor));
        }
        for (_, state) in self.levels.range_mut(level..) {
            for (channel, _) in &mut state.wires {
                channel.second = true;
            }
        }
        if let Some(state) = self.levels.get_mut(&level) {
            state.moving = false;
            let first = state.wires.iter().position(|(channel, _)| channel.kind == ChannelKind::Qmp);
            first.map(|first| state.wires.remove(first));
        }
        trouble
    }

    /// Names a conversation with `level`, so that it can be ended when the port that carries it closes.
    pub(super) fn name_wire(&mut self, mut channel: ChannelName, wire: Wire) {
        channel.second |= self.moved.is_some_and(|moved| channel.level >= moved);
        if let Some(state) = self.levels.get_mut(&channel.level) {
            state.wires.push((channel, wire));
        }
    }

    /// The conversation of this kind with `level`.
    pub(super) fn wire(&self, level: LevelNumber, kind: ChannelKind) -> Option<&Wire> {
        let wires = &self.levels.get(&level)?.wires;
        wires.iter().find(|(channel, _)| channel.kind == kind).map(|(_, wire)| wire)
    }

    /// The conversation on this very channel.
    pub(super) fn wire_on(&self, channel: ChannelName) -> Option<&Wire> {
        let wires = &self.levels.get(&channel.level)?.wires;
        wires.iter().find(|(of, _)| *of == channel).map(|(_, wire)| wire)
    }

    /// The report of `level`, as far as it has come.
    pub(super) fn report(&self, level: LevelNumber) -> Option<&ReportReader> {
        self.levels.get(&level).map(|state| &state.report)
    }

    /// What the shell on the console of `level` has said.
    pub(super) fn answers(&self, level: LevelNumber) -> Option<&SharedAnswers> {
        self.levels.get(&level).map(|state| &state.answers)
    }

    /// How often `level` was reset.
    pub(super) fn resets(&self, level: LevelNumber) -> usize {
        self.levels.get(&level).map_or(0, |state| state.resets)
    }

    /// What a console of `level` said of its end.
    pub(super) fn symptom(&self, level: LevelNumber) -> Option<&str> {
        self.levels.get(&level)?.symptom.as_deref()
    }

    /// The last line of its console that says something.
    pub(super) fn last_line(&self, level: LevelNumber) -> Option<&str> {
        self.levels.get(&level)?.lines.back().map(String::as_str)
    }

    /// The last lines of its console.
    pub(super) fn last_lines(&self, level: LevelNumber) -> Vec<String> {
        self.levels.get(&level).map(|state| state.lines.iter().cloned().collect()).unwrap_or_default()
    }

    /// Waits for `work`, which is about `level`, run by `qemu`.
    pub(super) async fn during<T>(
        &mut self,
        level: LevelNumber,
        limit: Limit,
        qemu: Option<&dyn RunningQemu>,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, Trouble> {
        tokio::pin!(work);
        self.wait(level, limit, qemu, work, |_| None).await
    }

    /// Waits until `done` gives something; it is asked after every sign.
    pub(super) async fn until<T>(
        &mut self,
        level: LevelNumber,
        limit: Limit,
        qemu: &dyn RunningQemu,
        done: impl Fn(&Self) -> Option<T>,
    ) -> Result<T, Trouble> {
        self.wait(level, limit, Some(qemu), std::future::pending(), done).await
    }

    /// Takes in what comes, for however long, until that is trouble.
    pub(super) async fn trouble(&mut self) -> Trouble {
        loop {
            let mut cancellation = self.cancellation.clone();
            tokio::select! {
                biased;
                () = cancellation.requested() => return Trouble::Interrupted,
                Some((of, sign)) = self.signs.recv() => {
                    if let Some(trouble) = self.take_in(of, sign) {
                        return trouble;
                    }
                }
            }
        }
    }

    async fn wait<T>(
        &mut self,
        level: LevelNumber,
        limit: Limit,
        qemu: Option<&dyn RunningQemu>,
        work: impl Future<Output = Result<T, HostError>>,
        done: impl Fn(&Self) -> Option<T>,
    ) -> Result<T, Trouble> {
        tokio::pin!(work);
        let began = Instant::now();
        self.last_sign = began;
        let waited_before = self.waited();
        // The last sign that was known at the last look, and what had been waited until about then.
        let mut heard = (began, waited_before);
        let mut cpu = None;
        let mut looks = tokio::time::interval(LOOK.min(limit.silence / 2));
        looks.tick().await;
        loop {
            if let Some(value) = done(self) {
                return Ok(value);
            }
            let mut cancellation = self.cancellation.clone();
            tokio::select! {
                biased;
                () = cancellation.requested() => return Err(Trouble::Interrupted),
                Some((of, sign)) = self.signs.recv() => {
                    self.last_sign = Instant::now();
                    if let Some(trouble) = self.take_in(of, sign) {
                        return Err(trouble);
                    }
                }
                result = &mut work => return result.map_err(|error| Trouble::Host { level, error }),
                _ = looks.tick() => {
                    let waited = self.waited();
                    if began.elapsed().saturating_sub(waited.saturating_sub(waited_before)) >= limit.total {
                        return Err(Trouble::Endless { level, total: limit.total });
                    }
                    if let Some(qemu) = qemu && self.last_sign.elapsed() >= LOOK.min(limit.silence / 2) {
                        self.look(level, qemu, limit, &mut cpu).await?;
                    }
                    if self.last_sign > heard.0 {
                        heard = (self.last_sign, waited);
                    }
                    let silence = self.last_sign.elapsed().saturating_sub(waited.saturating_sub(heard.1));
                    if silence >= limit.silence {
                        return Err(Trouble::Silent { level, silence });
                    }
                }
            }
        }
    }

    /// Looks at a silent level: its QEMU may be gone, or the CPU time that it uses may be its sign of life.
    async fn look(
        &mut self,
        level: LevelNumber,
        qemu: &dyn RunningQemu,
        limit: Limit,
        cpu: &mut Option<Looked>,
    ) -> Result<(), Trouble> {
        let looked = tokio::time::timeout(limit.silence / 4, async {
            if qemu.ended().await?.is_some() {
                return Ok(None);
            }
            qemu.cpu_time().await.map(Some)
        });
        match looked.await {
            // The host of that QEMU does not answer: a sign of no life, which the silence counts.
            Err(_) | Ok(Err(_)) => Ok(()),
            Ok(Ok(None)) => {
                Err(Trouble::Closed { level, channel: "QEMU".into(), why: "its process has ended".into() })
            }
            Ok(Ok(Some(used))) => {
                let now = Instant::now();
                let waited = self.waited();
                if let Some(before) = cpu.replace(Looked { when: now, used, waited }) {
                    let had = (now - before.when).saturating_sub(waited.saturating_sub(before.waited));
                    let share = used.saturating_sub(before.used).as_secs_f64() / had.as_secs_f64().max(0.001);
                    if share >= BUSY {
                        self.last_sign = now;
                    }
                }
                Ok(())
            }
        }
    }

    /// Takes in what still comes shortly after trouble, so that the cause is known and not only its consequence.
    pub(super) async fn settle(&mut self) {
        let end = Instant::now() + AFTERMATH;
        while let Ok(Some((of, sign))) =
            tokio::time::timeout(QUIET.min(end - Instant::now()), self.signs.recv()).await
        {
            self.take_in(of, sign);
            if Instant::now() >= end {
                break;
            }
        }
    }

    fn take_in(&mut self, level: LevelNumber, sign: Sign) -> Option<Trouble> {
        match sign {
            Sign::Line(line) => self.line(level, line),
            Sign::Monitor(Notice::Event(event)) => self.event(level, &event),
            Sign::Monitor(Notice::Closed(why)) => {
                Some(Trouble::Closed { level, channel: format!("QMP of {level}'s QEMU"), why })
            }
            Sign::Agent(Notice::Closed(why)) => {
                Some(Trouble::Closed { level, channel: format!("agent of {level}"), why })
            }
            Sign::Monitor(Notice::Greeting(_)) | Sign::Agent(_) => None,
        }
    }

    fn line(&mut self, level: LevelNumber, line: String) -> Option<Trouble> {
        let state = self.levels.get_mut(&level)?;
        state.report.line(&line);
        let symptom = symptom_in(&line);
        if !line.trim().is_empty() {
            state.lines.push_back(line);
            if state.lines.len() > KEPT_LINES {
                state.lines.pop_front();
            }
        }
        let symptom = symptom?;
        // The first symptom is the cause; what follows it are consequences.
        state.symptom.get_or_insert_with(|| symptom.clone());
        Some(Trouble::Symptom { level, symptom })
    }

    fn event(&mut self, level: LevelNumber, event: &Event) -> Option<Trouble> {
        let state = self.levels.get_mut(&level)?;
        match event.name.as_str() {
            "SHUTDOWN" => {
                let reason = event.data["reason"].as_str().unwrap_or("no reason given").to_owned();
                state.shut_down = Some(reason.clone());
                let orderly = state.may_shut_down && state.report.complete().is_some();
                (!orderly).then_some(Trouble::ShutDown { level, reason })
            }
            "GUEST_PANICKED" => {
                let symptom = "the guest panicked (GUEST_PANICKED)".to_owned();
                Some(Trouble::Symptom { level, symptom })
            }
            "MIGRATION" => {
                let status = event.data["status"].as_str().unwrap_or_default();
                if matches!(status, "completed" | "failed" | "cancelled") {
                    state.migrated = Some(status.to_owned());
                }
                None
            }
            // What was paused to be saved goes on.
            "RESUME" if state.pausing => {
                (state.moving, state.pausing) = (false, false);
                None
            }
            "RESET" => {
                state.resets += 1;
                None
            }
            // With -no-shutdown a machine also stops after a SHUTDOWN; else QEMU gave up on it.
            "STOP" if state.shut_down.is_none() && !state.moving => Some(Trouble::Halted { level }),
            "VSERPORT_CHANGE" if event.data["open"] == false => {
                self.port_closed(event.data["id"].as_str().unwrap_or_default());
                None
            }
            _ => None,
        }
    }

    /// A port through which a deeper level's channel passes was closed from inside: that level's QEMU is gone, which
    /// its own channel's socket can't show.
    fn port_closed(&self, id: &str) {
        let wires = self.levels.values().flat_map(|state| &state.wires);
        for (_, wire) in wires.filter(|(channel, _)| channel.to_string() == id) {
            wire.declare_closed(format!("its port {id} was closed"));
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
