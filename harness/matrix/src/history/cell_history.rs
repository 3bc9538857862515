//! The history of one cell: when its verdict changed and what else changed, how long it takes, and whether it is flaky.

use std::collections::BTreeSet;

use nestmatrix_stack::Metal;
use serde::Serialize;

use super::{Difference, HistoryEntry, entries};
use crate::records::{PastRun, VerdictWord};
use crate::scenario::CellName;

/// Selects entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only this many of the newest entries.
    pub newest: Option<usize>,
    /// Only entries since this time. It may be the beginning of an RFC 3339 time: a day, a month.
    pub since: Option<String>,
}

/// A cell's history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellHistory {
    /// The cell.
    pub cell: CellName,
    /// The number of its entries, including skips.
    #[serde(rename = "sightings")]
    pub entries: usize,
    /// How often it was skipped.
    pub skipped: usize,
    /// The changes of its verdict, in time order.
    #[serde(rename = "turns")]
    pub changes: Vec<VerdictChange>,
    /// The last entry; a skip only if there is no other.
    pub last: Option<HistoryEntry>,
    /// What shows that it is flaky; empty if it is not.
    pub flaky: Vec<Disagreement>,
    /// How long it took, by metal, and with or without a snapshot.
    pub durations: Vec<Durations>,
}

/// A change of the verdict between two consecutive entries.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictChange {
    /// The entry before.
    pub before: HistoryEntry,
    /// The entry after.
    pub after: HistoryEntry,
    /// Everything else that changed; empty if the cell is flaky.
    pub differences: Vec<Difference>,
}

/// Different verdicts in the same circumstances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// The verdicts, in time order.
    pub verdicts: [VerdictWord; 2],
    /// Their runs; the same run twice if the attempts of one run differ.
    pub runs: [String; 2],
    /// Their symptoms.
    pub symptoms: [Option<String>; 2],
}

/// How long a cell took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Durations {
    /// What it ran on.
    pub metal: Option<Metal>,
    /// Whether it was restored from a snapshot: that takes less than half the time.
    pub saved: bool,
    /// Seconds, in time order.
    pub seconds: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// The shortest.
    pub shortest: f64,
    /// The longest.
    pub longest: f64,
}

impl Wanted {
    /// Selects from these entries, which are in time order.
    fn of(&self, mut entries: Vec<HistoryEntry>) -> Vec<HistoryEntry> {
        if let Some(since) = &self.since {
            entries.retain(|entry| entry.seen.as_str() >= since.as_str());
        }
        let too_old = self.newest.map_or(0, |newest| entries.len().saturating_sub(newest));
        entries.split_off(too_old)
    }
}

impl CellHistory {
    /// The history of `cell` with these entries, which are in time order; `None` if none is selected.
    pub fn new(cell: CellName, entries: Vec<HistoryEntry>, wanted: &Wanted) -> Option<Self> {
        let entries = wanted.of(entries);
        let count = entries.len();
        let (skips, tried): (Vec<HistoryEntry>, Vec<HistoryEntry>) =
            entries.into_iter().partition(|entry| entry.verdict == VerdictWord::Skip);
        let last = tried.last().or(skips.last())?.clone();
        let change = |pair: &[HistoryEntry]| match pair {
            [before, after] if before.verdict != after.verdict => Some(VerdictChange {
                before: before.clone(),
                after: after.clone(),
                differences: before.with.differences(&after.with),
            }),
            _ => None,
        };
        Some(Self {
            cell,
            entries: count,
            skipped: skips.len(),
            changes: tried.windows(2).filter_map(change).collect(),
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

/// Every pair of verdicts in the same circumstances, with the newest two entries that show it, and every run whose attempts
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
    let within = tried.iter().flat_map(|entry| entry.attempts.windows(2).map(move |pair| (entry, pair)));
    // The verdict of a cell that was booted many times may change back and forth.
    let mut shown = BTreeSet::new();
    for (entry, pair) in within {
        if let [first, second] = pair
            && first.verdict != second.verdict
            && shown.insert((&entry.run, BTreeSet::from([first.verdict, second.verdict])))
        {
            found.push(Disagreement {
                verdicts: [first.verdict, second.verdict],
                runs: [entry.run.clone(), entry.run.clone()],
                symptoms: [first.symptom.clone(), second.symptom.clone()],
            });
        }
    }
    found
}

/// The verdict itself, even if the scenario knows that the cell is flaky.
fn itself(entry: &HistoryEntry) -> VerdictWord {
    match (entry.verdict, entry.attempts.last()) {
        (VerdictWord::Flaky, Some(last)) => last.verdict,
        (verdict, _) => verdict,
    }
}

fn durations(tried: &[HistoryEntry]) -> Vec<Durations> {
    let mut found: Vec<Durations> = Vec::new();
    for entry in tried.iter().filter(|entry| entry.seconds.is_finite() && entry.seconds > 0.0) {
        let (metal, saved) = (entry.with.metal, entry.saved);
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
        of.seconds.push(entry.seconds);
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

/// Whether `cell` is flaky between the verdicts `before` and `now` of two runs: both were seen, in the `past` or in these runs, in
/// the same circumstances as one of the two runs.
pub fn flips(
    cell: &CellName,
    (before, now): (VerdictWord, VerdictWord),
    runs: [&PastRun; 2],
    past: Vec<HistoryEntry>,
) -> bool {
    let of_cell = |run: &PastRun| {
        entries(run).into_iter().filter(|entry| entry.cell == *cell).collect::<Vec<HistoryEntry>>()
    };
    let shown: Vec<HistoryEntry> = runs.into_iter().flat_map(of_cell).collect();
    let all: Vec<&HistoryEntry> = past.iter().chain(&shown).collect();
    shown.iter().any(|shown| {
        let seen = |word| all.iter().any(|entry| entry.verdict == word && entry.with.same(&shown.with));
        seen(before) && seen(now)
    })
}

#[cfg(test)]
#[path = "cell_history_tests.rs"]
mod tests;
