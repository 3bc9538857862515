//! What a cell's sightings come to: when its verdict changed and what else did, how long it takes, and whether it is flaky.

use std::collections::BTreeSet;

use nestmatrix_stack::Metal;
use serde::Serialize;

use super::{Difference, HistoryEntry, sightings};
use crate::records::{PastRun, VerdictWord};
use crate::scenario::CellName;

/// Which sightings count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only those that many that are newest.
    pub newest: Option<usize>,
    /// Only those since this time, which may be the beginning of one as RFC 3339 writes it: a day, a month.
    pub since: Option<String>,
}

/// A cell's history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellHistory {
    /// The cell.
    pub cell: CellName,
    /// How often it was seen with a verdict, or skipped.
    pub sightings: usize,
    /// How often it was skipped.
    pub skipped: usize,
    /// When its verdict changed, in the order of time.
    pub turns: Vec<VerdictChange>,
    /// What is known of it last, a skip only where there is nothing else.
    pub last: Option<HistoryEntry>,
    /// What makes it flaky; it is not if there is none.
    pub flaky: Vec<Disagreement>,
    /// How long it took, by what it ran on and how it began.
    pub durations: Vec<Durations>,
}

/// A change of the verdict: two sightings, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictChange {
    /// The one before.
    pub before: HistoryEntry,
    /// The one after.
    pub after: HistoryEntry,
    /// All that is known to have changed besides; nothing if the cell is flaky.
    pub differences: Vec<Difference>,
}

/// Different verdicts though nothing differs that could tell why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// The verdicts, as they came.
    pub verdicts: [VerdictWord; 2],
    /// The runs that saw them; the same twice if it was one that tried the cell twice.
    pub runs: [String; 2],
    /// What was seen where it stopped, of each.
    pub symptoms: [Option<String>; 2],
}

/// How long a cell took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Durations {
    /// What it ran on.
    pub metal: Option<Metal>,
    /// Whether it went on from a saved state: that takes less than half the time.
    pub saved: bool,
    /// Seconds, in the order of time.
    pub seconds: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// The shortest.
    pub shortest: f64,
    /// The longest.
    pub longest: f64,
}

impl Wanted {
    /// Those of these sightings that count; they are in the order of time.
    fn of(&self, mut sightings: Vec<HistoryEntry>) -> Vec<HistoryEntry> {
        if let Some(since) = &self.since {
            sightings.retain(|sighting| sighting.seen.as_str() >= since.as_str());
        }
        let too_old = self.newest.map_or(0, |newest| sightings.len().saturating_sub(newest));
        sightings.split_off(too_old)
    }
}

impl CellHistory {
    /// The history of `cell` by these sightings, which are in the order of time; none if none counts.
    pub fn new(cell: CellName, sightings: Vec<HistoryEntry>, wanted: &Wanted) -> Option<Self> {
        let sightings = wanted.of(sightings);
        let count = sightings.len();
        let (skips, tried): (Vec<HistoryEntry>, Vec<HistoryEntry>) =
            sightings.into_iter().partition(|sighting| sighting.verdict == VerdictWord::Skip);
        let last = tried.last().or(skips.last())?.clone();
        let turn = |pair: &[HistoryEntry]| match pair {
            [before, after] if before.verdict != after.verdict => Some(VerdictChange {
                before: before.clone(),
                after: after.clone(),
                differences: before.with.differences(&after.with),
            }),
            _ => None,
        };
        Some(Self {
            cell,
            sightings: count,
            skipped: skips.len(),
            turns: tried.windows(2).filter_map(turn).collect(),
            last: Some(last),
            flaky: disagreements(&tried),
            durations: durations(&tried),
        })
    }

    /// Whether the cell is flaky.
    pub fn is_flaky(&self) -> bool {
        !self.flaky.is_empty()
    }
}

/// Every pair of verdicts that were seen with nothing that differs, by the newest two that show it; and every run whose attempts
/// differ.
fn disagreements(tried: &[HistoryEntry]) -> Vec<Disagreement> {
    let mut known = BTreeSet::new();
    let mut found = Vec::new();
    for (index, after) in tried.iter().enumerate().rev() {
        for before in tried[..index].iter().rev() {
            let [verdict_before, verdict_after] = [before, after].map(itself);
            let words = BTreeSet::from([verdict_before, verdict_after]);
            if words.len() == 2 && !known.contains(&words) && before.with.same(&after.with) {
                known.insert(words);
                found.push(Disagreement {
                    verdicts: [verdict_before, verdict_after],
                    runs: [before.run.clone(), after.run.clone()],
                    symptoms: [before.symptom.clone(), after.symptom.clone()],
                });
            }
        }
    }
    let within =
        tried.iter().flat_map(|sighting| sighting.attempts.windows(2).map(move |pair| (sighting, pair)));
    // A cell that was booted many times may go to and fro.
    let mut shown = BTreeSet::new();
    for (sighting, pair) in within {
        if let [first, second] = pair
            && first.verdict != second.verdict
            && shown.insert((&sighting.run, BTreeSet::from([first.verdict, second.verdict])))
        {
            found.push(Disagreement {
                verdicts: [first.verdict, second.verdict],
                runs: [sighting.run.clone(), sighting.run.clone()],
                symptoms: [first.symptom.clone(), second.symptom.clone()],
            });
        }
    }
    found
}

/// What came of a cell, whatever its scenario knows of its being flaky.
fn itself(sighting: &HistoryEntry) -> VerdictWord {
    match (sighting.verdict, sighting.attempts.last()) {
        (VerdictWord::Flaky, Some(last)) => last.verdict,
        (verdict, _) => verdict,
    }
}

fn durations(tried: &[HistoryEntry]) -> Vec<Durations> {
    let mut found: Vec<Durations> = Vec::new();
    for sighting in tried.iter().filter(|sighting| sighting.seconds.is_finite() && sighting.seconds > 0.0) {
        let (metal, saved) = (sighting.with.metal, sighting.saved);
        let of = match found.iter().position(|of| (of.metal, of.saved) == (metal, saved)) {
            Some(index) => &mut found[index],
            None => {
                let empty =
                    Durations { metal, saved, seconds: Vec::new(), median: 0.0, shortest: 0.0, longest: 0.0 };
                found.push(empty);
                let last = found.len() - 1;
                &mut found[last]
            }
        };
        of.seconds.push(sighting.seconds);
    }
    for of in &mut found {
        let mut sorted = of.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        of.median = match sorted.len() % 2 {
            0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        (of.shortest, of.longest) = (sorted[0], sorted[sorted.len() - 1]);
    }
    found.sort_by_key(|of| (of.metal, of.saved));
    found
}

/// Whether `cell` flips between the verdicts `before` and `now`, which two runs have of it: both were seen, in the `past` or in those
/// two, with nothing that differs from what one of the two runs had.
pub fn flips(
    cell: &CellName,
    (before, now): (VerdictWord, VerdictWord),
    runs: [&PastRun; 2],
    past: Vec<HistoryEntry>,
) -> bool {
    let of_cell = |run: &PastRun| {
        sightings(run).into_iter().filter(|sighting| sighting.cell == *cell).collect::<Vec<HistoryEntry>>()
    };
    let shown: Vec<HistoryEntry> = runs.into_iter().flat_map(of_cell).collect();
    let all: Vec<&HistoryEntry> = past.iter().chain(&shown).collect();
    shown.iter().any(|shown| {
        let seen =
            |word| all.iter().any(|sighting| sighting.verdict == word && sighting.with.same(&shown.with));
        seen(before) && seen(now)
    })
}

#[cfg(test)]
#[path = "cell_history_tests.rs"]
mod tests;
