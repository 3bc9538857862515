//! Compares two sets of results: what is worse, what is better, what is new.

use std::collections::BTreeMap;

use crate::scenario::CellName;

use super::case_changes::{CaseChange, CaseChanges};
use super::performance_changes::PerformanceChange;
use super::{CellRecord, Known, VerdictWord};

/// A cell whose verdict differs between two sets of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The cell.
    pub cell: CellName,
    /// Its verdict before; absent if it had none.
    pub before: Option<VerdictWord>,
    /// Its verdict now; absent if it has none.
    pub now: Option<VerdictWord>,
    /// What its scenario knows about the present verdict, if anything.
    pub known: Option<Known>,
    /// Whether it is worse now than before, or bad if it had no verdict before.
    pub is_bad: bool,
    /// The symptom, if the stack stops now.
    pub symptom: Option<String>,
}

/// What changed between two sets of results.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Comparison {
    /// Cells that were as expected or known and no longer are; and cells that worked and now show a failure that is known.
    pub regressions: Vec<Change>,
    /// Cells that were not as expected or known and now are; and cells that showed a known failure and now work.
    pub improvements: Vec<Change>,
    /// Cells that would be regressions or improvements if the software were not the same in both sets; and those that were
    /// flaky, or are known to be now.
    pub flaky: Vec<Change>,
    /// Cells that had no verdict before: they were missing, skipped, or an error.
    pub new: Vec<Change>,
    /// Cells that no longer have a verdict, and those that are skipped.
    pub gone: Vec<Change>,
    /// Cells in which the outcomes of test cases changed, whatever became of their verdicts.
    pub cases: Vec<CaseChanges>,
    /// Ratios of performance that changed by more than their spread, whatever became of the verdicts.
    pub performance: Vec<PerformanceChange>,
}

/// What a verdict says about the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It was skipped.
    Untried,
    /// It contradicts a document, or decides nothing.
    Bad,
    /// It does not work, but fails no run: a claim that is known to be wrong, or a limitation that is known to be gone but may
    /// still exist with this software.
    KnownBad,
    /// It works, or stops as its document says.
    Good,
}

impl Standing {
    /// What `before` says. An error is nothing to compare another verdict with.
    fn before(record: Option<&&CellRecord>) -> Self {
        match record {
            Some(record) if record.verdict == VerdictWord::Error => Self::Untried,
            record => Self::of(record),
        }
    }

    fn of(record: Option<&&CellRecord>) -> Self {
        let Some(record) = record else { return Self::Untried };
        match record.verdict {
            _ if record.is_trouble() => Self::Bad,
            // If the cell is known to be flaky, nothing follows from its verdict.
            VerdictWord::Skip | VerdictWord::Flaky => Self::Untried,
            VerdictWord::Fail => Self::KnownBad,
            VerdictWord::Xfail if record.expectation.known_stale().is_some() => Self::KnownBad,
            _ => Self::Good,
        }
    }
}

impl Comparison {
    /// Whether something got worse: a regression, a test case that fails now and did not before, a level that got
    /// slower, or a new cell that is not as expected. A flaky cell that is not as expected now counts as well: an earlier failure does
    /// not excuse it.
    pub fn is_worse(&self) -> bool {
        let mut others = self.new.iter().chain(&self.flaky);
        let mut cases = self.cases.iter().flat_map(|of_cell| &of_cell.cases);
        !self.regressions.is_empty()
            || others.any(|change| change.is_bad)
            || cases.any(CaseChange::is_worse)
            || self.performance.iter().any(PerformanceChange::is_worse)
    }

    /// The exit code of a run that is compared with an earlier one; `code` is its own. A cell that was bad before does not fail
    /// the run. A cell that worked before and does not now fails it, even if the failure is known. A run with errors, or an
    /// incomplete one, fails either way.
    pub fn exit_code(&self, code: u8) -> u8 {
        match code {
            0 | 1 => u8::from(self.is_worse()),
            code => code,
        }
    }

    /// Moves the regressions and improvements of flaky cells to the flaky ones. `is_flaky` gets the cell, its verdict before,
    /// and its verdict now.
    #[must_use]
    pub fn with_flaky(
        mut self,
        mut is_flaky: impl FnMut(&CellName, VerdictWord, VerdictWord) -> bool,
    ) -> Self {
        let mut flaky = |change: &Change| match (change.before, change.now) {
            (Some(before), Some(now)) => is_flaky(&change.cell, before, now),
            _ => false,
        };
        for changes in [&mut self.regressions, &mut self.improvements] {
            let (moved, stay) = std::mem::take(changes).into_iter().partition(&mut flaky);
            *changes = stay;
            self.flaky.extend::<Vec<Change>>(moved);
        }
        self.flaky.sort_by(|a, b| a.cell.cmp(&b.cell));
        self
    }

    /// What changed from the cells `before` to the cells `now`. If a set has several records of one cell, the worst counts.
    pub fn new(before: &[CellRecord], now: &[CellRecord]) -> Self {
        let (before, now) = (worst(before), worst(now));
        let mut comparison = Self::default();
        let mut cells: Vec<&CellName> = before.keys().chain(now.keys()).copied().collect();
        cells.sort();
        cells.dedup();
        for cell in cells {
            let (was, is) = (before.get(cell), now.get(cell));
            let (before, now) = (Standing::before(was), Standing::of(is));
            if let (Some(was), Some(is)) = (was, is) {
                comparison.cases.extend(CaseChanges::of(was, is));
                comparison.performance.extend(PerformanceChange::all(was, is));
            }
            let turned = before != now && !stops_as_before(was, is);
            let change = |is_bad| Change {
                cell: cell.clone(),
                before: was.map(|record| record.verdict),
                now: is.map(|record| record.verdict),
                known: is.and_then(|record| record.known()),
                is_bad,
                symptom: is.and_then(|record| record.symptom.clone()),
            };
            match (before, now) {
                _ if flips(was, is) => comparison.flaky.push(change(now == Standing::Bad)),
                (Standing::Untried, Standing::Untried) => {}
                (Standing::Untried, now) => comparison.new.push(change(now == Standing::Bad)),
                (_, Standing::Untried) => comparison.gone.push(change(false)),
                (before, now) if turned && now < before => comparison.regressions.push(change(true)),
                (_, now) if turned => comparison.improvements.push(change(now == Standing::Bad)),
                _ => {}
            }
        }
        comparison
    }
}

/// Whether the verdict differs because the cell was flaky before, or is known to be now. A cell that is newly flaky does not
/// count: it got worse.
fn flips(was: Option<&&CellRecord>, is: Option<&&CellRecord>) -> bool {
    let (Some(was), Some(is)) = (was, is) else { return false };
    let is_known = |record: &CellRecord| record.known() == Some(Known::Flaky);
    let tried = |record: &CellRecord| record.verdict != VerdictWord::Skip;
    let concerned =
        (was.verdict == VerdictWord::Flaky && (is_known(was) || !is.is_trouble())) || is_known(is);
    let differs = was.verdict != is.verdict || was.known() != is.known();
    tried(was) && tried(is) && concerned && differs
}

/// Whether a limitation showed itself before, and only its scenario's knowledge is new.
fn stops_as_before(was: Option<&&CellRecord>, is: Option<&&CellRecord>) -> bool {
    let is_xfail =
        |record: Option<&&CellRecord>| record.is_some_and(|record| record.verdict == VerdictWord::Xfail);
    is_xfail(was) && (is_xfail(is) || is.is_some_and(|record| record.known() == Some(Known::Wrong)))
}

/// The worst record of each cell.
fn worst(records: &[CellRecord]) -> BTreeMap<&CellName, &CellRecord> {
    let mut of_cell: BTreeMap<&CellName, &CellRecord> = BTreeMap::new();
    let rank = |record: &CellRecord| match Standing::of(Some(&record)) {
        Standing::Untried => 0,
        Standing::Good => 1,
        Standing::KnownBad => 2,
        Standing::Bad => 3,
    };
    for record in records {
        let worst = of_cell.entry(&record.cell).or_insert(record);
        if rank(record) > rank(worst) {
            *worst = record;
        }
    }
    of_cell
}
