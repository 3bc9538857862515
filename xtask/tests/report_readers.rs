//! Programs that other people read reports with accept ours: KCIDB's validator, and Jenkins' schema of JUnit XML. Boots nothing.
#![allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]

mod common;
#[path = "../../harness/matrix/tests/report_fixtures/mod.rs"]
mod report_fixtures;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{Place, trials};
use nestmatrix::records::{CellRecord, RunFolder, RunRecord};
use nestmatrix_model::CaseOutcome;
use report_fixtures::{case, every_verdict, outcome, suite_step};

/// What `.ci/run` installs for this test.
fn tool(path: &str) -> PathBuf {
    let tool = common::checkout().join("target/tools").join(path);
    if !tool.exists() {
        trials::ignore(&format!("{path} is not in target/tools: .ci/run installs it"));
    }
    tool
}

/// A cell of each verdict, of which one ran tests that print what they like.
fn records() -> Vec<CellRecord> {
    let mut records = every_verdict().records;
    let case = |name, outcome, known| case(name, outcome, Some("\u{1b}[31m<b>&\u{ffff}\""), known);
    let cases = vec![
        case("svm: a/b \"c\" <d> ü", CaseOutcome::Fail, None),
        case("svm: e", CaseOutcome::KnownFail, Some("https://example.com/1 describes it")),
        case("svm: f", CaseOutcome::Pass, Some("a report")),
        case("svm: g", CaseOutcome::Skip, None),
        case("svm: h", CaseOutcome::Error, None),
    ];
    records[0].steps = vec![suite_step(cases)];
    records
}

/// A run with these cells, in this format.
fn report(format: &str) -> Vec<u8> {
    let place = Place::new();
    let records = records();
    let mut folder = RunFolder::create(&place.results()).unwrap();
    records.iter().for_each(|cell| folder.append(cell).unwrap());
    let record = RunRecord { run: folder.name(), ..outcome(records, 982, false).run };
    folder.write_run(&record).unwrap();
    let mut command = place.xtask();
    command.args(["report", "--format", format, "--results"]).arg(place.results());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What a program says of this text; an error if it does not accept it.
fn read(command: &mut Command, text: &[u8]) -> Result<String, String> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

fn kcidb_accepts_a_run() {
    let python = tool("python/bin/python3");
    let script = "import json, sys, kcidb_io
kcidb_io.schema.LATEST.validate(json.load(sys.stdin))";
    let validate = |text: &[u8]| read(Command::new(&python).args(["-c", script]), text);
    let text = report("kcidb");
    validate(&text).unwrap();
    let wrong = String::from_utf8(text).unwrap().replacen("\"MISS\"", "\"missed\"", 1);
    let said = validate(wrong.as_bytes()).unwrap_err();
    assert!(said.contains("'missed' is not one of"), "{said}");
}

/// A run without what JUnit's readers know and Jenkins' schema does not: properties of a test case, and the number of skipped ones
/// in all suites.
fn without_extensions(xml: &str) -> String {
    let mut cases = xml.split("<testcase");
    let (before, rest) = cases.next().unwrap().split_once(" skipped=\"").unwrap();
    let mut out = [before, rest.split_once('"').unwrap().1].concat();
    for case in cases {
        let (before, rest) = case.split_once("<properties>").unwrap();
        let (_, after) = rest.split_once("</properties>").unwrap();
        out.extend(["<testcase", before, after]);
    }
    out
}

fn jenkins_schema_accepts_a_run() {
    let schema = tool("junit-10.xsd");
    if Command::new("xmllint").arg("--version").output().is_err() {
        trials::ignore("xmllint is not installed");
    }
    let validate = |text: &str| {
        let mut command = Command::new("xmllint");
        read(command.args(["--noout", "--schema"]).arg(&schema).arg("-"), text.as_bytes())
    };
    let text = without_extensions(&String::from_utf8(report("junit")).unwrap());
    validate(&text).unwrap();
    let said =
        validate(&text.replace("<failure ", "<failed ").replace("</failure>", "</failed>")).unwrap_err();
    assert!(said.contains("Element 'failed': This element is not expected"), "{said}");
}

trials! {
    kcidb_accepts_a_run;
    jenkins_schema_accepts_a_run;
}
