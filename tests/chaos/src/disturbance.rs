//! What is done to a run, drawn from the campaign's seed.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use fastrand::Rng;
use serde::Serialize;

/// A kind of disturbance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// SIGKILL to one of the run's processes, which may be the harness
    Kill,
    /// SIGSTOP to one process, for good unless it is the harness
    Stop,
    /// SIGSTOP to all processes, and SIGCONT after up to two minutes
    Suspend,
    /// SIGINT or SIGTERM to the harness
    Interrupt,
    /// No more memory for one process
    Memory,
    /// No more space for files, as on a full disk
    Disk,
    /// A damaged, truncated or missing image, snapshot or record
    Damage,
    /// A second harness that runs the same cell with the same cache
    Second,
    /// Bytes without sense in what a process writes into a pipe or a socket
    Hostile,
    /// A clock of the harness that jumps by up to a year, with libfaketime
    Clock,
}

/// Longest time for which a run is suspended.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// Where a damaged file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Images in the cache.
    Images,
    /// Snapshots in the cache.
    Snapshots,
    /// The records of the run.
    Records,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Images => "images",
            Self::Snapshots => "snapshots",
            Self::Records => "records",
        })
    }
}

/// What is done to one run. The numbers of `of` choose among things that are only known while the run runs, such as its processes.
#[derive(Debug, Clone)]
pub struct Disturbance {
    /// What is done.
    pub kind: Kind,
    /// Which of the campaign's cells runs, by its place in their list.
    pub cell: usize,
    /// Whether every level boots; otherwise the stack may be restored from a snapshot.
    pub cold: bool,
    /// When it is done, as a part of the time that the undisturbed run takes.
    pub moment: f64,
    /// How long a pause is.
    pub pause: Duration,
    /// Where a file is damaged.
    pub store: Store,
    /// Chooses a process, a file, a place in it and a number of bytes.
    pub choices: Rng,
}

impl Disturbance {
    /// The disturbance of run `number` of a campaign, which has so many cells. It is the same for the same seed, whatever other runs
    /// there are.
    pub fn draw(seed: u64, number: u32, cells: usize, kinds: &[Kind]) -> Self {
        // Neighbouring seeds of this generator draw similar numbers, so mix them.
        let mut rng = Rng::with_seed(seed ^ u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut rng = Rng::with_seed(rng.u64(..));
        let all = Kind::value_variants();
        let kinds = if kinds.is_empty() { all } else { kinds };
        Self {
            kind: kinds[rng.usize(..kinds.len())],
            cell: rng.usize(..cells),
            cold: rng.bool(),
            moment: rng.f64(),
            pause: LONGEST_PAUSE.mul_f64(rng.f64().powi(2)),
            store: [Store::Images, Store::Snapshots, Store::Records][rng.usize(..3)],
            choices: rng.fork(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shown(disturbance: &Disturbance) -> String {
        let mut choices = disturbance.choices.clone();
        format!("{disturbance:?} {}", choices.u64(..))
    }

    #[test]
    fn a_run_is_disturbed_as_before_if_it_is_repeated_alone() {
        for number in 1..50 {
            let [first, second] = [(); 2].map(|()| shown(&Disturbance::draw(7, number, 4, &[])));
            assert_eq!(first, second);
            assert_ne!(first, shown(&Disturbance::draw(8, number, 4, &[])), "another seed");
            assert_ne!(first, shown(&Disturbance::draw(7, number + 1, 4, &[])), "another run");
        }
    }

    #[test]
    fn all_kinds_cells_and_stores_are_drawn() {
        let drawn: Vec<Disturbance> = (1..200).map(|number| Disturbance::draw(1, number, 4, &[])).collect();
        let kinds: BTreeSet<Kind> = drawn.iter().map(|disturbance| disturbance.kind).collect();
        assert_eq!(kinds.len(), Kind::value_variants().len());
        let cells: BTreeSet<usize> = drawn.iter().map(|disturbance| disturbance.cell).collect();
        assert_eq!(cells, (0..4).collect());
        for store in [Store::Images, Store::Snapshots, Store::Records] {
            assert!(drawn.iter().any(|disturbance| disturbance.store == store), "{store:?}");
        }
        assert!(drawn.iter().all(|disturbance| disturbance.pause <= LONGEST_PAUSE));
    }

    #[test]
    fn only_the_wanted_kinds_are_drawn() {
        let only = [Kind::Disk, Kind::Stop];
        assert!((1..50).all(|number| only.contains(&Disturbance::draw(3, number, 1, &only).kind)));
    }
}
