//! Flaky cells: what follows from them, and what reports show about them.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use nestmatrix::records::{CellRecord, Comparison, Known, Overview, Tally, VerdictWord};
use nestmatrix::report::{Style, junit_of, markdown, matrix, tap};
use report_fixtures::{cells, flaky, known_wrong, outcome, past_run, record, skipped, stopped};
use rstest::rstest;

const CELL: &str = "preview/amd/rhel-10/rhel-10/rhel-10";

fn cell(verdict: VerdictWord) -> CellRecord {
    record("limits", CELL, verdict, 9.0)
}

/// A cell that failed the second of three times, and was not known to be flaky.
fn news() -> CellRecord {
    let cell = stopped(cell(VerdictWord::Flaky), "l1-boot", "hangs");
    flaky(cell, &[VerdictWord::Pass, VerdictWord::Fail, VerdictWord::Pass], 2, None)
}

/// A cell that is known to fail sometimes, and was booted once.
fn known(verdict: VerdictWord) -> CellRecord {
    let plain = cell(VerdictWord::Flaky);
    let cell = if verdict == VerdictWord::Fail { stopped(plain, "l1-boot", "hangs") } else { plain };
    flaky(cell, &[verdict], 1, Some("an interrupt is lost"))
}

fn exit_code(records: &[CellRecord]) -> u8 {
    let mut tally = Tally::default();
    records.iter().for_each(|record| tally.add(record));
    tally.exit_code()
}

#[test]
fn a_flaky_cell_fails_a_run_unless_it_is_known_to_be_one() {
    assert_eq!(news().known(), None);
    assert_eq!(exit_code(&[news()]), 1);
    assert_eq!(exit_code(&[news(), cell(VerdictWord::Pass)]), 1);
    assert_eq!(exit_code(&[news(), cell(VerdictWord::Error)]), 3);
    for word in [VerdictWord::Pass, VerdictWord::Fail] {
        assert_eq!(known(word).known(), Some(Known::Flaky));
        assert_eq!(exit_code(&[known(word), cell(VerdictWord::Pass)]), 0);
        assert_eq!(exit_code(&[known(word), cell(VerdictWord::Fail)]), 1);
        assert_eq!(exit_code(&[known(word)]), 4, "nothing follows from it, so it makes no run a good one");
    }
    let with_news = CellRecord { as_described: false, ..known(VerdictWord::Fail) };
    assert_eq!(exit_code(&[with_news]), 1, "one of its attempts was not as it is known to be");
}

#[rstest]
#[case::worse_than_it_was(cell(VerdictWord::Pass), news(), "regression", true)]
#[case::known_since(cell(VerdictWord::Pass), known(VerdictWord::Fail), "flaky", false)]
#[case::known_and_it_failed_before(cell(VerdictWord::Fail), known(VerdictWord::Pass), "flaky", false)]
#[case::known_both_times(known(VerdictWord::Pass), known(VerdictWord::Fail), "same", false)]
#[case::another_failure(known(VerdictWord::Pass), cell(VerdictWord::Fail), "flaky", true)]
#[case::no_longer_known(known(VerdictWord::Pass), cell(VerdictWord::Pass), "flaky", false)]
#[case::no_longer_known_and_it_is(known(VerdictWord::Pass), news(), "flaky", true)]
#[case::as_bad_as_before(news(), cell(VerdictWord::Fail), "same", false)]
#[case::by_luck(news(), cell(VerdictWord::Pass), "flaky", false)]
#[case::not_tried(known(VerdictWord::Pass), skipped("limits", CELL, "no image"), "same", false)]
#[case::known_for_the_first_time(
    skipped("limits", CELL, "no image"),
    known(VerdictWord::Pass),
    "same",
    false
)]
#[case::new(skipped("limits", CELL, "no image"), news(), "new", true)]
fn a_flaky_cell_is_neither_better_nor_worse_than_it_was(
    #[case] before: CellRecord,
    #[case] now: CellRecord,
    #[case] place: &str,
    #[case] is_worse: bool,
) {
    let found = Comparison::new(&[before], &[now]);
    let Comparison { regressions, improvements, flaky, new, gone, cases: _, performance: _ } = &found;
    let kinds = [
        ("regression", regressions),
        ("improvement", improvements),
        ("flaky", flaky),
        ("new", new),
        ("gone", gone),
    ];
    let there: Vec<&str> =
        kinds.iter().filter(|(_, changes)| !changes.is_empty()).map(|(kind, _)| *kind).collect();
    let there = if there.is_empty() { "same".to_owned() } else { there.join(" ") };
    assert_eq!((there.as_str(), found.is_worse()), (place, is_worse), "{found:?}");
}

fn overview(records: Vec<CellRecord>) -> Overview {
    let run = past_run("results/run", outcome(records, 192, false));
    Overview::new(vec![run], &cells("\"rhel 10\"", "\"rhel 10\"", "\"rhel 10\"").0)
}

#[test]
fn every_form_tells_a_flaky_cell_and_a_known_one_apart() {
    let other = |name: &str, cell: CellRecord| CellRecord {
        cell: CELL.replace("amd", name).parse().unwrap(),
        ..cell
    };
    let records =
        || vec![news(), other("intel", known(VerdictWord::Fail)), other("arm", known(VerdictWord::Pass))];
    insta::assert_snapshot!("terminal", matrix(&outcome(records(), 60, false), &Style::plain()));
    let overview = overview(records());
    insta::assert_snapshot!(
        "tap",
        tap(&overview)
            .lines()
            .filter(|line| line.contains("ok ") || line.contains("attempts") || line.contains("known"))
            .collect::<Vec<_>>()
            .join("\n")
    );
    let markdown = markdown(&overview, &cells("\"rhel 10\"", "\"rhel 10\"", "\"rhel 10\"").0);
    assert!(markdown.contains("flaky (known)") && markdown.contains("**flaky**"), "{markdown}");
    let junit = junit_of(&overview).unwrap();
    assert_eq!(
        ["<failure", "<skipped", "<error"].map(|tag| junit.matches(tag).count()),
        [1, 2, 0],
        "{junit}"
    );
}

#[test]
fn a_verdict_of_another_machine_goes_before_what_is_known_to_be_flaky() {
    let both = || vec![known(VerdictWord::Fail), cell(VerdictWord::Pass)];
    assert_eq!(overview(both()).cells[0].record.verdict, VerdictWord::Pass);
    let wrong =
        known_wrong(stopped(cell(VerdictWord::Fail), "l1-boot", "hangs"), "l1-boot", "hangs", "never worked");
    assert_eq!(overview(vec![news(), wrong]).cells[0].record.verdict, VerdictWord::Flaky);
}

#[test]
fn records_of_old_have_no_word_of_it() {
    let mut record = serde_json::to_value(cell(VerdictWord::Pass)).unwrap();
    for member in ["known_flaky", "described_attempt"] {
        assert!(record.as_object_mut().unwrap().remove(member).is_some_and(|value| value.is_null()));
    }
    let read: CellRecord = serde_json::from_value(record).unwrap();
    assert_eq!((read.described_index(), read.known_flaky), (Some(0), None));
    let again: CellRecord =
        serde_json::from_value(serde_json::to_value(known(VerdictWord::Fail)).unwrap()).unwrap();
    assert_eq!(again.known_text(), known(VerdictWord::Fail).known_text());
    let tally: Tally = serde_json::from_str("{\"pass\": 1}").unwrap();
    assert_eq!((tally.flaky, tally.known_flaky), (0, 0));
}
