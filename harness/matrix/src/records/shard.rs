//! Shards: a run's cells divided among machines that need no coordination.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::scenario::CellName;

use super::{CellRecord, PastRun};

/// The most shards that a run can have.
const MOST: u16 = 1000;

/// The least time that a cell counts for, in milliseconds: a cell that was skipped on another machine may boot here.
const LEAST: u64 = 1000;

/// One of several parts of a run's cells: `2/4` is the second of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Shard {
    of: u16,
    number: u16,
}

/// Text that is not a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a shard is K/N, with K from 1 to N, and N at most {MOST}")]
pub struct NoShard;

/// The shard that a run is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunShard {
    /// The shard.
    pub shard: Shard,
    /// Identifies the division, see [`division`].
    pub division: String,
}

/// How long cells took, in seconds.
pub type Durations = BTreeMap<CellName, f64>;

impl Shard {
    /// Shard `number` of `of`, if both are in range.
    pub fn new(number: u16, of: u16) -> Option<Self> {
        ((1..=of).contains(&number) && of <= MOST).then_some(Self { of, number })
    }

    /// Its number, from 1.
    pub fn number(self) -> u16 {
        self.number
    }

    /// How many shards there are.
    pub fn of(self) -> u16 {
        self.of
    }

    /// All shards of the division, including this one.
    pub fn all(self) -> impl Iterator<Item = Self> {
        (1..=self.of).map(move |number| Self { number, ..self })
    }

    /// The cells that are in this shard. Every cell is in exactly one shard.
    ///
    /// Without durations, the shard of a cell depends only on its name, so a new cell moves no other. With durations, the cells are
    /// dealt out so that all shards take about as long: the longest cell first, each to the shard with the least so far. A cell
    /// whose duration is unknown counts for the median of the others.
    pub fn choose<'a>(
        self,
        cells: impl IntoIterator<Item = &'a CellName>,
        durations: &Durations,
    ) -> BTreeSet<CellName> {
        let cells: BTreeSet<&CellName> = cells.into_iter().collect();
        let mut known: Vec<u64> =
            cells.iter().filter_map(|cell| durations.get(*cell)).map(|seconds| weight(*seconds)).collect();
        known.sort_unstable();
        let Some(&median) = known.get(known.len() / 2) else {
            return cells.into_iter().filter(|cell| by_name(cell, self.of) == self.number).cloned().collect();
        };
        let mut by_weight: Vec<(u64, &CellName)> = cells
            .into_iter()
            .map(|cell| (durations.get(cell).map_or(median, |seconds| weight(*seconds)), cell))
            .collect();
        by_weight.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        // What each shard has so far, the one with least first, and of equals the first.
        let mut loads: BTreeSet<(u64, u16)> = (1..=self.of).map(|number| (0, number)).collect();
        let mut chosen = BTreeSet::new();
        for (weight, cell) in by_weight {
            let Some((load, number)) = loads.pop_first() else { break };
            loads.insert((load.saturating_add(weight), number));
            if number == self.number {
                chosen.insert(cell.clone());
            }
        }
        chosen
    }
}

/// Identifies a division by the SHA-256 of its cells and of what they count for. Shards of different divisions do not belong together.
pub fn division<'a>(cells: impl IntoIterator<Item = &'a CellName>, durations: &Durations) -> String {
    let mut hash = Sha256::new();
    for cell in cells.into_iter().collect::<BTreeSet<&CellName>>() {
        let seconds = durations.get(cell).map_or(String::new(), |seconds| weight(*seconds).to_string());
        hash.update(format!("{cell} {seconds}\n"));
    }
    hex::encode(&hash.finalize()[..8])
}

/// Seconds as whole milliseconds, so that all machines come to the same sums.
fn weight(seconds: f64) -> u64 {
    ((seconds * 1000.0) as u64).max(LEAST)
}

/// The number of the shard of `of` in which a cell of this name is.
fn by_name(cell: &CellName, of: u16) -> u16 {
    let mut rest = 0_u32;
    for byte in Sha256::digest(cell.as_str()) {
        rest = (rest * 256 + u32::from(byte)) % u32::from(of);
    }
    u16::try_from(rest).unwrap_or(0) + 1
}

/// How long the cells of these runs took, each in the newest of them that has a verdict of it.
pub fn durations(runs: &[PastRun]) -> Durations {
    let mut newest: BTreeMap<&CellName, (&str, f64)> = BTreeMap::new();
    for run in runs {
        let merged: BTreeMap<&str, &str> =
            run.record.merged.iter().map(|of| (of.run.as_str(), of.began.as_str())).collect();
        for cell in &run.cells {
            let of_merged = cell.run.as_deref().and_then(|name| merged.get(name).copied());
            // All are UTC in the same form, so that their order is that of text.
            let seen = (of_merged.unwrap_or(&run.record.began), lasted(cell));
            let known = newest.entry(&cell.cell).or_insert(seen);
            if seen.0 > known.0 {
                *known = seen;
            }
        }
    }
    newest.into_iter().map(|(cell, (_, seconds))| (cell.clone(), seconds)).collect()
}

/// How long a cell took with all its attempts, in seconds.
fn lasted(cell: &CellRecord) -> f64 {
    match (cell.attempts.first(), cell.attempts.last()) {
        (Some(first), Some(last)) => last.end - first.start,
        _ => 0.0,
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.number, self.of))
    }
}

impl FromStr for Shard {
    type Err = NoShard;

    fn from_str(text: &str) -> Result<Self, NoShard> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or(NoShard)
        };
        let (k, n) = text.split_once('/').ok_or(NoShard)?;
        Self::new(number(k)?, number(n)?).ok_or(NoShard)
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl TryFrom<String> for Shard {
    type Error = NoShard;

    fn try_from(text: String) -> Result<Self, NoShard> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn name(number: usize) -> CellName {
        format!("scenario-{}/amd/debian-{number}", number % 7).parse().unwrap()
    }

    fn shards(of: u16) -> impl Iterator<Item = Shard> {
        Shard::new(1, of).unwrap().all()
    }

    #[rstest]
    #[case("1/1", Some((1, 1)))]
    #[case("2/3", Some((2, 3)))]
    #[case("1000/1000", Some((1000, 1000)))]
    #[case("0/3", None)]
    #[case("4/3", None)]
    #[case("1/1001", None)]
    #[case("1/0", None)]
    #[case("+1/2", None)]
    #[case("1/2/3", None)]
    #[case("1", None)]
    #[case("", None)]
    #[case("/", None)]
    #[case("1/99999999999", None)]
    fn a_shard_is_read_from_its_number_and_how_many_there_are(
        #[case] text: &str,
        #[case] expected: Option<(u16, u16)>,
    ) {
        let shard: Option<Shard> = text.parse().ok();
        assert_eq!(shard.map(|shard| (shard.number(), shard.of())), expected);
        assert!(shard.is_none_or(|shard| shard.to_string() == text));
    }

    #[test]
    fn the_shard_of_a_cell_is_that_of_its_name_for_ever() {
        let of = |text: &str| by_name(&text.parse().unwrap(), 7);
        // By `sha256sum`, modulo 7, plus 1: another answer would move cells between the shards of a run that is resumed.
        assert_eq!(of("rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+"), 5);
        assert_eq!(of("rhel-8-l3/intel/rhel-8.2+/rhel-8.2+"), 4);
    }

    #[test]
    fn what_takes_longest_is_dealt_out_first() {
        let cells: Vec<CellName> = (0..5).map(name).collect();
        let seconds = [100.0, 60.0, 50.0, 40.0, 10.0];
        let durations = cells.iter().cloned().zip(seconds).collect();
        let loads: Vec<f64> = shards(2)
            .map(|shard| shard.choose(&cells, &durations).iter().map(|cell| durations[cell]).sum())
            .collect();
        assert_eq!(loads, [140.0, 120.0]);
    }

    #[test]
    fn a_division_is_named_by_its_cells_and_what_they_count_for() {
        let cells: Vec<CellName> = (0..5).map(name).collect();
        let backwards: Vec<CellName> = cells.iter().rev().cloned().collect();
        let [none, some] = [Durations::new(), Durations::from([(name(1), 7.0)])];
        let named = division(&cells, &none);
        assert_eq!(named, division(&backwards, &none));
        assert_ne!(named, division(&cells[1..], &none));
        assert_ne!(named, division(&cells, &some));
        assert_eq!(division(&cells, &some), division(&cells, &[(name(1), 7.0), (name(9), 8.0)].into()));
    }

    #[test]
    fn many_cells_are_spread_over_the_shards_also_without_a_history() {
        let cells: Vec<CellName> = (0..10_000).map(name).collect();
        for shard in shards(4) {
            let chosen = shard.choose(&cells, &Durations::new()).len();
            assert!((2300..2700).contains(&chosen), "{chosen} of 10,000 in one of 4");
        }
    }

    proptest! {
        #[test]
        fn every_cell_is_in_exactly_one_shard(
            numbers in proptest::collection::btree_set(0_usize..500, 0..60),
            known in proptest::collection::btree_map(0_usize..500, 0.0_f64..1e6, 0..60),
            of in 1_u16..12,
        ) {
            let cells: BTreeSet<CellName> = numbers.into_iter().map(name).collect();
            let durations: Durations = known.into_iter().map(|(number, s)| (name(number), s)).collect();
            let mut all = BTreeSet::new();
            for shard in shards(of) {
                for cell in shard.choose(&cells, &durations) {
                    prop_assert!(all.insert(cell), "no cell is in two");
                }
            }
            prop_assert_eq!(all, cells);
        }

        #[test]
        fn without_a_history_cells_that_come_or_go_move_no_other(
            numbers in proptest::collection::btree_set(0_usize..500, 0..60),
            others in proptest::collection::btree_set(500_usize..900, 0..60),
            of in 1_u16..12,
        ) {
            let cells: BTreeSet<CellName> = numbers.into_iter().map(name).collect();
            let more: BTreeSet<CellName> = cells.iter().cloned().chain(others.into_iter().map(name)).collect();
            for shard in shards(of) {
                let mut with_others = shard.choose(&more, &Durations::new());
                with_others.retain(|cell| cells.contains(cell));
                prop_assert_eq!(with_others, shard.choose(&cells, &Durations::new()));
            }
        }

        #[test]
        fn with_a_history_no_shard_takes_longer_than_another_by_more_than_its_longest_cell(
            seconds in proptest::collection::vec(1.0_f64..1000.0, 1..60),
            of in 1_u16..12,
        ) {
            let durations: Durations = seconds.into_iter().enumerate().map(|(n, s)| (name(n), s)).collect();
            let load = |shard: Shard| -> (f64, f64) {
                let of_cells: Vec<f64> =
                    shard.choose(durations.keys(), &durations).iter().map(|cell| durations[cell]).collect();
                (of_cells.iter().sum(), of_cells.iter().copied().fold(0.0, f64::max))
            };
            let loads: Vec<(f64, f64)> = shards(of).map(load).collect();
            let least = loads.iter().map(|load| load.0).fold(f64::INFINITY, f64::min);
            for (sum, longest) in loads {
                prop_assert!(sum - longest <= least + 0.1, "{sum} with {longest}, and another has {least}");
            }
        }
    }
}
