//! Compares the time that a wait has taken with its limits.

use std::time::Duration;

use nestmatrix_model::LevelNumber;
use tokio::time::Instant;

use super::{Abort, Watch};
use crate::Limit;

/// Longest pause between two polls of a level without a sign of life.
const POLL: Duration = Duration::from_secs(5);

/// A clock that omits the time in which the emulator of a stack waits for a CPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    began: Instant,
    waited_before: Duration,
}

impl Stopwatch {
    /// A clock that begins now.
    pub(super) fn start(watch: &Watch) -> Self {
        Self { began: Instant::now(), waited_before: watch.waited() }
    }

    /// The time since it began.
    pub(crate) fn elapsed(&self, watch: &Watch) -> Duration {
        self.began.elapsed().saturating_sub(watch.waited().saturating_sub(self.waited_before))
    }
}

/// The time that a wait has taken, and its limits.
pub(super) struct Elapsed {
    limit: Limit,
    total: Stopwatch,
    /// The last sign of life at the last poll, and how long the emulator had waited for a CPU at about that time.
    heard: (Instant, Duration),
}

impl Elapsed {
    /// The time of a wait that begins now.
    pub(super) fn start(watch: &mut Watch, limit: Limit) -> Self {
        let total = watch.stopwatch();
        watch.last_sign_of_life = total.began;
        Self { limit, total, heard: (total.began, total.waited_before) }
    }

    /// The longest pause between two polls.
    pub(super) fn poll_interval(&self) -> Duration {
        POLL.min(self.limit.silence / 2)
    }

    /// Ends the wait if a limit is reached.
    pub(super) fn check(&mut self, watch: &Watch, level: LevelNumber) -> Result<(), Abort> {
        let waited = watch.waited();
        let total = self.total.elapsed(watch);
        if total >= self.limit.total {
            return Err(Abort::Endless { level, total });
        }
        if watch.last_sign_of_life > self.heard.0 {
            self.heard = (watch.last_sign_of_life, waited);
        }
        let silence = watch.last_sign_of_life.elapsed().saturating_sub(waited.saturating_sub(self.heard.1));
        if silence >= self.limit.silence {
            return Err(Abort::Silent { level, silence });
        }
        Ok(())
    }
}
