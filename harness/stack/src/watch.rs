//! Watches the levels of a stack while something is awaited: reads their consoles and monitors as they speak, and ends the
//! wait at once when a level will not go on.
//!
//! It is also the one owner of time: whatever is awaited sets no limit of its own, so that one clock decides, which leaves
//! out the time in which the stack's emulator waited for a CPU of this machine.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::{Answers, GuestFailure};
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName};
use nestmatrix_vmm::wire::{Event, Notice, Wire};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::console_view::ConsoleView;
use super::{Cancellation, Limit};
use crate::host::{HostError, RunDelay, RunningQemu};

/// What is heard of a level besides its console.
#[derive(Debug)]
pub(super) enum Sign {
    /// Something that its QEMU says unasked.
    Monitor(Notice),
    /// Something that its agent says unasked: only that it is gone.
    Agent(Notice),
}

/// Why a wait ended without what was awaited.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A level's kernel says that it does not continue.
    Failed { level: LevelNumber, failure: GuestFailure, said: String },
    /// A level's QEMU says that its guest panicked.
    Panicked { level: LevelNumber },
    /// A level shut down that was needed.
    ShutDown { level: LevelNumber, reason: String },
    /// A level's QEMU stopped it.
    Halted { level: LevelNumber },
    /// The channel to a level's monitor or agent closed.
    Closed { level: LevelNumber, channel: String, why: String },
    /// No sign of life for so long.
    Silent { level: LevelNumber, silence: Duration },
    /// Signs of life, but no end for so long.
    Endless { level: LevelNumber, total: Duration },
    /// A host did not do as asked.
    Host { level: LevelNumber, error: HostError },
    /// Somebody asked the harness to end.
    Interrupted,
}

/// Signs that may wait to be taken in. A sender that exceeds this blocks, so that no guest fills the harness's memory.
const QUEUED_SIGNS: usize = 256;
/// Signs that are taken in before anything else gets its turn.
const BURST: usize = 64;
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
    console: ConsoleView,
    /// What is shown by the console of another machine of the level, which runs beside that of the stack.
    beside: Option<ConsoleView>,
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

impl LevelState {
    fn consoles(&self) -> impl Iterator<Item = &ConsoleView> {
        [&self.console].into_iter().chain(&self.beside)
    }
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
    signs: mpsc::Receiver<(LevelNumber, Sign)>,
    sender: mpsc::Sender<(LevelNumber, Sign)>,
    /// Rung by consoles.
    console_changed: Rc<Notify>,
    levels: BTreeMap<LevelNumber, LevelState>,
    /// The level that was migrated: from it on inwards, channels are those of its second machine.
    moved: Option<LevelNumber>,
    cancellation: Cancellation,
    last_sign: Instant,
    /// The emulator that all levels run in, if it is known how long it had to wait for this machine.
    metal: Option<RunDelay>,
}

impl Watch {
    pub(super) fn new(cancellation: Cancellation) -> Self {
        let (sender, signs) = mpsc::channel(QUEUED_SIGNS);
        Self {
            signs,
            sender,
            console_changed: Rc::new(Notify::new()),
            levels: BTreeMap::new(),
            moved: None,
            cancellation,
            last_sign: Instant::now(),
            metal: None,
        }
    }

    /// From now on, time in which the outermost machine's emulator waits for a CPU of this machine counts as no level's
    /// silence or slowness: other processes are at fault for it.
    pub(super) fn discount_waits_of(&mut self, metal: RunDelay) {
        self.metal = Some(metal);
    }

    /// A clock that leaves out the time in which the emulator waits for a CPU.
    pub(super) fn stopwatch(&self) -> Stopwatch {
        Stopwatch { began: Instant::now(), waited_before: self.waited() }
    }

    /// What the user asks the harness to end by.
    pub(super) fn cancellation(&self) -> Cancellation {
        self.cancellation.clone()
    }

    fn waited(&self) -> Duration {
        self.metal.as_ref().map(RunDelay::so_far).unwrap_or_default()
    }

    /// Begins to watch `level`; `may_shut_down` if powering off is what it is meant to do.
    pub(super) fn add(&mut self, level: LevelNumber, may_shut_down: bool) {
        // What runs beside it may have been there before.
        let before = self.levels.remove(&level).filter(|state| state.beside.is_some());
        let (beside, wires) = before.map(|state| (state.beside, state.wires)).unwrap_or_default();
        let state = LevelState {
            console: ConsoleView::new(Rc::clone(&self.console_changed)),
            beside,
            shut_down: None,
            may_shut_down,
            wires,
            moving: false,
            pausing: false,
            migrated: None,
            resets: 0,
            monitor: None,
        };
        self.levels.insert(level, state);
    }

    /// Begins to watch another machine of `level`, which runs beside that of the stack, before that one does.
    pub(super) fn add_beside(&mut self, level: LevelNumber) {
        self.add(level, false);
        self.show_beside(level);
    }

    /// From now on, what the console of another machine of `level` shows is kept apart.
    pub(super) fn show_beside(&mut self, level: LevelNumber) {
        let view = ConsoleView::new(Rc::clone(&self.console_changed));
        if let Some(state) = self.levels.get_mut(&level) {
            state.beside = Some(view);
        }
    }

    /// A queue whose messages come in as signs of `level`.
    pub(super) fn inlet<T: 'static>(
        &self,
        level: LevelNumber,
        sign: impl Fn(T) -> Sign + 'static,
    ) -> mpsc::Sender<T> {
        let (sender, receiver) = mpsc::channel(QUEUED_SIGNS);
        self.forward(level, receiver, sign);
        sender
    }

    fn forward<T: 'static>(
        &self,
        level: LevelNumber,
        mut messages: mpsc::Receiver<T>,
        sign: impl Fn(T) -> Sign + 'static,
    ) -> AbortHandle {
        let all = self.sender.clone();
        let task = tokio::task::spawn_local(async move {
            while let Some(message) = messages.recv().await {
                if all.send((level, sign(message))).await.is_err() {
                    return;
                }
            }
        });
        task.abort_handle()
    }

    /// Lets what still comes out of `notices` in as signs of `level`.
    pub(super) fn take_over(&mut self, level: LevelNumber, notices: mpsc::Receiver<Notice>) {
        let monitor = self.forward(level, notices, Sign::Monitor);
        if let Some(state) = self.levels.get_mut(&level) {
            state.monitor = Some(monitor);
        }
    }

    /// Likewise for the monitor of a machine that runs beside that of `level`.
    pub(super) fn listen_beside(&self, level: LevelNumber, notices: mpsc::Receiver<Notice>) {
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
            let taken_in = self.handle_event(of, sign);
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
        let of_kind = wires.iter().filter(|(channel, _)| channel.kind == kind);
        of_kind.min_by_key(|(channel, _)| channel.second).map(|(_, wire)| wire)
    }

    /// The conversation on this very channel.
    pub(super) fn wire_on(&self, channel: ChannelName) -> Option<&Wire> {
        let wires = &self.levels.get(&channel.level)?.wires;
        wires.iter().find(|(of, _)| *of == channel).map(|(_, wire)| wire)
    }

    /// What the console of `level` has shown.
    pub(super) fn console(&self, level: LevelNumber) -> Option<&ConsoleView> {
        self.levels.get(&level).map(|state| &state.console)
    }

    /// What the console on this very channel has shown.
    pub(super) fn console_on(&self, channel: ChannelName) -> Option<&ConsoleView> {
        let state = self.levels.get(&channel.level)?;
        Some(state.beside.as_ref().filter(|_| channel.second).unwrap_or(&state.console))
    }

    /// Whether another machine of `level` runs beside that of the stack.
    pub(super) fn has_beside(&self, level: LevelNumber) -> bool {
        self.levels.get(&level).is_some_and(|state| state.beside.is_some())
    }

    /// Whether the shell on the console of `level` takes commands, as what [`Watch::until`] waits for.
    pub(super) fn shell_is_ready(&self, level: LevelNumber) -> Option<()> {
        self.console(level)?.answers().now(Answers::ready).then_some(())
    }

    /// How often `level` was reset.
    pub(super) fn resets(&self, level: LevelNumber) -> usize {
        self.levels.get(&level).map_or(0, |state| state.resets)
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
        let changed = Rc::clone(&self.console_changed);
        loop {
            if let Some(trouble) = self.new_failure() {
                return trouble;
            }
            let mut cancellation = self.cancellation.clone();
            tokio::select! {
                biased;
                () = cancellation.requested() => return Trouble::Interrupted,
                Some((of, sign)) = self.signs.recv() => {
                    if let Some(trouble) = self.handle_event(of, sign) {
                        return trouble;
                    }
                }
                () = changed.notified() => {}
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
        let mut time = Elapsed::new(self, limit);
        let mut cpu = None;
        let mut looks = tokio::time::interval(time.look());
        looks.tick().await;
        let changed = Rc::clone(&self.console_changed);
        let mut cancellation = self.cancellation.clone();
        let mut burst = BURST;
        loop {
            // What a kernel said before it was done counts, however late it is read.
            if let Some(trouble) = self.new_failure() {
                return Err(trouble);
            }
            if let Some(value) = done(self) {
                return Ok(value);
            }
            // Limits come before what levels say, so that one that never stops talking is held to them, too.
            tokio::select! {
                biased;
                () = cancellation.requested() => return Err(Trouble::Interrupted),
                _ = looks.tick() => {
                    self.hear(level);
                    if let Some(qemu) = qemu && self.last_sign.elapsed() >= time.look() {
                        self.look(level, qemu, limit, &mut cpu).await?;
                    }
                    time.check(self, level)?;
                }
                Some((of, sign)) = self.signs.recv(), if burst > 0 => {
                    burst -= 1;
                    self.last_sign = Instant::now();
                    if let Some(trouble) = self.handle_event(of, sign) {
                        // The end of its report may still be on its way, on another channel than its shutdown.
                        if matches!(trouble, Trouble::ShutDown { level, .. } if self.may_shut_down(level)) {
                            let meanwhile = self.settle().await;
                            if self.has_reported(of) {
                                match meanwhile {
                                    Some(other) => return Err(other),
                                    None => continue,
                                }
                            }
                        }
                        return Err(trouble);
                    }
                }
                () = changed.notified(), if burst > 0 => burst -= 1,
                result = &mut work => return result.map_err(|error| Trouble::Host { level, error }),
                () = std::future::ready(()), if burst == 0 => burst = BURST,
            }
        }
    }

    /// Counts what is known of the levels as signs of life: the lines of all consoles, and the answers of `level` itself,
    /// which is asked whether a command in it has ended as long as one runs.
    fn hear(&mut self, level: LevelNumber) {
        let consoles = self.levels.values().flat_map(LevelState::consoles);
        let lines = consoles.filter_map(ConsoleView::last_line_at);
        let wires = self.levels.get(&level).into_iter().flat_map(|state| &state.wires);
        let answers = wires.filter_map(|(_, wire)| wire.last_received());
        self.last_sign = lines.chain(answers).fold(self.last_sign, Instant::max);
    }

    fn may_shut_down(&self, level: LevelNumber) -> bool {
        self.levels.get(&level).is_some_and(|state| state.may_shut_down)
    }

    /// Whether the report of `level` is complete.
    fn has_reported(&self, level: LevelNumber) -> bool {
        self.console(level).is_some_and(|console| console.report(|report| report.complete().is_some()))
    }

    /// A level whose kernel has newly said that it does not continue.
    pub(super) fn new_failure(&self) -> Option<Trouble> {
        self.levels.iter().find_map(|(level, state)| {
            let (failure, said) = state.consoles().find_map(ConsoleView::new_failure)?;
            Some(Trouble::Failed { level: *level, failure, said })
        })
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
        let mut cancellation = self.cancellation.clone();
        let looked = tokio::select! {
            looked = looked => looked,
            () = cancellation.requested() => return Err(Trouble::Interrupted),
        };
        match looked {
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
    /// Gives the first further trouble.
    pub(super) async fn settle(&mut self) -> Option<Trouble> {
        let mut further = None;
        let changed = Rc::clone(&self.console_changed);
        let end = Instant::now() + AFTERMATH;
        while Instant::now() < end {
            let quiet = QUIET.min(end - Instant::now());
            tokio::select! {
                biased;
                () = tokio::time::sleep(quiet) => return further,
                Some((of, sign)) = self.signs.recv() => {
                    let trouble = self.handle_event(of, sign);
                    further = further.or(trouble);
                }
                () = changed.notified() => {}
            }
        }
        further
    }

    fn handle_event(&mut self, level: LevelNumber, sign: Sign) -> Option<Trouble> {
        match sign {
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

    fn event(&mut self, level: LevelNumber, event: &Event) -> Option<Trouble> {
        let state = self.levels.get_mut(&level)?;
        match event.name.as_str() {
            "SHUTDOWN" => {
                let reason = event.data["reason"].as_str().unwrap_or("no reason given").to_owned();
                state.shut_down = Some(reason.clone());
                let reported = state.console.report(|report| report.complete().is_some());
                (!(state.may_shut_down && reported)).then_some(Trouble::ShutDown { level, reason })
            }
            "GUEST_PANICKED" => Some(Trouble::Panicked { level }),
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

/// A clock that leaves out the time in which the emulator of a stack waits for a CPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch {
    began: Instant,
    waited_before: Duration,
}

impl Stopwatch {
    /// The time since it began.
    pub(super) fn elapsed(&self, watch: &Watch) -> Duration {
        self.began.elapsed().saturating_sub(watch.waited().saturating_sub(self.waited_before))
    }
}

/// The time that a wait has taken, against its limits.
struct Elapsed {
    limit: Limit,
    total: Stopwatch,
    /// The last sign that was known at the last look, and how long the emulator had waited for a CPU by about then.
    heard: (Instant, Duration),
}

impl Elapsed {
    fn new(watch: &mut Watch, limit: Limit) -> Self {
        let total = watch.stopwatch();
        watch.last_sign = total.began;
        Self { limit, total, heard: (total.began, total.waited_before) }
    }

    /// The longest pause between two looks.
    fn look(&self) -> Duration {
        LOOK.min(self.limit.silence / 2)
    }

    /// Ends the wait if a limit is reached.
    fn check(&mut self, watch: &Watch, level: LevelNumber) -> Result<(), Trouble> {
        let waited = watch.waited();
        let total = self.total.elapsed(watch);
        if total >= self.limit.total {
            return Err(Trouble::Endless { level, total });
        }
        if watch.last_sign > self.heard.0 {
            self.heard = (watch.last_sign, waited);
        }
        let silence = watch.last_sign.elapsed().saturating_sub(waited.saturating_sub(self.heard.1));
        if silence >= self.limit.silence {
            return Err(Trouble::Silent { level, silence });
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
