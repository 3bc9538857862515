//! Judges the performance of a level: whether it is as expected, or why that can't be said.

use nestmatrix_model::{ExpectedRatio, LevelNumber, Word, word_traits};
use serde::{Deserialize, Serialize};

use super::figures::{BenchmarkRecord, LevelFigures, Ratio};
use crate::Metal;

/// How far the clock of a level may be from this machine's while it is measured. What is measured contains the time that a command takes
/// to start and to be noticed, so a clock looks slower than it is.
const CLOCK_SLOWDOWN: std::ops::RangeInclusive<f64> = 0.8..=2.0;

/// What became of an expected ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Judged {
    /// Nothing was expected, or the measurement did not come to its end.
    #[default]
    NotJudged,
    /// On emulated metal, ratios say nothing about hardware.
    RecordedOnly,
    /// It is as expected.
    Met,
    /// It is not as expected.
    NotMet,
    /// The figures do not permit a verdict.
    Undecided,
}

impl Word for Judged {
    const WHAT: &'static str = "judgement";
    const ALL: &'static [Self] =
        &[Self::NotJudged, Self::RecordedOnly, Self::Met, Self::NotMet, Self::Undecided];

    fn word(self) -> &'static str {
        match self {
            Self::NotJudged => "not-judged",
            Self::RecordedOnly => "recorded-only",
            Self::Met => "met",
            Self::NotMet => "not-met",
            Self::Undecided => "undecided",
        }
    }
}
word_traits!(Judged);

/// What was expected of a benchmark, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The result.
    pub result: Judged,
    /// What was expected, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<ExpectedRatio>,
    /// Why it was not met, or can't be judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Judgement {
    /// Whether something was expected that this metal can't show.
    pub fn is_left_open(&self) -> bool {
        self.result == Judged::RecordedOnly && self.expected.is_some()
    }

    /// As text, if there is something to say.
    pub(super) fn words(&self) -> Option<String> {
        let expected = self.expected.as_ref().map(ExpectedRatio::words).unwrap_or_default();
        Some(match self.result {
            Judged::NotJudged => return None,
            Judged::RecordedOnly => "recorded only, on emulated metal".to_owned(),
            Judged::Met => format!("{expected}, as expected"),
            Judged::NotMet => format!("expected {expected}"),
            Judged::Undecided => format!("expected {expected}: undecided"),
        })
    }
}

/// Judges what was measured of `level` on this metal.
pub(super) fn judge(
    record: &BenchmarkRecord,
    level: LevelNumber,
    expected: Option<&ExpectedRatio>,
    metal: Metal,
) -> Judgement {
    let (result, why) = match (metal, expected) {
        (Metal::Emulated, _) => (Judged::RecordedOnly, None),
        (Metal::Native, None) => (Judged::NotJudged, None),
        (Metal::Native, Some(expected)) => match why_undecided(record, level, expected) {
            Some(why) => (Judged::Undecided, Some(why)),
            None => compare(record, level, expected),
        },
    };
    Judgement { result, expected: expected.cloned(), why }
}

impl BenchmarkRecord {
    /// What keeps the figures of these two levels from being compared, if anything does.
    pub fn why_incomparable(&self, levels: [LevelNumber; 2]) -> Option<String> {
        let nothing = LevelFigures::default();
        let [own, other] = levels.map(|level| (level, self.levels.get(&level).unwrap_or(&nothing)));
        for (level, figures) in [own, other] {
            if figures.figures.is_empty() {
                let why = figures.missing.as_deref().unwrap_or("it has no figures");
                return Some(format!("{level} was not measured: {why}"));
            }
            if let Some(figure) =
                figures.figures.iter().find(|figure| !(figure.is_finite() && **figure > 0.0))
            {
                return Some(format!("{level} has a figure of {figure}, which nothing can be compared with"));
            }
            if let Some(slowdown) =
                figures.clock_slowdown.filter(|slowdown| !CLOCK_SLOWDOWN.contains(slowdown))
            {
                return Some(format!(
                    "the clock of {level} ran {slowdown:.1} times as slow as this machine's"
                ));
            }
        }
        if own.1.tool != other.1.tool {
            let tool = |(level, figures): (LevelNumber, &LevelFigures)| {
                format!("{level} with {}", figures.tool.as_deref().unwrap_or("an unknown tool"))
            };
            return Some(format!("{} and {} can't be compared", tool(own), tool(other)));
        }
        None
    }
}

/// What keeps the ratio from being judged, if anything does.
fn why_undecided(record: &BenchmarkRecord, level: LevelNumber, expected: &ExpectedRatio) -> Option<String> {
    let ratio = record.ratios.get(&expected.of);
    let rounds = ratio.map_or(0, |ratio| ratio.rounds.len());
    let too_few =
        || (!ratio.is_some_and(Ratio::is_confident)).then(|| format!("{rounds} rounds are too few"));
    record.why_incomparable([level, expected.of]).or_else(too_few)
}

/// Compares the ratio with what is expected. Only an interval that lies on one side of a bound decides it.
fn compare(
    record: &BenchmarkRecord,
    level: LevelNumber,
    expected: &ExpectedRatio,
) -> (Judged, Option<String>) {
    let Some(ratio) = record.ratios.get(&expected.of) else { return (Judged::Undecided, None) };
    let bound = |percent: u32| f64::from(percent) / 100.0;
    let least = expected.at_least_percent.map(bound);
    let most = expected.at_most_percent.map(bound);
    let is_broken =
        least.is_some_and(|least| ratio.high < least) || most.is_some_and(|most| ratio.low > most);
    let is_kept = least.is_none_or(|least| ratio.low >= least) && most.is_none_or(|most| ratio.high <= most);
    let seen = format!("{level} has {} of {}, expected {}", ratio.words(), expected.of, expected.words());
    if is_broken {
        (Judged::NotMet, Some(seen))
    } else if is_kept {
        (Judged::Met, None)
    } else {
        let advice = "measure on a quieter machine, or more often (`times`)";
        (Judged::Undecided, Some(format!("{seen}: the spread permits no verdict; {advice}")))
    }
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
