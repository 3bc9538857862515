//! Two sets of results compared: what is worse, what is better, what is new.

use std::collections::BTreeMap;

use crate::scenario::CellName;

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
    /// What its scenario knows of the verdict now, if it does.
    pub known: Option<Known>,
    /// Whether it is worse now than it was, or bad if it had no verdict before.
    pub is_bad: bool,
    /// What was seen where it stops now.
    pub symptom: Option<String>,
}

/// What changed between two sets of results.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Cells that were as expected or known, and are not any more; and cells that worked, and are known not to again.
    pub regressions: Vec<Change>,
    /// Cells that are as expected or known, and were not; and cells that are known not to work, and do.
    pub improvements: Vec<Change>,
    /// Cells that would be among the regressions or the improvements, if both verdicts had not been seen with the same software; and
    /// those that were flaky, or are known to be now.
    pub flaky: Vec<Change>,
    /// Cells that had no verdict before: they were missing, skipped, or an error.
    pub new: Vec<Change>,
    /// Cells that have no verdict any more, and those that are skipped.
    pub gone: Vec<Change>,
}

/// What a verdict says of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It was not tried.
    Untried,
    /// Against a document, or nothing can be said.
    Bad,
    /// It does not work, which fails no run: a claim that is known to be wrong, or a limitation that is known to be gone where
    /// nothing says that this software should be without it.
    KnownBad,
    /// It works, or stops as its document says that it does.
    Good,
}

impl Standing {
    /// What `before` says: an error is no verdict that another one could be held against.
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
            // Of what is known to be flaky, no verdict follows.
            VerdictWord::Skip | VerdictWord::Flaky => Self::Untried,
            VerdictWord::Fail => Self::KnownBad,
            VerdictWord::Xfail if record.expectation.known_stale().is_some() => Self::KnownBad,
            _ => Self::Good,
        }
    }
}

impl Comparison {
    /// Whether something is worse than it is known to have been: regressions, and what is new and not as expected. So is a flaky
    /// cell that is not as expected now: that it was not so at another time as well is no reason to let it pass.
    pub fn is_worse(&self) -> bool {
        let mut others = self.new.iter().chain(&self.flaky);
        !self.regressions.is_empty() || others.any(|change| change.is_bad)
    }

    /// The exit code of a run that is compared with another one, where its own is `code`: what was bad already is no reason to fail,
    /// and what worked before is one, though it be known not to. A run of which nothing can be said, or that is not complete, fails
    /// either way.
    pub fn exit_code(&self, code: u8) -> u8 {
        match code {
            0 | 1 => u8::from(self.is_worse()),
            code => code,
        }
    }

    /// The same with those regressions and improvements as flaky of which `is_flaky` says so, from their cell, the verdict before,
    /// and that of now.
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

    /// What changed from the cells `before` to those `now`. Of several records of one cell in a set, the worst counts.
    pub fn new(before: &[CellRecord], now: &[CellRecord]) -> Self {
        let (before, now) = (worst(before), worst(now));
        let mut comparison = Self::default();
        let mut cells: Vec<&CellName> = before.keys().chain(now.keys()).copied().collect();
        cells.sort();
        cells.dedup();
        for cell in cells {
            let (was, is) = (before.get(cell), now.get(cell));
            let (before, now) = (Standing::before(was), Standing::of(is));
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

/// Whether the verdict is another one because the cell was flaky before, or is known to be now. One that is flaky now and was not known
/// to be is no such cell: it is worse than it was.
fn flips(was: Option<&&CellRecord>, is: Option<&&CellRecord>) -> bool {
    let (Some(was), Some(is)) = (was, is) else { return false };
    let is_known = |record: &CellRecord| record.known() == Some(Known::Flaky);
    let tried = |record: &CellRecord| record.verdict != VerdictWord::Skip;
    let concerned =
        (was.verdict == VerdictWord::Flaky && (is_known(was) || !is.is_trouble())) || is_known(is);
    let differs = was.verdict != is.verdict || was.known() != is.known();
    tried(was) && tried(is) && concerned && differs
}

/// Whether a limitation showed itself before, and all that is new is what its scenario knows of it.
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
