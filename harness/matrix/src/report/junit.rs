//! A run as JUnit XML, which CI systems show.
//!
//! JUnit has fewer results than verdicts: an expected result is a success, a stale document is a failure. The verdict itself is a
//! property of each test case. docs/records.md has the whole mapping.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nestmatrix_model::{Fidelity, LevelNumber};
use quick_junit::{NonSuccessKind, Property, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::cell::{attempts, claims, documented, observed, remark, tiers};
use super::test_cases;
use super::text::number as shown_number;
use crate::contained::{self, RelativeFolder};
use crate::records::{CellRecord, LevelRecord, Overview, RunRecord, VerdictWord};

/// A run with these cells as JUnit XML: a suite a scenario, a test case a cell. After them comes a suite for each step that ran tests of a suite. The files of the cells in the run's `folder` are
/// attachments.
///
/// # Errors
/// None are known: text that XML cannot represent is left out.
pub fn junit(run: &RunRecord, cells: &[CellRecord], folder: &Path) -> Result<String, SerializeError> {
    suites(run, cells.iter().map(|cell| (cell, folder)))
}

/// The run as a whole with these cells, each with the folder of its own run.
fn suites<'a>(
    run: &RunRecord,
    cells: impl IntoIterator<Item = (&'a CellRecord, &'a Path)>,
) -> Result<String, SerializeError> {
    let mut report = Report::new(format!("nestmatrix {}", run.run));
    let (mut suites, mut of_steps): (Vec<TestSuite>, Vec<TestSuite>) = Default::default();
    for (cell, folder) in cells {
        of_steps.extend(test_cases::suites(cell));
        let place = suites.iter().position(|suite| suite.name.as_str() == cell.scenario);
        let place = place.unwrap_or_else(|| {
            suites.push(suite(run, cell));
            suites.len() - 1
        });
        suites[place].add_test_case(test_case(cell, folder));
    }
    for suite in &mut suites {
        suite.set_time(sum(suite.test_cases.iter().filter_map(|case| case.time)));
    }
    report.set_time(sum(suites.iter().filter_map(|suite| suite.time)));
    report.add_test_suites(suites);
    report.add_test_suites(of_steps);
    // The library lets two characters through that XML cannot represent.
    Ok(report.to_string()?.replace(['\u{fffe}', '\u{ffff}'], ""))
}

/// Several runs as one JUnit XML. The suites name the machines of all runs.
///
/// # Errors
/// As [`junit`].
pub fn junit_of(overview: &Overview) -> Result<String, SerializeError> {
    let cells: Vec<(CellRecord, PathBuf)> = overview
        .cells
        .iter()
        .map(|cell| {
            let folder = overview.runs.get(cell.run).map_or_else(PathBuf::new, |run| run.folder.clone());
            let record = CellRecord { run: Some(overview.run_of(cell).to_owned()), ..cell.record.clone() };
            (record, folder.canonicalize().unwrap_or(folder))
        })
        .collect();
    match overview.as_one_run() {
        Some(run) => suites(&run, cells.iter().map(|(cell, folder)| (cell, folder.as_path()))),
        None => Report::new("nestmatrix").to_string(),
    }
}

/// The sum of these times, or the longest possible time: records can have any values.
fn sum(times: impl Iterator<Item = Duration>) -> Duration {
    times.fold(Duration::ZERO, Duration::saturating_add)
}

/// The suite of a cell's scenario, still empty.
fn suite(run: &RunRecord, cell: &CellRecord) -> TestSuite {
    let mut suite = TestSuite::new(cell.scenario.as_str());
    let machine = &run.machine;
    let properties = [
        ("nestmatrix", run.nestmatrix.clone()),
        ("document", cell.document.clone()),
        ("machine.kernel", machine.kernel.clone()),
        ("machine.system", machine.system.clone()),
        ("machine.processor", machine.processor.clone()),
        ("emulators", run.emulators.join(", ")),
    ];
    for (name, value) in properties {
        suite.add_property(Property::new(name, value));
    }
    suite
}

fn test_case(cell: &CellRecord, folder: &Path) -> TestCase {
    let name = cell.cell.as_str();
    let name = name.strip_prefix(&format!("{}/", cell.scenario)).unwrap_or(name);
    let mut case = TestCase::new(name, status(cell));
    case.set_classname(cell.scenario.as_str());
    case.set_time(Duration::try_from_secs_f64(cell.seconds()).unwrap_or_default());
    let mut property = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            case.properties.push(Property::new(name, value));
        }
    };
    property("verdict", Some(cell.verdict.to_string()));
    property("known", cell.known().map(|known| known.note().to_owned()));
    property("expected", Some(documented(cell)));
    property("cpu-model", cell.cpu_model.clone());
    property("claims", Some(claims(cell)));
    property("architecture", Some(cell.architecture.to_string()));
    property("metal", cell.metal.map(|metal| metal.to_string()));
    property("tier", Some(tiers([cell])));
    property("attempts", attempts(cell));
    property("run", cell.run.clone());
    for level in &cell.levels {
        let of_level = |what: &str| format!("{}.{what}", level.level.to_string().to_lowercase());
        property(&of_level("system"), Some(level.os.clone()));
        let instead_of = match level.fidelity {
            Fidelity::Product => None,
            Fidelity::Rebuild => Some("rebuild-for"),
            Fidelity::StandIn => Some("stands-in-for"),
        };
        if let Some(instead_of) = instead_of {
            property(&of_level(instead_of), Some(level.required.clone()));
        }
        if let Some(disk) = &level.disk {
            property(&of_level("medium"), Some(disk.medium.clone()));
            property(&of_level("medium-sha256"), Some(disk.medium_sha256.clone()));
            property(&of_level("prepared-image"), level.image.as_ref().map(|image| image.digest.clone()));
        }
        property(&of_level("uefi"), level.uefi.as_ref().map(ToString::to_string));
        property(&of_level("reported-system"), level.seen.system.clone());
        property(&of_level("kernel"), level.seen.kernel.clone());
        property(&of_level("qemu"), level.seen.qemu.clone());
        property(&of_level("cpu"), level.seen.cpu.clone());
    }
    for (number, step) in (1..).zip(&cell.steps) {
        let Some(benchmark) = &step.benchmark else { continue };
        let name = |what: &str| format!("step-{number}.{}.{what}", benchmark.benchmark);
        let word = |level: LevelNumber| level.to_string().to_lowercase();
        for (level, figures) in &benchmark.levels {
            let median = figures.median.map(|median| format!("{} {}", shown_number(median), benchmark.unit));
            property(&name(&word(*level)), median.or_else(|| figures.missing.clone()));
            property(&name(&format!("{}-tool", word(*level))), figures.tool.clone());
        }
        for (of, ratio) in &benchmark.ratios {
            property(&name(&format!("{}-of-{}", word(step.on), word(*of))), Some(ratio.words()));
        }
        property(&name("judgement"), Some(benchmark.judgement.result.to_string()));
    }
    for (name, id) in &cell.ids {
        // An id must not contradict what was seen.
        if case.properties.iter().all(|property| property.name.as_str() != name) {
            case.properties.push(Property::new(name.as_str(), id.as_str()));
        }
    }
    let files = cell.folder.as_ref().map_or_else(String::new, |of_cell| attachments(folder, of_cell));
    if !files.is_empty() {
        case.set_system_out(files);
    }
    case
}

fn status(cell: &CellRecord) -> TestCaseStatus {
    let mut status = match cell.verdict {
        VerdictWord::Pass | VerdictWord::Xfail => return TestCaseStatus::success(),
        VerdictWord::Xpass | VerdictWord::Fail if !cell.is_trouble() => return TestCaseStatus::success(),
        VerdictWord::Skip => TestCaseStatus::skipped(),
        // It ran, but it is neither a success nor a failure, and JUnit has no other word for that.
        VerdictWord::Flaky if !cell.is_trouble() => TestCaseStatus::skipped(),
        VerdictWord::Fail | VerdictWord::Xpass | VerdictWord::Flaky => {
            TestCaseStatus::non_success(NonSuccessKind::Failure)
        }
        VerdictWord::Error => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    status.set_type(cell.verdict.to_string()).set_message(remark(cell));
    let seen: Vec<String> =
        observed(cell).into_iter().chain(cell.levels.iter().filter_map(last_lines)).collect();
    if cell.verdict != VerdictWord::Skip {
        status.set_description(seen.join("\n"));
    }
    status
}

/// The last lines of a level's console, under its name.
fn last_lines(level: &LevelRecord) -> Option<String> {
    let lines: String = level.seen.last_lines.iter().map(|line| format!("  {line}\n")).collect();
    (!lines.is_empty()).then(|| format!("\n{}:\n{lines}", level.level))
}

/// A line for each file of a cell, as the JUnit plug-ins of CI systems read them.
fn attachments(run: &Path, of_cell: &RelativeFolder) -> String {
    let of_cell = of_cell.as_path();
    let files = contained::list(run, of_cell).unwrap_or_default().files.into_iter();
    // The files of earlier attempts are in subfolders.
    let files = files.filter(|file| file.components().count() == 1);
    files.map(|file| format!("[[ATTACHMENT|{}]]\n", run.join(of_cell).join(file).display())).collect()
}
