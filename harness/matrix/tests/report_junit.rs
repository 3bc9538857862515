//! A run as CI systems read it.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod report_fixtures;

use std::path::Path;

use nestmatrix::records::{CellRecord, Outcome, VerdictWord};
use nestmatrix::report::junit;
use report_fixtures::{
    came_back, every_verdict, known_stale, known_wrong, limited, outcome, record, stopped, with_console,
};
use roxmltree::{Document, Node};

fn xml(outcome: &Outcome) -> String {
    junit(&outcome.run, &outcome.records, Path::new("/results/run")).unwrap()
}

/// What an element may have, according to the schema of Jenkins' JUnit plug-in (`jenkins-junit.xsd`), which others follow: its
/// attributes, the required ones among them, and its children.
fn of_element(name: &str) -> (&'static [&'static str], &'static [&'static str], &'static [&'static str]) {
    match name {
        "testsuites" => (&["name", "time", "tests", "failures", "errors", "skipped"], &[], &["testsuite"]),
        "testsuite" => (
            &["name", "tests", "failures", "errors", "skipped", "disabled", "time", "timestamp"],
            &["name", "tests"],
            &["properties", "testcase", "system-out", "system-err"],
        ),
        "testcase" => (
            &["name", "classname", "time", "status"],
            &["name"],
            &["skipped", "error", "failure", "properties", "system-out", "system-err"],
        ),
        "properties" => (&[], &[], &["property"]),
        "property" => (&["name", "value"], &["name", "value"], &[]),
        "skipped" => (&["message", "type"], &[], &[]),
        "failure" | "error" => (&["message", "type"], &[], &[]),
        "system-out" => (&[], &[], &[]),
        other => panic!("JUnit has no element {other}"),
    }
}

fn check(element: Node<'_, '_>) {
    let (may, must, children) = of_element(element.tag_name().name());
    for attribute in element.attributes() {
        assert!(may.contains(&attribute.name()), "{} of {:?}", attribute.name(), element.tag_name());
    }
    assert!(must.iter().all(|name| element.has_attribute(*name)), "{element:?}");
    for name in ["tests", "failures", "errors", "skipped"] {
        if let Some(number) = element.attribute(name) {
            number.parse::<u32>().unwrap();
        }
    }
    assert!(element.attribute("time").is_none_or(|time| time.parse::<f64>().is_ok_and(|time| time >= 0.0)));
    for child in element.children().filter(Node::is_element) {
        assert!(children.contains(&child.tag_name().name()), "{child:?} in {element:?}");
        check(child);
    }
}

fn count(document: &Document<'_>, name: &str) -> String {
    document.descendants().filter(|node| node.has_tag_name(name)).count().to_string()
}

#[test]
fn a_run_is_what_junits_schema_asks_for_and_counts_right() {
    let text = xml(&every_verdict());
    let document = Document::parse(&text).unwrap();
    let root = document.root_element();
    assert!(root.has_tag_name("testsuites"));
    check(root);
    for (attribute, element) in [("tests", "testcase"), ("failures", "failure"), ("errors", "error")] {
        assert_eq!(root.attribute(attribute), Some(count(&document, element).as_str()), "{attribute}");
    }
    assert_eq!(
        ["testcase", "failure", "error", "skipped"].map(|name| count(&document, name)),
        ["6", "2", "1", "1"]
    );
    insta::assert_snapshot!(text);
}

/// The name of the element with the result of this cell; `None` for a success.
fn status(cell: CellRecord) -> Option<String> {
    let text = xml(&outcome(vec![cell], 9, false));
    let document = Document::parse(&text).unwrap();
    let case = document.descendants().find(|node| node.has_tag_name("testcase")).unwrap();
    let status = ["skipped", "error", "failure"];
    let status = case.children().find(|node| status.iter().any(|name| node.has_tag_name(*name)));
    status.map(|node| node.tag_name().name().to_owned())
}

#[test]
fn a_document_that_turns_out_stale_is_a_failure_once() {
    let cell = |verdict| {
        limited(record("limits", "preview/amd/rhel-10/rhel-10/rhel-10", verdict, 9.0), "l1-boot", "hangs")
    };
    assert_eq!(status(cell(VerdictWord::Xfail)), None);
    assert_eq!(status(cell(VerdictWord::Xpass)), Some("failure".into()));
    assert_eq!(status(known_stale(cell(VerdictWord::Xpass), "fixed")), None);
}

#[test]
fn what_is_known_not_to_work_is_no_failure_and_what_came_back_is_one() {
    let cell = |verdict| record("limits", "preview/amd/rhel-10/rhel-10/rhel-10", verdict, 9.0);
    let wrong = |verdict| known_wrong(cell(verdict), "l1-boot", "hangs", "never worked");
    assert_eq!(status(wrong(VerdictWord::Fail)), None);
    assert_eq!(status(wrong(VerdictWord::Pass)), None);
    assert_eq!(
        status(CellRecord { as_described: false, ..wrong(VerdictWord::Fail) }),
        Some("failure".into())
    );
    let back = came_back(cell(VerdictWord::Fail), "l1-boot", "hangs", "fixed");
    assert_eq!(status(back.clone()), Some("failure".into()));
    assert!(xml(&outcome(vec![back], 9, false)).contains("known to be gone, came back"));
}

#[test]
fn a_guest_cannot_write_into_the_report() {
    let cell = record("limits", "preview/amd/rhel-10/rhel-10/rhel-10", VerdictWord::Fail, 9.0);
    let cell = stopped(cell, "l1-boot", "\x1b[2J\0]]></failure><testcase name=\"forged\"/> \u{fffe}");
    let text = xml(&outcome(vec![with_console(cell, 1, &["]]><!--", "\x08&amp;"])], 9, false));
    let document = Document::parse(&text).unwrap();
    check(document.root_element());
    assert_eq!(count(&document, "testcase"), "1");
    assert!(!text.contains(['\x1b', '\0', '\x08']), "{text:?}");
}

#[test]
fn impossible_times_are_reported() {
    let mut cell = record("limits", "preview/amd/rhel-10/rhel-10/rhel-10", VerdictWord::Pass, 9.0);
    cell.attempts[0].end = 1.8e19;
    let text = xml(&outcome(vec![cell.clone(), cell], 9, false));
    check(Document::parse(&text).unwrap().root_element());
}
