//! The figures of a benchmark in several levels, and the ratios between the levels.
//!
//! Each round measures every level once, so a disturbance that lasts longer than a round affects all of them. A ratio is formed for each
//! round, and what is said of a level is the median of these ratios with its confidence interval. That interval needs no assumption
//! about how the figures are distributed.

use std::collections::BTreeMap;

use nestmatrix_model::{Benchmark, Better, LevelNumber, Measure};
use serde::{Deserialize, Serialize};

use super::judgement::Judgement;

/// The confidence of the interval of a median.
const CONFIDENCE: f64 = 0.95;

/// The results of a step that ran a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkRecord {
    /// The benchmark.
    pub benchmark: Benchmark,
    /// The unit of the figures.
    pub unit: String,
    /// Which figures are better.
    pub better: Better,
    /// The figures of each level.
    pub levels: BTreeMap<LevelNumber, LevelFigures>,
    /// The performance of the step's level as a part of that of the level that is the key.
    pub ratios: BTreeMap<LevelNumber, Ratio>,
    /// What was expected, and whether it was met.
    pub judgement: Judgement,
}

/// The figures of a benchmark in one level.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LevelFigures {
    /// The tool with its version, if it reports one.
    pub tool: Option<String>,
    /// The figure of each round.
    pub figures: Vec<f64>,
    /// Their median, if there are any.
    pub median: Option<f64>,
    /// How many times slower the level's clock ran than this machine's, if it was read.
    pub clock_slowdown: Option<f64>,
    /// Why there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// A ratio of two levels over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The ratio of each round.
    pub rounds: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// The interval that contains the true median with a confidence of 95 %; of fewer than six rounds, the smallest and the largest
    /// ratio.
    pub low: f64,
    /// Its other end.
    pub high: f64,
}

impl Ratio {
    /// The ratio of these rounds; `None` if there are none.
    pub fn of(rounds: Vec<f64>) -> Option<Self> {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let median = median(&sorted)?;
        let left_out = left_out(sorted.len());
        let (low, high) = (*sorted.get(left_out)?, *sorted.get(sorted.len() - 1 - left_out)?);
        Some(Self { rounds, median, low, high })
    }

    /// Whether the interval has the confidence, since there were enough rounds.
    pub fn is_confident(&self) -> bool {
        self.rounds.len() >= usize::try_from(Measure::FEWEST_JUDGED).unwrap_or(usize::MAX)
    }

    /// Whether it is certainly smaller than `other`: their intervals do not touch.
    pub fn is_below(&self, other: &Self) -> bool {
        self.is_confident() && other.is_confident() && self.high < other.low
    }

    /// As text: `31 % (28-35 %)`.
    pub fn words(&self) -> String {
        format!("{} % ({}-{} %)", percent(self.median), percent(self.low), percent(self.high))
    }
}

/// A ratio in percent, with two digits at least.
fn percent(ratio: f64) -> String {
    let percent = ratio * 100.0;
    let digits = if percent >= 10.0 {
        0
    } else if percent >= 1.0 {
        1
    } else {
        2
    };
    format!("{percent:.digits$}")
}

/// The median of sorted numbers.
fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(*sorted.get(middle - 1)?, upper) })
}

/// How many of the smallest and of the largest of `number` independent values may be left out, so that the median of what they are drawn
/// from lies between the others with the confidence. That it lies below the k-th of them has the probability of fewer than k heads in
/// as many tosses of a coin.
fn left_out(number: usize) -> usize {
    let tosses = f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    // The probability of no heads.
    let mut of_heads = 0.5_f64.powf(tosses);
    let mut below = of_heads;
    let mut left_out = 0;
    for heads in 1..=number / 2 {
        let count = f64::from(u32::try_from(heads).unwrap_or(u32::MAX));
        of_heads *= (tosses - count + 1.0) / count;
        below += of_heads;
        if 2.0 * below > 1.0 - CONFIDENCE {
            break;
        }
        left_out = heads;
    }
    left_out
}

impl LevelFigures {
    /// Adds the figure of a round.
    pub(super) fn add(&mut self, figure: f64) {
        self.figures.push(figure);
        let mut sorted = self.figures.clone();
        sorted.sort_by(f64::total_cmp);
        self.median = median(&sorted);
    }
}

impl BenchmarkRecord {
    /// A record without figures.
    pub(super) fn new(benchmark: Benchmark) -> Self {
        let info = benchmark.info();
        Self {
            benchmark,
            unit: info.unit.to_owned(),
            better: info.better,
            levels: BTreeMap::new(),
            ratios: BTreeMap::new(),
            judgement: Judgement::default(),
        }
    }

    /// Forms the ratios of `level` to these others.
    pub(super) fn compare(&mut self, level: LevelNumber, against: &[LevelNumber]) {
        let Some(own) = self.levels.get(&level) else { return };
        let ratio = |other: &LevelNumber| {
            let pairs = own.figures.iter().zip(&self.levels.get(other)?.figures);
            // Nothing can be compared with a figure of 0, and the quotient would be no number of JSON.
            let is_usable = |figure: &f64| figure.is_finite() && *figure > 0.0;
            let rounds = pairs.map(|(own, other)| {
                (is_usable(own) && is_usable(other)).then_some(match self.better {
                    Better::Higher => own / other,
                    Better::Lower => other / own,
                })
            });
            Some((*other, Ratio::of(rounds.collect::<Option<Vec<f64>>>()?)?))
        };
        self.ratios = against.iter().filter_map(ratio).collect();
    }

    /// As text: `system-call: L2 31 % (28-35 %) of L1, 12 % (11-14 %) of L0; recorded only, on emulated metal`.
    pub fn summary(&self, level: LevelNumber) -> String {
        let ratio = |(other, ratio): (&LevelNumber, &Ratio)| format!("{} of {other}", ratio.words());
        let ratios: Vec<String> = self.ratios.iter().rev().map(ratio).collect();
        let ratios =
            if ratios.is_empty() { "no ratio".to_owned() } else { format!("{level} {}", ratios.join(", ")) };
        let missing = self.levels.iter().filter_map(|(level, figures)| {
            Some(format!("{level} not measured: {}", figures.missing.as_ref()?))
        });
        let parts = [format!("{}: {ratios}", self.benchmark)].into_iter().chain(missing);
        parts.chain(self.judgement.words()).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    // From tables of the sign test: as many values at each end may be left out.
    #[case(1, 0)]
    #[case(5, 0)]
    #[case(6, 0)]
    #[case(8, 0)]
    #[case(9, 1)]
    #[case(11, 1)]
    #[case(12, 2)]
    #[case(15, 3)]
    #[case(20, 5)]
    #[case(100, 39)]
    fn the_interval_is_that_of_the_sign_test(#[case] number: usize, #[case] expected: usize) {
        assert_eq!(left_out(number), expected);
    }

    #[test]
    fn a_ratio_is_the_median_of_its_rounds_and_survives_an_outlier() {
        let calm = [0.5, 0.52, 0.48, 0.5, 0.51, 0.49, 0.5, 0.5, 9.0];
        let ratio = Ratio::of(calm.to_vec()).unwrap();
        assert_eq!((ratio.median, ratio.low, ratio.high), (0.5, 0.49, 0.52));
        assert_eq!(ratio.words(), "50 % (49-52 %)");
        let few = Ratio::of(vec![0.5, 9.0]).unwrap();
        assert_eq!((few.median, few.low, few.high, few.is_confident()), (4.75, 0.5, 9.0, false));
        assert_eq!(Ratio::of(Vec::new()), None);
    }

    #[test]
    fn nothing_is_compared_with_a_figure_of_0() {
        let mut record = BenchmarkRecord::new(Benchmark::SystemCall);
        for (level, figures) in [(LevelNumber::ALL[1], [1.0, 0.0]), (LevelNumber::ALL[2], [2.0, 0.0])] {
            let of_level = record.levels.entry(level).or_default();
            figures.into_iter().for_each(|figure| of_level.add(figure));
        }
        record.compare(LevelNumber::ALL[2], &[LevelNumber::ALL[1]]);
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<BenchmarkRecord>(&text).unwrap(), record, "{text}");
        assert!(record.ratios.is_empty());
    }

    #[test]
    fn ratios_that_overlap_are_not_below_each_other() {
        let ratio =
            |from: f64| Ratio::of((0..6).map(|step| from + f64::from(step) / 100.0).collect()).unwrap();
        assert!(ratio(0.3).is_below(&ratio(0.5)));
        assert!(!ratio(0.46).is_below(&ratio(0.5)), "their intervals overlap");
        assert!(!ratio(0.5).is_below(&ratio(0.3)));
        let few = Ratio::of(vec![0.1]).unwrap();
        assert!(!few.is_below(&ratio(0.5)), "one round shows nothing");
    }

    #[rstest]
    #[case(1.234, "123")]
    #[case(0.0312, "3.1")]
    #[case(0.00312, "0.31")]
    fn percent_has_two_digits(#[case] ratio: f64, #[case] expected: &str) {
        assert_eq!(percent(ratio), expected);
    }
}
