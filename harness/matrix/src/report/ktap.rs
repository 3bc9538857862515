//! Cells as KTAP, the format of the kernel's tests (kernel: Documentation/dev-tools/ktap.rst).
//!
//! A test point with subtests fails if one of these does. So the verdict of a cell is a subtest, after the stages of its stack.

use std::fmt::Write as _;

use nestmatrix_model::CaseOutcome;
use nestmatrix_stack::Case;

use super::cell::{documented, observed, remark};
use super::html::shown;
use super::layout::counted;
use super::stages::{Part, parts};
use super::text::one_line;
use crate::records::{CellRecord, Overview, VerdictWord};

/// The cells as KTAP: a test point for each, with its stages as subtests, and in these the cases of test suites.
pub fn ktap(overview: &Overview) -> String {
    let without = overview.without_verdict.iter().map(|cell| {
        Point::leaf(cell.as_str(), Status::Error("no verdict: the run ended before the cell".to_owned()))
    });
    let points: Vec<Point> = overview.cells.iter().map(|cell| of_cell(&cell.record)).chain(without).collect();
    let mut out = String::new();
    document(&mut out, 0, &points);
    let _ = writeln!(out, "# {}", counted(&overview.tally()));
    out
}

/// What KTAP can say of a test point, with the reason.
enum Status {
    Pass,
    Fail(String),
    Skip(String),
    Xfail(String),
    Error(String),
}

/// A test point.
struct Point {
    name: String,
    status: Status,
    subtests: Vec<Point>,
}

impl Point {
    fn leaf(name: &str, status: Status) -> Self {
        Self { name: name.to_owned(), status, subtests: Vec::new() }
    }

    /// A test point of which the subtests say everything.
    fn with(name: &str, subtests: Vec<Point>) -> Self {
        let status = match subtests.iter().all(Point::is_ok) {
            true => Status::Pass,
            false => Status::Fail(String::new()),
        };
        Self { name: name.to_owned(), status, subtests }
    }

    fn is_ok(&self) -> bool {
        !matches!(self.status, Status::Fail(_) | Status::Error(_))
    }
}

fn of_cell(record: &CellRecord) -> Point {
    let name = record.cell.as_str();
    if record.verdict == VerdictWord::Skip {
        return Point::leaf(name, status(record));
    }
    let stages = parts(record).into_iter().map(|part| stage(record, &part));
    Point::with(name, stages.chain([Point::leaf("verdict", status(record))]).collect())
}

fn status(record: &CellRecord) -> Status {
    let reason = || format!("{}: {}", record.verdict, remark(record));
    match record.verdict {
        VerdictWord::Skip => Status::Skip(observed(record).unwrap_or_default()),
        VerdictWord::Error => Status::Error(observed(record).unwrap_or_default()),
        _ if record.is_trouble() => Status::Fail(reason()),
        VerdictWord::Xfail => Status::Xfail(format!("documented: {}", documented(record))),
        VerdictWord::Fail | VerdictWord::Flaky => Status::Xfail(reason()),
        VerdictWord::Pass | VerdictWord::Xpass => Status::Pass,
    }
}

fn stage(record: &CellRecord, part: &Part<'_>) -> Point {
    let own = if part.is_stop { status(record) } else { Status::Pass };
    if part.cases.is_empty() {
        return Point::leaf(&part.name, own);
    }
    // The step can stop a stack for another reason than its cases.
    let mut subtests: Vec<Point> = part.cases.iter().map(test_case).collect();
    // What the document says, or what is known, explains the cases too.
    if part.is_stop
        && let Status::Xfail(reason) = &own
    {
        let explained = |point: &mut Point| {
            if let Status::Fail(said) = &point.status {
                point.status = Status::Xfail(format!("{reason}; {said}"));
            }
        };
        subtests.iter_mut().for_each(explained);
    }
    if part.is_stop {
        subtests.push(Point::leaf("step", own));
    }
    Point::with(&part.name, subtests)
}

fn test_case(case: &Case) -> Point {
    let said = || case.said.clone().unwrap_or_default();
    let status = match case.outcome {
        CaseOutcome::Pass => Status::Pass,
        CaseOutcome::Fail => Status::Fail(said()),
        CaseOutcome::Skip => Status::Skip(said()),
        CaseOutcome::KnownFail => Status::Xfail(case.known.clone().unwrap_or_default()),
        CaseOutcome::Error => Status::Error(said()),
    };
    Point::leaf(&case.name, status)
}

/// Writes test points with this indentation.
fn document(out: &mut String, indent: usize, points: &[Point]) {
    let _ = writeln!(out, "{:indent$}KTAP version 1\n{:indent$}1..{}", "", "", points.len());
    for (number, point) in (1..).zip(points) {
        if !point.subtests.is_empty() {
            document(out, indent + 2, &point.subtests);
        }
        // Like the kernel's own library, this prints `ok` for a failure that is expected.
        let (directive, reason) = match &point.status {
            Status::Pass => ("", ""),
            Status::Fail(reason) => ("", reason.as_str()),
            Status::Skip(reason) => (" # SKIP", reason.as_str()),
            Status::Xfail(reason) => (" # XFAIL", reason.as_str()),
            Status::Error(reason) => (" # ERROR", reason.as_str()),
        };
        let reason = safe(reason);
        // KTAP has no word for a failure, so its reason is a line before it.
        if directive.is_empty() && !reason.is_empty() {
            let _ = writeln!(out, "{:indent$}# {reason}", "");
        }
        let ok = if point.is_ok() { "ok" } else { "not ok" };
        // A description can't have this character.
        let name = safe(&point.name).replace('#', "_");
        let rest = if directive.is_empty() { String::new() } else { format!("{directive} {reason}") };
        let _ = writeln!(out, "{:indent$}{ok} {number} {name}{}", "", rest.trim_end());
    }
}

/// Text that a guest may have printed, on one line and without what a reader could take for something else.
fn safe(text: &str) -> String {
    shown(&one_line(text))
}
