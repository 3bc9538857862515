//! How many cells of a run got which verdict, and the exit code that follows from it.

use serde::{Deserialize, Serialize};

use super::{CellRecord, Known, VerdictWord};

/// How many cells got which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Cells that passed.
    pub pass: usize,
    /// Those of `pass` whose claim was known to be wrong.
    pub righted: usize,
    /// Cells that failed, the known and the new ones.
    pub fail: usize,
    /// Those of `fail` whose claim was known to be wrong.
    pub known_wrong: usize,
    /// Those of `fail` whose limitation was known to be gone, and came back.
    pub came_back: usize,
    /// Cells whose documented limitation shows itself.
    pub xfail: usize,
    /// Cells whose documented limitation is gone, the known and the new ones.
    pub xpass: usize,
    /// Those of `xpass` whose limitation was known to be gone.
    pub known_stale: usize,
    /// Cells that gave two verdicts in one setting, or are known to.
    pub flaky: usize,
    /// Those of `flaky` that are known to.
    pub known_flaky: usize,
    /// Cells that were skipped.
    pub skip: usize,
    /// Cells with an error: the verdict says nothing about the matrix.
    pub error: usize,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, cell: &CellRecord) {
        match cell.known() {
            Some(Known::Stale) => self.known_stale += 1,
            Some(Known::Wrong) => self.known_wrong += 1,
            Some(Known::CameBack) => self.came_back += 1,
            Some(Known::Righted) => self.righted += 1,
            Some(Known::Flaky) => self.known_flaky += 1,
            None => {}
        }
        *match cell.verdict {
            VerdictWord::Pass => &mut self.pass,
            VerdictWord::Fail => &mut self.fail,
            VerdictWord::Xfail => &mut self.xfail,
            VerdictWord::Xpass => &mut self.xpass,
            VerdictWord::Flaky => &mut self.flaky,
            VerdictWord::Skip => &mut self.skip,
            VerdictWord::Error => &mut self.error,
        } += 1;
    }

    /// The exit code for these verdicts: 0 if all are as expected or known; 1 for a fail, an xpass or a flaky cell that is not known; 3
    /// for an error; 4 if nothing ran, or only cells that are known to be flaky. An error takes precedence over a fail, because the
    /// results are incomplete then.
    pub fn exit_code(&self) -> u8 {
        if self.error > 0 {
            3
        } else if self.fail > self.known_wrong
            || self.xpass > self.known_stale
            || self.flaky > self.known_flaky
        {
            1
        } else if self.pass + self.fail + self.xfail + self.xpass == 0 {
            4
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Expectation;
    use crate::scenario::testing::{known_stale, known_wrong, limitation};

    fn record(verdict: VerdictWord, expectation: &Expectation, as_described: bool) -> CellRecord {
        let value = serde_json::json!({
            "cell": "scenario/amd/a/b/c", "scenario": "scenario", "document": "d", "claims": ["c"], "architecture": "amd",
            "tier": "supported", "expectation": expectation, "verdict": verdict, "as_described": as_described,
            "levels": [], "steps": [], "stages": [], "attempts": [],
        });
        serde_json::from_value(value).unwrap()
    }

    /// The exit code of a run of these cells: a verdict, what was expected, and whether it failed as described.
    fn exit_code(cells: &[(VerdictWord, Expectation, bool)]) -> (Tally, u8) {
        let mut tally = Tally::default();
        for (verdict, expectation, as_described) in cells {
            tally.add(&record(*verdict, expectation, *as_described));
        }
        (tally, tally.exit_code())
    }

    #[test]
    fn exit_codes_follow_the_worst_verdict() {
        let of = |words: &[VerdictWord]| {
            exit_code(&words.iter().map(|word| (*word, limitation(), false)).collect::<Vec<_>>()).1
        };
        assert_eq!(of(&[VerdictWord::Pass, VerdictWord::Xfail, VerdictWord::Skip]), 0);
        assert_eq!(of(&[VerdictWord::Pass, VerdictWord::Fail]), 1);
        assert_eq!(of(&[VerdictWord::Pass, VerdictWord::Xpass]), 1);
        assert_eq!(of(&[VerdictWord::Fail, VerdictWord::Error]), 3);
        assert_eq!(of(&[VerdictWord::Skip]), 4);
        assert_eq!(of(&[]), 4);
    }

    #[test]
    fn what_is_known_fails_no_run_and_hides_nothing_else() {
        let stale = (VerdictWord::Xpass, known_stale(), false);
        let wrong = (VerdictWord::Fail, known_wrong(Some("svm")), true);
        let (tally, code) = exit_code(&[stale.clone(), wrong.clone()]);
        assert_eq!((tally.xpass, tally.known_stale, tally.fail, tally.known_wrong, code), (1, 1, 1, 1, 0));
        assert_eq!(exit_code(std::slice::from_ref(&wrong)).1, 0, "something ran");
        for (news, expected) in [
            ((VerdictWord::Xpass, limitation(), false), 1),
            ((VerdictWord::Fail, known_stale(), false), 1),
            ((VerdictWord::Fail, known_wrong(Some("svm")), false), 1),
            ((VerdictWord::Error, known_stale(), false), 3),
        ] {
            assert_eq!(exit_code(&[stale.clone(), wrong.clone(), news.clone()]).1, expected, "{news:?}");
        }
    }

    #[test]
    fn what_turned_is_counted() {
        let (tally, code) = exit_code(&[(VerdictWord::Fail, known_stale(), true)]);
        assert_eq!((tally.fail, tally.came_back, code), (1, 1, 1));
        let (tally, code) = exit_code(&[(VerdictWord::Pass, known_wrong(None), false)]);
        assert_eq!((tally.pass, tally.righted, code), (1, 1, 0));
        // The software is older than the change, or its version is unknown.
        let (tally, code) = exit_code(&[(VerdictWord::Xfail, known_stale(), false)]);
        assert_eq!((tally.xfail, tally.came_back, code), (1, 0, 0));
    }
}
