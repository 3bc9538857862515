//! What changed between two runs.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use std::collections::BTreeMap;

use nestmatrix::records::{CellRecord, Change, Comparison, VerdictWord};
use nestmatrix::report::{Style, comparison};
use nestmatrix_model::{Benchmark, Better, CaseOutcome, LevelNumber};
use nestmatrix_stack::{
    BenchmarkRecord, Case, Judgement, LevelFigures, Metal, Ratio, StepRecord, SuiteRecord,
};
use report_fixtures::{came_back, known_stale, known_wrong, limited, record, stopped};
use rstest::rstest;

fn cell(verdict: VerdictWord) -> CellRecord {
    record("limits", "preview/amd/rhel-10/rhel-10/rhel-10", verdict, 9.0)
}

fn stale(known: bool) -> CellRecord {
    let gone = limited(cell(VerdictWord::Xpass), "l1-boot", "hangs");
    if known { known_stale(gone, "fixed") } else { gone }
}

/// A limitation that is known to be gone but shows itself, with software that may still have it.
fn shows_itself() -> CellRecord {
    known_stale(limited(cell(VerdictWord::Xfail), "l1-boot", "hangs"), "fixed")
}

fn back() -> CellRecord {
    came_back(cell(VerdictWord::Fail), "l1-boot", "hangs", "fixed")
}

/// A claim that is known to be wrong.
fn wrong(verdict: VerdictWord) -> CellRecord {
    known_wrong(cell(verdict), "l1-boot", "hangs", "never worked")
}

/// The standing of a cell that is `before` in the first run and `now` in the second.
fn place(before: Option<CellRecord>, now: Option<CellRecord>) -> &'static str {
    let before: Vec<CellRecord> = before.into_iter().collect();
    let now: Vec<CellRecord> = now.into_iter().collect();
    let Comparison { regressions, improvements, flaky, new, gone, cases: _, performance: _ } =
        Comparison::new(&before, &now);
    assert!(flaky.is_empty(), "only a history shows that");
    match [regressions.len(), improvements.len(), new.len(), gone.len()] {
        [0, 0, 0, 0] => "same",
        [1, 0, 0, 0] => "regression",
        [0, 1, 0, 0] => "improvement",
        [0, 0, 1, 0] => "new",
        [0, 0, 0, 1] => "gone",
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case(Some(cell(VerdictWord::Pass)), Some(cell(VerdictWord::Fail)), "regression")]
#[case(Some(cell(VerdictWord::Xfail)), Some(stale(false)), "regression")]
#[case(Some(cell(VerdictWord::Pass)), Some(cell(VerdictWord::Error)), "regression")]
#[case(Some(cell(VerdictWord::Fail)), Some(cell(VerdictWord::Pass)), "improvement")]
#[case(Some(stale(false)), Some(stale(true)), "improvement")]
#[case::a_limitation_is_back(Some(stale(true)), Some(back()), "regression")]
#[case::as_far_as_two_runs_tell(Some(stale(true)), Some(shows_itself()), "regression")]
#[case::it_is_gone_again(Some(shows_itself()), Some(stale(true)), "improvement")]
#[case::as_it_was(Some(shows_itself()), Some(shows_itself()), "same")]
#[case::now_the_scenario_knows(Some(cell(VerdictWord::Xfail)), Some(shows_itself()), "same")]
#[case::now_the_scenario_knows_better(Some(cell(VerdictWord::Xfail)), Some(wrong(VerdictWord::Fail)), "same")]
#[case::now_the_fail_is_known(Some(cell(VerdictWord::Fail)), Some(wrong(VerdictWord::Fail)), "improvement")]
#[case::known_wrong_no_longer(Some(wrong(VerdictWord::Fail)), Some(wrong(VerdictWord::Pass)), "improvement")]
#[case::wrong_again(Some(wrong(VerdictWord::Pass)), Some(wrong(VerdictWord::Fail)), "regression")]
#[case::wrong_in_another_way(Some(wrong(VerdictWord::Fail)), Some(cell(VerdictWord::Fail)), "regression")]
#[case::wrong_as_before(Some(wrong(VerdictWord::Fail)), Some(wrong(VerdictWord::Fail)), "same")]
#[case(Some(cell(VerdictWord::Fail)), Some(cell(VerdictWord::Error)), "same")]
#[case(Some(cell(VerdictWord::Error)), Some(cell(VerdictWord::Fail)), "new")]
#[case(Some(cell(VerdictWord::Pass)), Some(cell(VerdictWord::Xfail)), "same")]
#[case(Some(cell(VerdictWord::Skip)), Some(cell(VerdictWord::Fail)), "new")]
#[case(None, Some(cell(VerdictWord::Fail)), "new")]
#[case(None, Some(cell(VerdictWord::Skip)), "same")]
#[case(Some(cell(VerdictWord::Pass)), Some(cell(VerdictWord::Skip)), "gone")]
#[case(Some(cell(VerdictWord::Pass)), None, "gone")]
fn a_cell_is_where_its_verdicts_put_it(
    #[case] before: Option<CellRecord>,
    #[case] now: Option<CellRecord>,
    #[case] expected: &str,
) {
    assert_eq!(place(before, now), expected);
}

#[rstest]
#[case(Some(cell(VerdictWord::Pass)), cell(VerdictWord::Fail), true)]
#[case(Some(cell(VerdictWord::Fail)), cell(VerdictWord::Fail), false)]
#[case(Some(cell(VerdictWord::Error)), cell(VerdictWord::Fail), true)]
#[case(Some(cell(VerdictWord::Skip)), cell(VerdictWord::Fail), true)]
#[case(None, cell(VerdictWord::Fail), true)]
#[case(None, stale(false), true)]
#[case(None, stale(true), false)]
#[case(None, back(), true)]
#[case(None, shows_itself(), false)]
#[case(Some(stale(true)), shows_itself(), true)]
#[case(None, wrong(VerdictWord::Fail), false)]
#[case(Some(wrong(VerdictWord::Pass)), wrong(VerdictWord::Fail), true)]
#[case(None, cell(VerdictWord::Pass), false)]
#[case(None, cell(VerdictWord::Skip), false)]
fn what_is_not_known_to_have_been_bad_is_worse(
    #[case] before: Option<CellRecord>,
    #[case] now: CellRecord,
    #[case] worse: bool,
) {
    let before: Vec<CellRecord> = before.into_iter().collect();
    assert_eq!(Comparison::new(&before, &[now]).is_worse(), worse);
}

#[test]
fn of_several_machines_the_one_with_the_worst_verdict_counts() {
    let now = [VerdictWord::Skip, VerdictWord::Fail, VerdictWord::Pass].map(cell);
    let comparison = Comparison::new(&[cell(VerdictWord::Pass)], &now);
    let expected = Change {
        cell: now[0].cell.clone(),
        before: Some(VerdictWord::Pass),
        now: Some(VerdictWord::Fail),
        known: None,
        is_bad: true,
        symptom: now[1].symptom.clone(),
    };
    assert_eq!(comparison.regressions, [expected]);
}

#[test]
fn changes_are_grouped_by_kind() {
    let seen = stopped(cell(VerdictWord::Fail), "l2-boot", "kernel panic: \x1b[2Jno root");
    let before =
        [cell(VerdictWord::Pass), record("limits", "old/amd/rhel-9/rhel-9/rhel-9", VerdictWord::Fail, 1.0)];
    let text = comparison(&Comparison::new(&before, &[seen]), &Style::plain());
    insta::assert_snapshot!(text);
    assert_eq!(comparison(&Comparison::default(), &Style::plain()), "");
}

#[rstest]
#[case::worse(VerdictWord::Pass, VerdictWord::Fail, 1)]
#[case::nothing_to_be_said(VerdictWord::Pass, VerdictWord::Error, 3)]
#[case::better(VerdictWord::Fail, VerdictWord::Pass, 0)]
fn a_flaky_cell_is_separate_and_passes_no_gate_while_it_fails(
    #[case] before: VerdictWord,
    #[case] now: VerdictWord,
    #[case] code: u8,
) {
    let compare = |flaky| Comparison::new(&[cell(before)], &[cell(now)]).with_flaky(|_, _, _| flaky);
    let [steady, flaky] = [compare(false), compare(true)];
    assert!(steady.flaky.is_empty());
    assert_eq!((flaky.flaky.len(), flaky.regressions.len(), flaky.improvements.len()), (1, 0, 0));
    for comparison in [steady, flaky] {
        assert_eq!(comparison.exit_code(code), code, "{comparison:#?}");
        assert_eq!(comparison.is_worse(), code != 0, "{comparison:#?}");
    }
}

#[test]
fn what_worked_before_is_a_reason_to_fail_though_it_is_known_not_to() {
    // By itself, such a run has the exit code 0.
    for (before, now) in [(stale(true), shows_itself()), (wrong(VerdictWord::Pass), wrong(VerdictWord::Fail))]
    {
        let worse = Comparison::new(&[before], &[now]);
        assert_eq!([0, 1, 3, 4].map(|code| worse.exit_code(code)), [1, 1, 3, 4]);
        let flaky = worse.with_flaky(|_, _, _| true);
        assert_eq!(flaky.exit_code(0), 1, "that it did so before is no reason to let it pass");
    }
    let better = Comparison::new(&[wrong(VerdictWord::Fail)], &[wrong(VerdictWord::Pass)]);
    assert_eq!(better.exit_code(0), 0);
}

#[test]
fn a_change_is_shown_with_what_its_scenario_knows() {
    let before = [wrong(VerdictWord::Fail), record("limits", "b/amd/rhel-9", VerdictWord::Pass, 1.0)];
    let other =
        came_back(record("limits", "b/amd/rhel-9", VerdictWord::Fail, 1.0), "l1-boot", "hangs", "fixed");
    let text = comparison(&Comparison::new(&before, &[wrong(VerdictWord::Pass), other]), &Style::plain());
    insta::assert_snapshot!(text);
}

#[test]
fn what_was_bad_already_is_no_reason_to_fail() {
    let same = Comparison::new(&[cell(VerdictWord::Fail)], &[cell(VerdictWord::Fail)]);
    assert_eq!([0, 1, 3, 4].map(|code| same.exit_code(code)), [0, 0, 3, 4]);
}

/// A cell with these cases.
fn with_cases(verdict: VerdictWord, cases: &[(&str, CaseOutcome)]) -> CellRecord {
    let case = |(name, outcome): &(&str, CaseOutcome)| Case {
        name: (*name).into(),
        outcome: *outcome,
        said: None,
        known: None,
        erratum: None,
        did_not_start: false,
    };
    let mut counts = BTreeMap::new();
    cases.iter().for_each(|(_, outcome)| *counts.entry(*outcome).or_default() += 1);
    let suite = SuiteRecord {
        suite: "kvm-unit-tests".into(),
        sha256: String::new(),
        counts,
        cases: cases.iter().map(case).collect(),
    };
    let step = StepRecord {
        name: "suite".into(),
        on: LevelNumber::ALL[1],
        action: "suite".into(),
        run: None,
        status: None,
        output: String::new(),
        suite: Some(suite),
        benchmark: None,
    };
    CellRecord { steps: vec![step], ..cell(verdict) }
}

/// A cell whose L2 had these ratios to L1.
fn with_ratios(metal: Metal, tool: &str, rounds: &[f64]) -> CellRecord {
    let [l1, l2] = [LevelNumber::ALL[1], LevelNumber::ALL[2]];
    let figures = |factor: f64| LevelFigures {
        tool: Some(tool.into()),
        figures: rounds.iter().map(|round| round * factor).collect(),
        ..LevelFigures::default()
    };
    let benchmark = BenchmarkRecord {
        benchmark: Benchmark::SystemCall,
        unit: "operations/s".into(),
        better: Better::Higher,
        levels: [(l1, figures(1000.0)), (l2, figures(1.0))].into(),
        ratios: [(l1, Ratio::of(rounds.to_vec()).unwrap())].into(),
        judgement: Judgement::default(),
    };
    let step = StepRecord {
        name: "calls".into(),
        on: l2,
        action: "benchmark".into(),
        run: None,
        status: None,
        output: String::new(),
        suite: None,
        benchmark: Some(benchmark),
    };
    CellRecord { steps: vec![step], metal: Some(metal), ..cell(VerdictWord::Pass) }
}

#[test]
fn a_level_that_got_slower_is_worse_unless_it_may_be_noise() {
    let fast = [0.50, 0.52, 0.48, 0.51, 0.49, 0.50];
    let slow = fast.map(|ratio| ratio * 0.6);
    let noisy = [0.50, 0.20, 0.45, 0.30, 0.60, 0.25];
    let found = |metal, tool: &str, before: &[f64], now: &[f64]| {
        Comparison::new(&[with_ratios(metal, "a 1", before)], &[with_ratios(metal, tool, now)])
    };
    let worse = found(Metal::Native, "a 1", &fast, &slow);
    assert!(worse.is_worse());
    assert_eq!(worse.exit_code(0), 1);
    let cell = cell(VerdictWord::Pass).cell;
    let line = "L2 of L1: 50 % (48-52 %) -> 30 % (29-31 %)";
    let text = |comparison_: &Comparison| comparison(comparison_, &Style::plain());
    assert_eq!(text(&worse), format!("performance\n  {cell}\n    {line}, slower  calls\n\n"));
    let better = found(Metal::Native, "a 1", &slow, &fast);
    assert!(!better.is_worse() && text(&better).contains("faster"));
    // No alarm: the spread covers the change, there are too few rounds, or the tool is another one.
    for (tool, now) in [("a 1", &noisy[..]), ("a 1", &slow[..5]), ("a 2", &slow[..]), ("a 1", &fast[..])] {
        assert_eq!(found(Metal::Native, tool, &fast, now), Comparison::default(), "{tool} {now:?}");
    }
    // The ratios of an emulator are shown, and mean nothing.
    let emulated = found(Metal::Emulated, "a 1", &fast, &slow);
    assert!(!emulated.is_worse());
    assert!(text(&emulated).contains("on emulated metal, which says"), "{}", text(&emulated));
    let moved = Comparison::new(
        &[with_ratios(Metal::Native, "a 1", &fast)],
        &[with_ratios(Metal::Emulated, "a 1", &slow)],
    );
    assert_eq!(moved, Comparison::default(), "two kinds of metal are not compared");
}

#[test]
fn cases_that_changed_are_named_and_a_new_failure_is_worse() {
    use CaseOutcome::{Fail, KnownFail, Pass};
    let before = with_cases(VerdictWord::Fail, &[("a", Pass), ("b", Fail), ("c", Pass), ("d", KnownFail)]);
    let now = with_cases(VerdictWord::Fail, &[("a", Fail), ("b", Pass), ("e", Pass), ("d", KnownFail)]);
    let found = Comparison::new(std::slice::from_ref(&before), &[now]);
    assert!(found.is_worse());
    let text = comparison(&found, &Style::plain());
    let cell = &before.cell;
    assert_eq!(
        text,
        format!("test cases\n  {cell}\n    pass -> fail  a\n    fail -> pass  b\n    pass -> none  c\n\n")
    );
    assert!(!Comparison::new(std::slice::from_ref(&before), std::slice::from_ref(&before)).is_worse());
}

#[test]
fn a_case_that_passed_and_is_gone_is_a_change_if_it_can_not_have_been_dropped() {
    use CaseOutcome::{Pass, Skip};
    let before = with_cases(VerdictWord::Pass, &[("a", Pass), ("b", Pass), ("s", Skip)]);
    let now = with_cases(VerdictWord::Pass, &[("a", Pass), ("new", Pass)]);
    let changes = |now: &CellRecord| {
        let found = Comparison::new(std::slice::from_ref(&before), std::slice::from_ref(now));
        assert!(!found.is_worse(), "nothing failed");
        let cases = found.cases.into_iter().flat_map(|of_cell| of_cell.cases);
        cases.map(|case| (case.name, case.before, case.now)).collect::<Vec<_>>()
    };
    assert_eq!(changes(&now), [("b".to_owned(), Some(Pass), None)]);
    let mut incomplete = now.clone();
    incomplete.steps[0].suite.as_mut().unwrap().counts.insert(Pass, 2000);
    assert_eq!(changes(&incomplete), []);
    // A step that did not run at all shows in the verdict of its cell.
    let mut stopped = now;
    stopped.steps.insert(0, StepRecord { suite: None, ..stopped.steps[0].clone() });
    assert_eq!(changes(&stopped), []);
}
