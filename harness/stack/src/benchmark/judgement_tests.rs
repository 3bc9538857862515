use nestmatrix_model::Benchmark;
use rstest::rstest;

use super::*;

const L1: LevelNumber = LevelNumber::ALL[1];
const L2: LevelNumber = LevelNumber::ALL[2];

/// A quiet machine: L1 makes about 1000 operations a second.
const STEADY: [f64; 6] = [1000.0, 1010.0, 990.0, 1005.0, 995.0, 1000.0];

fn figures(figures: &[f64]) -> LevelFigures {
    let mut of_level =
        LevelFigures { tool: Some("stress-ng 1".into()), clock_slowdown: Some(1.1), ..Default::default() };
    figures.iter().for_each(|figure| of_level.add(*figure));
    of_level
}

fn times(figures: &[f64], factors: &[f64]) -> Vec<f64> {
    figures.iter().zip(factors).map(|(figure, factor)| figure * factor).collect()
}

fn record(benchmark: Benchmark, of_l1: LevelFigures, of_l2: LevelFigures) -> BenchmarkRecord {
    let mut record = BenchmarkRecord::new(benchmark);
    record.levels = [(L1, of_l1), (L2, of_l2)].into();
    record.compare(L2, &[L1]);
    record
}

fn expects(least: Option<u32>, most: Option<u32>) -> ExpectedRatio {
    ExpectedRatio { of: L1, at_least_percent: least, at_most_percent: most, reference: "a page".into() }
}

fn judged(record: &BenchmarkRecord, expected: &ExpectedRatio) -> (Judged, String) {
    let judgement = judge(record, L2, Some(expected), Metal::Native);
    (judgement.result, judgement.why.unwrap_or_default())
}

#[rstest]
#[case::half_is_at_least_a_third(0.5, Some(33), None, Judged::Met)]
#[case::half_is_not_nearly_all(0.5, Some(90), None, Judged::NotMet)]
#[case::half_is_at_most_two_thirds(0.5, None, Some(66), Judged::Met)]
#[case::faster_than_it_can_be(3.0, Some(50), Some(120), Judged::NotMet)]
#[case::between_both(1.0, Some(50), Some(120), Judged::Met)]
fn a_steady_ratio_is_judged(
    #[case] factor: f64,
    #[case] least: Option<u32>,
    #[case] most: Option<u32>,
    #[case] expected: Judged,
) {
    let l2 = times(&STEADY, &[factor; 6]);
    let record = record(Benchmark::SystemCall, figures(&STEADY), figures(&l2));
    assert_eq!(judged(&record, &expects(least, most)).0, expected);
}

#[test]
fn the_direction_of_the_benchmark_counts() {
    // As many cycles more, L2 is as much slower.
    let l2 = times(&STEADY, &[4.0; 6]);
    let cycles = record(Benchmark::Vmexit, figures(&STEADY), figures(&l2));
    assert_eq!(cycles.ratios[&L1].median, 0.25);
    let operations = record(Benchmark::SystemCall, figures(&STEADY), figures(&l2));
    assert_eq!(operations.ratios[&L1].median, 4.0);
    let expected = expects(Some(50), None);
    assert_eq!(
        (judged(&cycles, &expected).0, judged(&operations, &expected).0),
        (Judged::NotMet, Judged::Met)
    );
}

#[test]
fn noise_across_the_bound_permits_no_verdict() {
    let l2 = times(&STEADY, &[0.3, 0.9, 0.4, 0.8, 0.35, 0.85]);
    let record = record(Benchmark::SystemCall, figures(&STEADY), figures(&l2));
    for expected in [expects(Some(50), None), expects(None, Some(50))] {
        let (result, why) = judged(&record, &expected);
        assert_eq!(result, Judged::Undecided);
        assert!(why.contains("L2 has 60 % (30-90 %) of L1") && why.contains("permits no verdict"), "{why}");
    }
    // It does not matter for a bound that is far from it.
    assert_eq!(judged(&record, &expects(Some(10), None)).0, Judged::Met);
    assert_eq!(judged(&record, &expects(Some(95), None)).0, Judged::NotMet);
}

#[test]
fn a_disturbance_of_whole_rounds_cancels_out() {
    let disturbed = times(&STEADY, &[1.0, 0.2, 0.3, 1.0, 0.1, 1.0]);
    let l2 = times(&disturbed, &[0.5; 6]);
    let record = record(Benchmark::SystemCall, figures(&disturbed), figures(&l2));
    assert_eq!(judged(&record, &expects(Some(45), Some(55))).0, Judged::Met);
}

#[test]
fn what_is_missing_or_can_not_be_compared_is_undecided() {
    let good = || figures(&STEADY);
    let missing = LevelFigures { missing: Some("stress-ng was not found".into()), ..Default::default() };
    let zero = figures(&[1000.0, 0.0, 1000.0, 1000.0, 1000.0, 1000.0]);
    let other_tool = LevelFigures { tool: Some("stress-ng 2".into()), ..good() };
    let clock = LevelFigures { clock_slowdown: Some(4.0), ..good() };
    let fast_clock = LevelFigures { clock_slowdown: Some(0.5), ..good() };
    for (l1, l2, why) in [
        (missing.clone(), good(), "L1 was not measured: stress-ng was not found"),
        (good(), missing, "L2 was not measured: stress-ng was not found"),
        (good(), LevelFigures::default(), "L2 was not measured: it has no figures"),
        (zero.clone(), good(), "L1 has a figure of 0, which nothing can be compared with"),
        (good(), zero, "L2 has a figure of 0, which nothing can be compared with"),
        (good(), other_tool, "L2 with stress-ng 2 and L1 with stress-ng 1 can't be compared"),
        (good(), clock, "the clock of L2 ran 4.0 times as slow as this machine's"),
        (fast_clock, good(), "the clock of L1 ran 0.5 times as slow as this machine's"),
        (good(), figures(&STEADY[..5]), "5 rounds are too few"),
    ] {
        let record = record(Benchmark::SystemCall, l1, l2);
        assert_eq!(judged(&record, &expects(Some(1), None)), (Judged::Undecided, why.to_owned()));
    }
}

#[test]
fn emulated_metal_judges_nothing() {
    let l2 = times(&STEADY, &[0.01; 6]);
    let record = record(Benchmark::SystemCall, figures(&STEADY), figures(&l2));
    let expected = expects(Some(90), None);
    let judgement = judge(&record, L2, Some(&expected), Metal::Emulated);
    assert_eq!((judgement.result, judgement.is_left_open()), (Judged::RecordedOnly, true));
    let without = judge(&record, L2, None, Metal::Native);
    assert_eq!((without.result, without.is_left_open()), (Judged::NotJudged, false));
}
