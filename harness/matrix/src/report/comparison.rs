//! What changed between two sets of results.

use nestmatrix_model::{CaseOutcome, Word as _};
use nestmatrix_stack::Metal;

use crate::records::{CaseChange, CaseChanges, Change, Comparison, PerformanceChange, VerdictWord};

use super::style::{Role, Style};
use super::text::{cut, one_line};

/// What changed, under a heading for each kind of change; empty if nothing changed.
pub fn comparison(comparison: &Comparison, style: &Style) -> String {
    let Comparison { regressions, improvements, flaky, new, gone, cases, performance } = comparison;
    let kinds = [
        ("regressions", regressions),
        ("flaky: known as flaky, or both verdicts were seen with the same software", flaky),
        ("improvements", improvements),
        ("new", new),
        ("gone", gone),
    ];
    let mut out = String::new();
    for (heading, changes) in kinds.into_iter().filter(|(_, changes)| !changes.is_empty()) {
        out.push_str(&format!("{}\n", style.paint(Role::Heading, heading)));
        for change in changes {
            out.push_str(&line(change, style));
        }
        out.push('\n');
    }
    if !cases.is_empty() {
        out.push_str(&format!("{}\n", style.paint(Role::Heading, "test cases")));
        cases.iter().for_each(|of_cell| out.push_str(&changed_cases(of_cell, style)));
        out.push('\n');
    }
    if !performance.is_empty() {
        out.push_str(&format!("{}\n", style.paint(Role::Heading, "performance")));
        performance.iter().for_each(|change| out.push_str(&changed_performance(change, style)));
        out.push('\n');
    }
    out
}

/// A cell, and how the ratio of two of its levels changed.
fn changed_performance(change: &PerformanceChange, style: &Style) -> String {
    let PerformanceChange { cell, step, level, of, before, now, metal } = change;
    let remark = match metal {
        Metal::Emulated => "on emulated metal, which says nothing about hardware",
        Metal::Native if change.is_worse() => "slower",
        Metal::Native => "faster",
    };
    let line =
        format!("{level} of {of}: {} -> {}, {remark}  {}", before.words(), now.words(), one_line(step));
    format!("  {cell}\n    {}\n", cut(&line, style.width.saturating_sub(4).max(1)))
}

/// The most test cases of a cell that are listed.
const LISTED_CASES: usize = 20;

/// A cell, and a line for each of its test cases that changed: those that got worse first.
fn changed_cases(of_cell: &CaseChanges, style: &Style) -> String {
    let mut cases: Vec<&CaseChange> = of_cell.cases.iter().collect();
    cases.sort_by_key(|case| !case.is_worse());
    let word = |outcome: Option<CaseOutcome>| outcome.map_or("none", CaseOutcome::word);
    let width = style.width.saturating_sub(4).max(1);
    let mut out = format!("  {}\n", of_cell.cell);
    for case in cases.iter().take(LISTED_CASES) {
        let line = format!("{} -> {}  {}", word(case.before), word(case.now), one_line(&case.name));
        out.push_str(&format!("    {}\n", cut(&line, width)));
    }
    if cases.len() > LISTED_CASES {
        out.push_str(&format!("    and {} more\n", cases.len() - LISTED_CASES));
    }
    out
}

/// `  pass -> fail  CELL`, and below it the symptom, cut to the width of `style`.
fn line(change: &Change, style: &Style) -> String {
    let word = |verdict: Option<VerdictWord>| match verdict {
        Some(verdict) => style.paint(Role::Verdict(verdict), &verdict.to_string()),
        None => "no verdict".to_owned(),
    };
    let known = change.known.map_or(String::new(), |known| format!(" ({})", known.note()));
    let mut line = format!("  {} -> {}{known}  {}\n", word(change.before), word(change.now), change.cell);
    if let Some(symptom) = &change.symptom {
        line.push_str(&format!("    {}\n", cut(&one_line(symptom), style.width.saturating_sub(4).max(1))));
    }
    line
}
