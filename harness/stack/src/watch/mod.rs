//! Watches the levels of a stack during a wait: reads their consoles and monitors, and ends the wait as soon as a level can't
//! continue.
//!
//! Only the watch measures time. The awaited work sets no limits of its own, so that one clock decides. This clock omits the
//! time in which the stack's emulator waited for a CPU of this machine.

mod events;
mod level_state;
mod time;
mod wait;
mod wires;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::Answers;
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName};
use nestmatrix_vmm::wire::{Notice, Wire};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub(super) use events::{Abort, WatchEvent};
pub(super) use time::Stopwatch;

use super::Cancellation;
use super::console_view::ConsoleView;
use super::machines::MachineId;
use crate::host::RunDelay;
use level_state::{Expected, LevelState};
use wires::Wires;

/// Number of events that may wait in the queue. A sender that exceeds this blocks, so that no guest fills the harness's memory.
const QUEUED_EVENTS: usize = 256;

/// Watches every level of one stack.
#[derive(Debug)]
pub(super) struct Watch {
    events: mpsc::Receiver<(LevelNumber, WatchEvent)>,
    sender: mpsc::Sender<(LevelNumber, WatchEvent)>,
    /// Consoles notify it.
    console_changed: Rc<Notify>,
    levels: BTreeMap<LevelNumber, LevelState>,
    wires: Wires,
    cancellation: Cancellation,
    last_sign_of_life: Instant,
    /// The emulator that all levels run in, if its waits for a CPU of this machine are known.
    emulator: Option<RunDelay>,
}

impl Watch {
    pub(super) fn new(cancellation: Cancellation) -> Self {
        let (sender, events) = mpsc::channel(QUEUED_EVENTS);
        Self {
            events,
            sender,
            console_changed: Rc::new(Notify::new()),
            levels: BTreeMap::new(),
            wires: Wires::default(),
            cancellation,
            last_sign_of_life: Instant::now(),
            emulator: None,
        }
    }

    /// From now on, time in which the outermost machine's emulator waits for a CPU of this machine does not count as a level's
    /// silence or slowness: other processes cause it.
    pub(super) fn discount_waits_of(&mut self, emulator: RunDelay) {
        self.emulator = Some(emulator);
    }

    /// A clock that omits the time in which the emulator waits for a CPU.
    pub(super) fn stopwatch(&self) -> Stopwatch {
        Stopwatch::start(self)
    }

    /// The user's request to end the harness.
    pub(super) fn cancellation(&self) -> Cancellation {
        self.cancellation.clone()
    }

    /// How long the emulator has waited for a CPU so far.
    fn waited(&self) -> Duration {
        self.emulator.as_ref().map(RunDelay::so_far).unwrap_or_default()
    }

    /// Begins to watch `level`; `may_shut_down` if it is supposed to power off.
    pub(super) fn add(&mut self, level: LevelNumber, may_shut_down: bool) {
        let mut state = LevelState::new(self.new_console(), may_shut_down);
        // Its second machine may have been watched before.
        state.second_console = self.levels.remove(&level).and_then(|before| before.second_console);
        self.levels.insert(level, state);
    }

    /// Begins to watch the second machine of `level`, which has a separate console. The first one may come later.
    pub(super) fn add_second(&mut self, level: LevelNumber) {
        let (first, second) = (self.new_console(), self.new_console());
        let state = self.levels.entry(level).or_insert_with(|| LevelState::new(first, false));
        state.second_console = Some(second);
    }

    fn new_console(&self) -> ConsoleView {
        ConsoleView::new(Rc::clone(&self.console_changed))
    }

    /// A queue whose messages become events of `level`.
    pub(super) fn inlet<T: 'static>(
        &self,
        level: LevelNumber,
        event: impl Fn(T) -> WatchEvent + 'static,
    ) -> mpsc::Sender<T> {
        let (sender, receiver) = mpsc::channel(QUEUED_EVENTS);
        self.forward(level, receiver, event);
        sender
    }

    fn forward<T: 'static>(
        &self,
        level: LevelNumber,
        mut messages: mpsc::Receiver<T>,
        event: impl Fn(T) -> WatchEvent + 'static,
    ) -> AbortHandle {
        let all = self.sender.clone();
        let task = tokio::task::spawn_local(async move {
            while let Some(message) = messages.recv().await {
                if all.send((level, event(message))).await.is_err() {
                    return;
                }
            }
        });
        task.abort_handle()
    }

    /// Turns the messages of a machine's monitor into events of its level.
    pub(super) fn listen_to(&mut self, id: MachineId, notices: mpsc::Receiver<Notice>) {
        let monitor = self.forward(id.level, notices, WatchEvent::Monitor);
        if let Some(state) = self.levels.get_mut(&id.level).filter(|_| !id.second) {
            state.monitor = Some(monitor);
        }
    }

    /// From now on, `level` is being migrated.
    pub(super) fn begin_move(&mut self, level: LevelNumber) {
        if let Some(state) = self.levels.get_mut(&level) {
            state.moving = true;
        }
    }

    /// From now on until it runs again, `level` is stopped on purpose.
    pub(super) fn expect_stop(&mut self, level: LevelNumber) {
        if let Some(state) = self.levels.get_mut(&level) {
            (state.moving, state.pausing) = (true, true);
            state.migrated = None;
        }
    }

    /// From now on, the system of `level` may power off.
    pub(super) fn expect_power_off(&mut self, level: LevelNumber) {
        self.expect(level, Some(Expected::PowerOff));
    }

    /// From now on, the kernel of `level` may panic.
    pub(super) fn expect_crash(&mut self, level: LevelNumber) {
        self.expect(level, Some(Expected::Crash));
    }

    /// From now on, `level` must run.
    pub(super) fn expect_nothing(&mut self, level: LevelNumber) {
        self.expect(level, None);
    }

    fn expect(&mut self, level: LevelNumber, expected: Option<Expected>) {
        if let Some(state) = self.levels.get_mut(&level) {
            state.expected = expected;
        }
    }

    /// From now on, events of the QEMU that runs `level` are ignored: it is about to end.
    pub(super) fn ignore_monitor(&mut self, level: LevelNumber) {
        if let Some(monitor) = self.levels.get_mut(&level).and_then(|state| state.monitor.take()) {
            monitor.abort();
        }
    }

    /// `level` boots again, on the same console.
    pub(super) fn begin_again(&mut self, level: LevelNumber) {
        if let Some(state) = self.levels.get_mut(&level) {
            state.begin_again();
        }
    }

    /// The peers of the conversations with `level`, with its second machine or its first one, and with the levels inside are about to
    /// end, or to be replaced. Nothing of that ends a conversation until it is resumed.
    pub(super) fn suspend_from(&self, level: LevelNumber, second: bool) {
        for wire in self.wires.from(level, second) {
            wire.suspend();
        }
    }

    /// The status with which its QEMU ended the last migration.
    pub(super) fn migrated(&self, level: LevelNumber) -> Option<&str> {
        self.levels.get(&level)?.migrated.as_deref()
    }

    /// `level` has been migrated: its first QEMU no longer matters, and the level and those inside it use the second set of channels,
    /// or the first one again. Returns the event that would have ended a wait until now, if it was about another level.
    pub(super) fn end_move(&mut self, level: LevelNumber, second: bool) -> Option<Abort> {
        self.ignore_monitor(level);
        // Its earlier messages count as messages of the move.
        let mut abort = None;
        while let Ok((of, event)) = self.events.try_recv() {
            let its_monitor = of == level && matches!(event, WatchEvent::Monitor(_));
            let handled = self.handle_event(of, event);
            abort = abort.or(handled.filter(|_| !its_monitor));
        }
        self.wires.move_to(level, second);
        if let Some(state) = self.levels.get_mut(&level) {
            state.moving = false;
        }
        abort
    }

    /// Names a conversation with a machine, so that it can be ended when the port that carries it closes.
    pub(super) fn name_wire(&mut self, channel: ChannelName, wire: Wire) {
        self.wires.add(channel, wire);
    }

    /// The conversation of this kind with `level`.
    pub(super) fn wire(&self, level: LevelNumber, kind: ChannelKind) -> Option<&Wire> {
        self.wires.of_level(level, kind)
    }

    /// The conversation on exactly this channel.
    pub(super) fn wire_on(&self, channel: ChannelName) -> Option<&Wire> {
        self.wires.on(channel)
    }

    /// What the console of a machine has shown. After a migration there is one console again.
    pub(super) fn console(&self, id: impl Into<MachineId>) -> Option<&ConsoleView> {
        let id = id.into();
        let state = self.levels.get(&id.level)?;
        Some(state.second_console.as_ref().filter(|_| id.second).unwrap_or(&state.console))
    }

    /// Whether the console of a machine has shown nothing yet.
    pub(super) fn shows_nothing(&self, id: MachineId) -> bool {
        self.console(id).is_none_or(|console| console.last_line().is_none())
    }

    /// Whether the shell on the console of a machine takes commands, as a condition for [`Watch::until`].
    pub(super) fn shell_is_ready(&self, id: MachineId) -> Option<()> {
        self.console(id)?.answers().now(Answers::ready).then_some(())
    }

    /// Whether `level` has shut down.
    pub(super) fn has_shut_down(&self, level: LevelNumber) -> bool {
        self.levels.get(&level).is_some_and(|state| state.shut_down.is_some())
    }

    /// Why `level` has shut down, if it has.
    pub(super) fn shut_down(&self, level: LevelNumber) -> Option<&str> {
        self.levels.get(&level)?.shut_down.as_deref()
    }

    /// What shows that the kernel of `level` has panicked, if it has: the kernel's own words, otherwise QEMU's event.
    pub(super) fn crash(&self, level: LevelNumber) -> Option<String> {
        let state = self.levels.get(&level)?;
        let of_kernel = state.console.failure().map(|(failure, said)| failure.describe(&said));
        of_kernel.or_else(|| state.panicked.then(|| "GUEST_PANICKED".to_owned()))
    }

    /// Why the QEMU of `level` could not read or write a disk, if it reported that.
    pub(super) fn disk_error(&self, level: LevelNumber) -> Option<&str> {
        self.levels.get(&level)?.disk_error.as_deref()
    }

    /// How often `level` was reset.
    pub(super) fn resets(&self, level: LevelNumber) -> usize {
        self.levels.get(&level).map_or(0, |state| state.resets)
    }

    /// How often `level` has reset itself.
    pub(super) fn own_resets(&self, level: LevelNumber) -> usize {
        self.levels.get(&level).map_or(0, |state| state.own_resets)
    }

    /// A level whose kernel has just reported that it does not continue.
    pub(super) fn new_failure(&self) -> Option<Abort> {
        let all = self.levels.iter().filter(|(_, state)| state.expected != Some(Expected::Crash));
        all.into_iter().find_map(|(level, state)| {
            let (failure, said) = state.consoles().find_map(ConsoleView::new_failure)?;
            Some(Abort::Failed { level: *level, failure, said })
        })
    }
}

#[cfg(test)]
mod tests;
