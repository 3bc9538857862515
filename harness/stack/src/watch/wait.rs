//! The wait itself: until the awaited event, until a level can't continue, until a limit is reached, or until the user asks to
//! end.

use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use tokio::time::Instant;

use super::level_state::LevelState;
use super::time::Elapsed;
use super::{Abort, Watch};
use crate::Limit;
use crate::console_view::ConsoleView;
use crate::host::{HostError, RunningProcess};

/// Events that are handled before anything else gets its turn.
const BURST: usize = 64;
/// The share of its time for which a guest must use a CPU, so that this counts as a sign of life. An idle L2 on emulated metal
/// uses a tenth for its timers, and more on a busy machine; one that boots uses nearly all of it.
const BUSY: f64 = 0.4;
/// How long events are still handled after the end of a wait: a panic's message comes after the event that it causes.
const SETTLES_WITHIN: Duration = Duration::from_millis(1500);
/// After a pause of this length between two events, all of them have come.
const QUIET: Duration = Duration::from_millis(300);
/// How often the tasks that are ready run before a pause counts: an event passes from the reader of a channel to its own task, and
/// then here.
const READERS_RUN: usize = 4;

/// The CPU time of a level without a sign of life.
#[derive(Debug, Clone, Copy)]
struct CpuReading {
    when: Instant,
    /// CPU time that its QEMU has used.
    used: Duration,
    /// How long the outermost machine's emulator had waited for a CPU.
    waited: Duration,
}

impl Watch {
    /// Waits for `work`, which is about `level`, run by `qemu`.
    pub(crate) async fn during<T>(
        &mut self,
        level: LevelNumber,
        limit: Limit,
        qemu: Option<&dyn RunningProcess>,
        work: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, Abort> {
        tokio::pin!(work);
        self.wait(level, limit, qemu, work, |_| None).await
    }

    /// Waits until `done` returns something; it is called after every event.
    pub(crate) async fn until<T>(
        &mut self,
        level: LevelNumber,
        limit: Limit,
        qemu: &dyn RunningProcess,
        done: impl Fn(&Self) -> Option<T>,
    ) -> Result<T, Abort> {
        self.wait(level, limit, Some(qemu), std::future::pending(), done).await
    }

    /// Handles events, for however long, until one would end a wait.
    pub(crate) async fn next_abort(&mut self) -> Abort {
        let changed = Rc::clone(&self.console_changed);
        loop {
            if let Some(abort) = self.new_failure() {
                return abort;
            }
            let mut cancellation = self.cancellation.clone();
            tokio::select! {
                biased;
                () = cancellation.requested() => return Abort::Interrupted,
                Some((of, event)) = self.events.recv() => {
                    if let Some(abort) = self.handle_event(of, event) {
                        return abort;
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
        qemu: Option<&dyn RunningProcess>,
        work: impl Future<Output = Result<T, HostError>>,
        done: impl Fn(&Self) -> Option<T>,
    ) -> Result<T, Abort> {
        tokio::pin!(work);
        let mut time = Elapsed::start(self, limit);
        let mut cpu = None;
        let mut polls = tokio::time::interval(time.poll_interval());
        polls.tick().await;
        let changed = Rc::clone(&self.console_changed);
        let mut cancellation = self.cancellation.clone();
        let mut burst = BURST;
        loop {
            // A message that a kernel printed before it was done counts, however late it is read.
            if let Some(abort) = self.new_failure() {
                return Err(abort);
            }
            if let Some(value) = done(self) {
                return Ok(value);
            }
            // Limits come before messages, so that they also hold for a level that never stops printing.
            tokio::select! {
                biased;
                () = cancellation.requested() => return Err(Abort::Interrupted),
                _ = polls.tick() => {
                    self.note_signs_of_life(level);
                    if let Some(qemu) = qemu && self.last_sign_of_life.elapsed() >= time.poll_interval() {
                        self.inspect(level, qemu, limit, &mut cpu).await?;
                    }
                    time.check(self, level)?;
                }
                Some((of, event)) = self.events.recv(), if burst > 0 => {
                    burst -= 1;
                    self.last_sign_of_life = Instant::now();
                    if let Some(abort) = self.handle_event(of, event) {
                        self.unless_reported(of, abort).await?;
                    }
                }
                () = changed.notified(), if burst > 0 => burst -= 1,
                result = &mut work => return result.map_err(|error| Abort::Host { level, error }),
                () = std::future::ready(()), if burst == 0 => burst = BURST,
            }
        }
    }

    /// Ends a wait because of an event of the level `of`, unless the event is the shutdown of a level that has reported. The
    /// end of the report may arrive after the shutdown, since it comes on another channel.
    async fn unless_reported(&mut self, of: LevelNumber, abort: Abort) -> Result<(), Abort> {
        if matches!(abort, Abort::ShutDown { level, .. } if self.may_shut_down(level)) {
            let meanwhile = self.settle().await;
            if self.levels.get(&of).is_some_and(LevelState::has_reported) {
                return meanwhile.map_or(Ok(()), Err);
            }
        }
        Err(abort)
    }

    fn may_shut_down(&self, level: LevelNumber) -> bool {
        self.levels.get(&level).is_some_and(|state| state.may_shut_down)
    }

    /// Counts news about the levels as signs of life: the lines of all consoles, and the answers of `level` itself, which is
    /// polled while a command runs in it.
    fn note_signs_of_life(&mut self, level: LevelNumber) {
        let consoles = self.levels.values().flat_map(LevelState::consoles);
        let lines = consoles.filter_map(ConsoleView::last_line_at);
        let answers = self.wires.last_received(level);
        self.last_sign_of_life = lines.chain(answers).fold(self.last_sign_of_life, Instant::max);
    }

    /// Inspects a silent level: its QEMU may be gone, or its CPU time may be a sign of life.
    async fn inspect(
        &mut self,
        level: LevelNumber,
        qemu: &dyn RunningProcess,
        limit: Limit,
        cpu: &mut Option<CpuReading>,
    ) -> Result<(), Abort> {
        let inspection = tokio::time::timeout(limit.silence / 4, async {
            if qemu.ended().await?.is_some() {
                return Ok(None);
            }
            qemu.cpu_time().await.map(Some)
        });
        let mut cancellation = self.cancellation.clone();
        let inspected = tokio::select! {
            inspected = inspection => inspected,
            () = cancellation.requested() => return Err(Abort::Interrupted),
        };
        match inspected {
            // The host of that QEMU does not answer. This is no sign of life, so it counts as silence.
            Err(_) | Ok(Err(_)) => Ok(()),
            Ok(Ok(None)) => {
                Err(Abort::Closed { level, channel: "QEMU".into(), why: "its process has ended".into() })
            }
            Ok(Ok(Some(used))) => {
                let now = Instant::now();
                let waited = self.waited();
                if let Some(before) = cpu.replace(CpuReading { when: now, used, waited }) {
                    let had = (now - before.when).saturating_sub(waited.saturating_sub(before.waited));
                    let share = used.saturating_sub(before.used).as_secs_f64() / had.as_secs_f64().max(0.001);
                    if share >= BUSY {
                        self.last_sign_of_life = now;
                    }
                }
                Ok(())
            }
        }
    }

    /// Handles events that come shortly after the end of a wait, so that the cause is known and not only its consequence.
    /// Returns the first of them that would end a wait, too.
    pub(crate) async fn settle(&mut self) -> Option<Abort> {
        let mut further = None;
        let changed = Rc::clone(&self.console_changed);
        let end = Instant::now() + SETTLES_WITHIN;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            tokio::select! {
                biased;
                () = tokio::time::sleep(QUIET.min(left)) => {
                    // On a busy machine, this timer and the readers of the channels wake up at once. What was sent before counts.
                    for _ in 0..READERS_RUN {
                        tokio::task::yield_now().await;
                    }
                    let mut missed = false;
                    while let Ok((of, event)) = self.events.try_recv() {
                        let abort = self.handle_event(of, event);
                        further = further.or(abort);
                        missed = true;
                    }
                    if !missed || left.is_zero() {
                        return further;
                    }
                }
                Some((of, event)) = self.events.recv() => {
                    let abort = self.handle_event(of, event);
                    further = further.or(abort);
                }
                () = changed.notified() => {}
            }
        }
    }
}
