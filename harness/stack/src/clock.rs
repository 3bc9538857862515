//! How fast a level's clock runs, compared with this machine's.
//!
//! On emulated metal, clocks of levels may be several times slower than this machine's (`docs/performance.md`): a command that
//! waits for a second of its level then takes several of this machine's.

use std::collections::BTreeMap;
use std::time::Instant;

use nestmatrix_model::LevelNumber;

/// A reading of a level's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockReading {
    /// When, by this machine's clock.
    pub(super) at: Instant,
    /// Seconds since the level booted, by its own.
    pub(super) uptime: f64,
}

/// The shortest time between two readings that shows how fast a clock runs, in seconds.
const SHORTEST: f64 = 1.0;

impl ClockReading {
    /// How many times slower than this machine's the clock has run until it showed `uptime` at `now`.
    fn slowdown(self, now: Instant, uptime: f64) -> Option<f64> {
        let here = now.saturating_duration_since(self.at).as_secs_f64();
        let there = uptime - self.uptime;
        // A clock that was reset, by a reboot or a restore, shows nothing.
        (here >= SHORTEST && there > 0.0).then(|| here / there)
    }
}

/// The first readings of the clocks of a stack's levels.
#[derive(Debug, Default)]
pub(super) struct Clocks(BTreeMap<LevelNumber, ClockReading>);

impl Clocks {
    /// Notes a reading of a level's clock; nothing if the level has none.
    pub(super) fn first_reading(&mut self, level: LevelNumber, reading: Option<ClockReading>) {
        match reading {
            Some(reading) => self.0.insert(level, reading),
            None => self.0.remove(&level),
        };
    }

    /// How many times slower than this machine's the clock of `level` has run from its first reading until `uptime`, which is
    /// now.
    pub(super) fn slowdown(&self, level: LevelNumber, uptime: f64) -> Option<f64> {
        self.0.get(&level)?.slowdown(Instant::now(), uptime)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::slower(40, 15.0, Some(8.0))]
    #[case::as_fast(10, 20.0, Some(1.0))]
    #[case::too_soon(0, 10.5, None)]
    #[case::reset(40, 3.0, None)]
    fn a_clock_is_held_against_this_machines(
        #[case] seconds: u64,
        #[case] uptime: f64,
        #[case] expected: Option<f64>,
    ) {
        let first = ClockReading { at: Instant::now(), uptime: 10.0 };
        assert_eq!(first.slowdown(first.at + Duration::from_secs(seconds), uptime), expected);
    }
}
