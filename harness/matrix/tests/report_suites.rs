//! The cases of test suites in TAP, JUnit and on the page.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use std::path::Path;

use nestmatrix::records::{CellRecord, Overview, PastRun, VerdictWord};
use nestmatrix::report::{Origin, Style, cell_line, html, junit, kcidb, tap};
use nestmatrix_model::CaseOutcome;
use report_fixtures::{case, cells, outcome, past_run, record, stopped, suite_step};

const CELL: &str = "rhel-preview/amd/rhel-10/rhel-10/rhel-10";

/// What a test could print to forge a result.
const HOSTILE: &str = "x # TODO </script><b> ok 1\u{202e}";

fn cell() -> CellRecord {
    let cases = vec![
        case("svm: a", CaseOutcome::Fail, None, None),
        case(HOSTILE, CaseOutcome::Error, Some("it aborted"), None),
        case("svm: b", CaseOutcome::Pass, None, Some("a report")),
        case("svm: c", CaseOutcome::KnownFail, None, Some("a # report")),
        case("svm: d", CaseOutcome::Skip, Some("not supported"), None),
        case("svm: e", CaseOutcome::Pass, None, None),
    ];
    CellRecord {
        steps: vec![suite_step(cases)],
        ..stopped(record("limits", CELL, VerdictWord::Fail, 9.0), "step-1", "svm: a")
    }
}

fn run() -> PastRun {
    past_run("results/run", outcome(vec![cell()], 192, false))
}

fn overview() -> Overview {
    Overview::new(vec![run()], &cells("\"rhel 10\"", "\"rhel 10\"", "\"rhel 10\"").0)
}

#[test]
fn the_cases_of_a_cell_are_a_subtest_before_its_test_point() {
    let text = tap(&overview());
    let lines: Vec<&str> =
        text.lines().skip_while(|line| !line.starts_with("    # Subtest")).take(10).collect();

    assert_eq!(lines[1], "    1..6");
    assert_eq!(lines[2], "    not ok 1 - nested: svm: a");
    assert!(lines[3].starts_with("    not ok 2 - nested: x \\# TODO "), "{lines:#?}");
    assert_eq!(
        lines[4..9],
        [
            "    # it aborted",
            "    ok 3 - nested: svm: b # TODO a report",
            "    not ok 4 - nested: svm: c # TODO a \\# report",
            "    ok 5 - nested: svm: d # SKIP not supported",
            "    ok 6 - nested: svm: e",
        ]
    );
    assert!(lines[9].starts_with("not ok 1 - "), "{lines:#?}");
}

#[test]
fn each_case_is_a_test_of_kcidb() {
    let text = kcidb(&overview(), &Origin::default()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let tests = value["tests"].as_array().unwrap();
    let paths = tests.iter().map(|test| test["path"].as_str().unwrap().rsplit('.').next().unwrap());
    let statuses = tests.iter().map(|test| test["status"].as_str().unwrap());
    let seen: Vec<(&str, &str)> = paths.zip(statuses).collect();
    let hostile = "x___TODO___script__b__ok_1_";
    let cases = [
        ("svm__a", "FAIL"),
        (hostile, "ERROR"),
        ("svm__b", "PASS"),
        ("svm__c", "FAIL"),
        ("svm__d", "SKIP"),
        ("svm__e", "PASS"),
    ];
    assert_eq!(seen[1..], cases);
    let incidents = value["incidents"].as_array().unwrap();
    let known: Vec<(&str, bool)> = incidents
        .iter()
        .map(|incident| {
            let test = incident["test_id"].as_str().unwrap();
            (test.rsplit('/').next().unwrap(), incident["present"].as_bool().unwrap())
        })
        .collect();
    assert_eq!(known, [("svm: b", false), ("svm: c", true)]);
}

#[test]
fn each_case_is_a_test_case_of_junit() {
    let run = run();
    let xml = junit(&run.record, &run.cells, Path::new("/nowhere")).unwrap();
    let document = roxmltree::Document::parse(&xml).unwrap();
    let suite = document.descendants().filter(|node| node.has_tag_name("testsuite")).nth(1).unwrap();
    assert_eq!(suite.attribute("name"), Some(format!("{CELL}: nested").as_str()));
    let counts = ["tests", "errors", "failures"].map(|name| suite.attribute(name).unwrap());
    assert_eq!(counts, ["6", "1", "1"]);
    assert_eq!(xml.matches("<skipped").count(), 2);
    assert!(xml.contains("known to fail: a # report"), "{xml}");
}

#[test]
fn the_page_has_the_cases_and_the_terminal_their_numbers() {
    let page = html(&overview(), &cells("\"rhel 10\"", "\"rhel 10\"", "\"rhel 10\"").0);
    assert!(page.contains("svm: c") && page.contains("known-fail") && !page.contains("</script><b>"));
    let line = cell_line(&cell(), &Style::plain());
    assert!(line.contains("nested on L1: 2 pass, 1 fail, 1 skip, 1 known-fail, 1 error"), "{line}");
}
