//! Finds where verdicts change in a sequence of versions, with as few trials as possible. This module only chooses the next
//! version; it does not know what a trial is.

/// The result of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialVerdict<V> {
    /// A verdict.
    Is(V),
    /// No verdict: the version could not be tested.
    Unknown,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Verdicts change from one version to another.
    Changed {
        /// The last tested version whose verdict differs from that of the upper end.
        before: usize,
        /// The first version with the verdict of the upper end.
        first: usize,
        /// The versions between the two. None of them could be tested, so the change may be at any of them.
        unknown: Vec<usize>,
    },
    /// Both ends have the same verdict, so nothing shows a change between them, nor where to search.
    Same {
        /// The lowest version that could be tested.
        lowest: usize,
        /// The highest version that could be tested.
        highest: usize,
    },
    /// Fewer than two versions could be tested.
    TooFew,
}

/// A search by halving: the ends first, then the middle of the remaining versions.
#[derive(Debug, Clone)]
pub struct Bisection<V> {
    tried: Vec<Option<TrialVerdict<V>>>,
    /// Between these is the change, once both are known.
    low: Option<usize>,
    high: Option<usize>,
}

impl<V: PartialEq + Copy> Bisection<V> {
    /// A search among this many versions.
    pub fn new(versions: usize) -> Self {
        Self { tried: vec![None; versions], low: None, high: None }
    }

    /// The next version to test; none if another trial would show nothing new.
    pub fn next(&self) -> Option<usize> {
        let versions = self.tried.len();
        let Some(low) = self.low else { return self.end_from((0..versions).collect()) };
        // The strides skipped some versions. They are tested if nothing else shows a change.
        let below = || self.end_from((0..low).collect());
        let above = |from: usize| self.end_from((from + 1..versions).rev().collect());
        let Some(high) = self.high else { return above(low).or_else(below) };
        if self.verdict(low) == self.verdict(high) {
            return below().or_else(|| above(high));
        }
        // If a version can't be tested, its neighbours often can't either. So the version farthest from all tested ones is
        // next.
        let mut best: Option<(usize, usize)> = None;
        let mut start = low + 1;
        for at in low + 1..=high {
            if at < high && self.tried[at].is_none() {
                continue;
            }
            let length = at - start;
            if length > best.map_or(0, |(_, longest)| longest) {
                best = Some((start + (length - 1) / 2, length));
            }
            start = at + 1;
        }
        best.map(|(middle, _)| middle)
    }

    /// Takes in the result of a trial.
    pub fn tell(&mut self, version: usize, tried: TrialVerdict<V>) {
        self.tried[version] = Some(tried);
        let TrialVerdict::Is(verdict) = tried else { return };
        match (self.low, self.high) {
            (None, _) => self.low = Some(version),
            (Some(low), None) => {
                (self.low, self.high) = (Some(low.min(version)), Some(low.max(version)));
            }
            (Some(low), Some(high)) => {
                let as_above = Some(verdict) == self.verdict(high);
                if version < low {
                    self.low = Some(version);
                    if !as_above {
                        self.high = Some(low);
                    }
                } else if version > high {
                    self.high = Some(version);
                    if !as_above {
                        self.low = Some(high);
                    }
                } else if as_above {
                    self.high = Some(version);
                } else {
                    self.low = Some(version);
                }
            }
        }
    }

    /// The finding, if [`Bisection::next`] has no more versions.
    pub fn finding(&self) -> Finding {
        let (Some(low), Some(high)) = (self.low, self.high) else { return Finding::TooFew };
        if self.verdict(low) == self.verdict(high) {
            return Finding::Same { lowest: low, highest: high };
        }
        Finding::Changed { before: low, first: high, unknown: (low + 1..high).collect() }
    }

    /// Whether this version is next to the change as far as it is known: the last before it, or the first after it.
    pub fn is_side(&self, version: usize) -> bool {
        [self.low, self.high].contains(&Some(version))
    }

    /// The largest possible number of further trials, if each of them comes to a verdict.
    pub fn at_most(&self) -> u32 {
        let halvings = |versions: usize| (versions + 1).next_power_of_two().trailing_zeros();
        match (self.low, self.high) {
            (Some(low), Some(high)) if self.verdict(low) == self.verdict(high) => 0,
            (Some(low), Some(high)) => halvings(high - low - 1),
            (Some(low), None) => 1 + halvings(self.tried.len().saturating_sub(low + 2)),
            (None, _) => 2 + halvings(self.tried.len().saturating_sub(2)),
        }
    }

    fn verdict(&self, version: usize) -> Option<V> {
        match self.tried[version] {
            Some(TrialVerdict::Is(verdict)) => Some(verdict),
            Some(TrialVerdict::Unknown) | None => None,
        }
    }

    /// The next of `versions`, counted from an end, that may be that end. The strides grow, since a whole series of versions
    /// may fail to boot. The skipped versions come last.
    fn end_from(&self, versions: Vec<usize>) -> Option<usize> {
        let strides = (0..usize::BITS).map_while(|power| versions.get((1_usize << power) - 1));
        strides.chain(&versions).copied().find(|version| self.tried[*version].is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Searches; returns the finding and all tested versions.
    fn search(versions: &[TrialVerdict<u8>]) -> (Finding, Vec<usize>) {
        let mut bisection = Bisection::new(versions.len());
        let mut tried = Vec::new();
        while let Some(next) = bisection.next() {
            assert!(!tried.contains(&next), "{next} is tried twice");
            tried.push(next);
            bisection.tell(next, versions[next]);
        }
        (bisection.finding(), tried)
    }

    proptest! {
        #[test]
        fn a_change_is_found_or_the_honest_interval(
            unknown in proptest::collection::vec(any::<bool>(), 0..60),
            change in 0_usize..60,
        ) {
            let value = |at: usize| u8::from(at >= change);
            let versions: Vec<TrialVerdict<u8>> = unknown
                .iter()
                .enumerate()
                .map(|(at, unknown)| if *unknown { TrialVerdict::Unknown } else { TrialVerdict::Is(value(at)) })
                .collect();
            let known: Vec<usize> = (0..versions.len()).filter(|at| !unknown[*at]).collect();
            let last_before = known.iter().copied().rfind(|at| value(*at) == 0);
            let first_after = known.iter().copied().find(|at| value(*at) == 1);
            let (finding, tried) = search(&versions);
            match (known.as_slice(), last_before, first_after) {
                ([] | [_], ..) => prop_assert_eq!(finding, Finding::TooFew),
                (_, Some(before), Some(first)) => {
                    let unknown = (before + 1..first).collect::<Vec<_>>();
                    prop_assert!(unknown.iter().all(|at| tried.contains(at)), "each was tried before it is said");
                    prop_assert_eq!(finding, Finding::Changed { before, first, unknown });
                }
                _ => prop_assert!(matches!(finding, Finding::Same { .. }), "{finding:?}"),
            }
        }

        #[test]
        fn without_gaps_it_takes_no_more_trials_than_halving_takes(count in 2_usize..2000, change in 0_usize..2000) {
            let versions: Vec<_> = (0..count).map(|at| TrialVerdict::Is(u8::from(at >= change))).collect();
            let (_, tried) = search(&versions);
            let most = Bisection::<u8>::new(count).at_most() as usize;
            prop_assert!(tried.len() <= most, "{} trials of {count} versions, and {most} at most", tried.len());
            prop_assert!(most <= 2 + count.ilog2() as usize + 1);
        }

        #[test]
        fn whatever_the_verdicts_are_the_change_that_is_named_is_one(
            versions in proptest::collection::vec(prop_oneof![
                Just(TrialVerdict::Unknown), Just(TrialVerdict::Is(0_u8)), Just(TrialVerdict::Is(1)), Just(TrialVerdict::Is(2))
            ], 0..40)
        ) {
            if let (Finding::Changed { before, first, unknown }, _) = search(&versions) {
                prop_assert!(before < first && versions[before] != versions[first]);
                prop_assert!(unknown.iter().all(|at| versions[*at] == TrialVerdict::Unknown));
            }
        }
    }

    #[test]
    fn the_ends_go_first_and_equal_ends_are_the_end() {
        let (finding, tried) = search(&[TrialVerdict::Is(1), TrialVerdict::Is(0), TrialVerdict::Is(1)]);
        assert_eq!((finding, tried), (Finding::Same { lowest: 0, highest: 2 }, vec![0, 2]));
    }

    #[test]
    fn a_line_of_versions_that_do_not_boot_is_left_in_strides() {
        let versions: Vec<_> = (0..64)
            .map(|at| if at < 20 { TrialVerdict::Unknown } else { TrialVerdict::Is(u8::from(at > 40)) })
            .collect();
        let (finding, tried) = search(&versions);
        assert_eq!(finding, Finding::Changed { before: 40, first: 41, unknown: vec![] });
        assert_eq!(tried[..7], [0, 1, 3, 7, 15, 31, 63]);
    }
}
