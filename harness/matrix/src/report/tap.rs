//! Cells as TAP, version 14 (<https://testanything.org/tap-version-14-specification.html>), which many test tools read.
//!
//! A TODO of TAP is a test that is expected to fail, as is a documented limitation. docs/reports.md has the whole mapping.

use std::fmt::Write as _;

use crate::records::{CellRecord, Overview, OverviewCell, VerdictWord};

use super::cell::{attempts, claims, documented, observed, tiers};
use super::html::shown;
use super::layout::counted;
use super::matrix::ran;
use super::other_systems::other_systems;
use super::test_cases::subtest;
use super::text::one_line;

/// The cells as TAP: a test point a cell, with its details in YAML. Cases of test suites are subtests. A plan with more tests than test points is TAP's way to say
/// that something is missing.
pub fn tap(overview: &Overview) -> String {
    let missing = overview.without_verdict.len();
    let mut out = format!("TAP version 14\n1..{}\n", overview.cells.len() + missing);
    for run in &overview.runs {
        let run = &run.record;
        let machine = &run.machine;
        let text = format!("run {}, began {}, {}, {}", run.run, run.began, machine.system, machine.processor);
        let _ = writeln!(out, "# {}", one_line(&text));
    }
    for (index, cell) in overview.cells.iter().enumerate() {
        let (ok, directive) = result(cell);
        let ok = if ok { "ok" } else { "not ok" };
        out.push_str(&subtest(&cell.record));
        let _ = writeln!(out, "{ok} {} - {}{directive}", index + 1, escaped(cell.record.cell.as_str()));
        out.push_str(&diagnostics(overview, cell));
    }
    for cell in &overview.without_verdict {
        let _ = writeln!(out, "# no verdict: {cell}");
    }
    for other in other_systems(overview.cells.iter().flat_map(|cell| &cell.record.levels)) {
        let _ = writeln!(out, "# {} {}", other.fidelity.mark(), shown(&one_line(&other.to_string())));
    }
    let _ = writeln!(out, "# {}", counted(&overview.tally()));
    out
}

/// Whether the test point is `ok`, and its directive.
fn result(cell: &OverviewCell) -> (bool, String) {
    let record = &cell.record;
    match record.verdict {
        VerdictWord::Pass => (true, todo(record)),
        // A failure that is known is a TODO too.
        VerdictWord::Fail if !record.is_trouble() => (false, todo(record)),
        // Nothing follows from a result that is known to be flaky.
        VerdictWord::Flaky if !record.is_trouble() => (false, todo(record)),
        VerdictWord::Fail | VerdictWord::Flaky | VerdictWord::Error => (false, String::new()),
        VerdictWord::Xfail => (false, format!(" # TODO documented: {}", escaped(&documented(record)))),
        VerdictWord::Xpass if !record.is_trouble() => (true, todo(record)),
        // A TODO that succeeds does not fail a run, but a new xpass does.
        VerdictWord::Xpass => (false, String::new()),
        VerdictWord::Skip => (true, format!(" # SKIP {}", escaped(&observed(record).unwrap_or_default()))),
    }
}

/// The directive for what the scenario knows about this verdict, if anything.
fn todo(record: &CellRecord) -> String {
    record.known_text().map_or(String::new(), |known| format!(" # TODO {}", escaped(&one_line(&known))))
}

/// Escapes what TAP would read as the beginning of a directive.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('#', "\\#")
}

fn diagnostics(overview: &Overview, cell: &OverviewCell) -> String {
    let record = &cell.record;
    let mut out = "  ---\n".to_owned();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(out, "  {name}: {}", scalar(&value));
        }
    };
    line("verdict", Some(record.verdict.to_string()));
    line("known", record.known().map(|known| known.note().to_owned()));
    line("expected", Some(documented(record)));
    line("observed", observed(record));
    line("document", Some(record.document.clone()));
    line("claims", Some(claims(record)));
    line("tier", Some(tiers([record])));
    line("metal", record.metal.map(|metal| metal.to_string()));
    line("attempts", attempts(record));
    line("run", Some(overview.run_of(cell).to_owned()));
    line("folder", overview.folder(cell).map(|folder| folder.display().to_string()));
    if !record.attempts.is_empty() {
        let _ = writeln!(out, "  duration_ms: {:.0}", record.seconds().max(0.0) * 1000.0);
    }
    if !record.levels.is_empty() {
        out.push_str("  levels:\n");
    }
    for level in &record.levels {
        let _ = writeln!(out, "    {}:", level.level.to_string().to_lowercase());
        let seen = &level.seen;
        let (disk, uefi) =
            (level.disk.as_ref().map(ToString::to_string), level.uefi.as_ref().map(ToString::to_string));
        let facts = [
            ("required", Some(&level.required)),
            ("system", Some(&ran(level))),
            ("disk", disk.as_ref()),
            ("uefi", uefi.as_ref()),
            ("reported_system", seen.system.as_ref()),
            ("kernel", seen.kernel.as_ref()),
            ("qemu", seen.qemu.as_ref()),
            ("machine", seen.machine.as_ref()),
            ("cpu", seen.cpu.as_ref()),
        ];
        for (name, value) in facts.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let _ = writeln!(out, "      {name}: {}", scalar(value));
        }
        if cell.is_trouble() && !seen.last_lines.is_empty() {
            out.push_str("      console:\n");
            seen.last_lines.iter().for_each(|text| {
                let _ = writeln!(out, "        - {}", scalar(text));
            });
        }
    }
    out.push_str("  ...\n");
    out
}

/// Text as a double-quoted scalar of YAML, on one line. In this form, YAML is JSON except for unprintable characters.
fn scalar(text: &str) -> String {
    let json = serde_json::Value::from(one_line(text)).to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}
