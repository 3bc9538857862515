//! How far a run is, and about how long the rest of it takes.
//!
//! At first the typical times of the architectures are all that is known. Each cell that ends shows how fast this machine is, how
//! many cells it runs in parallel, and how much snapshots save.

/// After cells with this many typical seconds, the measured pace counts as much as the expected one.
const TRUST: f64 = 120.0;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The cells that have ended, without those that the plan skips.
    pub done: usize,
    /// All cells that this run boots.
    pub cells: usize,
    /// About how long the others take, in seconds.
    pub seconds_left: u64,
}

/// The pace of a run.
#[derive(Debug)]
pub(super) struct Pace {
    done: usize,
    cells: usize,
    /// The typical times of the cells that have ended.
    seconds_done: f64,
    /// The typical times of all cells.
    seconds: f64,
    /// About how many cells run in parallel.
    parallel: f64,
}

impl Pace {
    /// The pace of a run of cells with these typical times. About `parallel` of them run at the same time.
    pub(super) fn new(typical: impl IntoIterator<Item = f64>, parallel: usize) -> Self {
        let (mut cells, mut seconds) = (0, 0.0);
        for of_cell in typical {
            cells += 1;
            seconds += of_cell;
        }
        let parallel = parallel.min(cells).max(1) as f64;
        Self { done: 0, cells, seconds_done: 0.0, seconds, parallel }
    }

    /// A cell with this typical time has ended.
    pub(super) fn ended(&mut self, typical: f64) {
        self.done += 1;
        self.seconds_done += typical;
    }

    /// How far the run is, `elapsed` seconds after the first cell began.
    pub(super) fn progress(&self, elapsed: f64) -> Progress {
        let seconds_a_typical_second = (TRUST / self.parallel + elapsed) / (TRUST + self.seconds_done);
        let left = (self.seconds - self.seconds_done).max(0.0) * seconds_a_typical_second;
        Progress { done: self.done, cells: self.cells, seconds_left: left.ceil() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_a_cell_has_ended_the_typical_times_count() {
        let pace = Pace::new([60.0; 10], 2);
        assert_eq!(pace.progress(0.0), Progress { done: 0, cells: 10, seconds_left: 300 });
        assert_eq!(Pace::new([60.0], 8).progress(0.0).seconds_left, 60, "one cell does not run in parallel");
    }

    #[test]
    fn cells_that_end_sooner_than_is_typical_shorten_the_rest() {
        let mut pace = Pace::new([60.0; 100], 2);
        (0..50).for_each(|_| pace.ended(60.0));
        let Progress { done, seconds_left, .. } = pace.progress(500.0);
        assert!(done == 50 && (500..600).contains(&seconds_left), "{seconds_left}");
    }

    #[test]
    fn nothing_is_left_at_the_end() {
        let mut pace = Pace::new([60.0], 1);
        pace.ended(60.0);
        assert_eq!(pace.progress(90.0), Progress { done: 1, cells: 1, seconds_left: 0 });
        assert_eq!(Pace::new([], 4).progress(0.0), Progress { done: 0, cells: 0, seconds_left: 0 });
    }
}
