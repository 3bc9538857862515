//! `diff`: compares two runs.

use std::path::Path;
use std::process::ExitCode;

use nestmatrix::records::{CaseChange, CaseChanges, Change, Comparison, Known, PerformanceChange};
use nestmatrix::report;
use serde_json::json;

use crate::baseline;
use crate::cli::{Diff, Format};
use crate::exit::Failure;
use crate::input;
use crate::terminal::{print, style_of};

pub fn run(arguments: &Diff) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.folder();
    let read = |run: &Path| input::past_run(run, &in_results);
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    let comparison = baseline::compare(&before, &after, &in_results);
    match arguments.format {
        Format::Text => {
            let text = report::comparison(&comparison, &style_of(&std::io::stdout()));
            print(if text.is_empty() { "nothing changed\n" } else { &text });
        }
        Format::Json => {
            let Comparison { regressions, improvements, flaky, new, gone, cases, performance } = &comparison;
            let kinds = [
                ("regression", regressions),
                ("flaky", flaky),
                ("improvement", improvements),
                ("new", new),
                ("gone", gone),
            ];
            for (kind, changes) in kinds {
                changes.iter().for_each(|change| print(&line(kind, change)));
            }
            cases.iter().for_each(|of_cell| print(&lines_of_cases(of_cell)));
            performance.iter().for_each(|change| print(&line_of_performance(change)));
        }
    }
    Ok(if comparison.is_worse() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// A line for each test case that changed.
fn lines_of_cases(CaseChanges { cell, cases }: &CaseChanges) -> String {
    let line = |case: &CaseChange| {
        let change = if case.is_worse() { "case-regression" } else { "case" };
        json!({ "change": change, "cell": cell, "case": case.name, "before": case.before, "now": case.now })
    };
    cases.iter().map(|case| format!("{}\n", line(case))).collect()
}

fn line_of_performance(change: &PerformanceChange) -> String {
    let kind = if change.is_worse() { "performance-regression" } else { "performance" };
    let PerformanceChange { cell, step, level, of, before, now, metal } = change;
    let line = json!({
        "change": kind, "cell": cell, "step": step, "level": level, "of": of, "before": before, "now": now, "metal": metal,
    });
    format!("{line}\n")
}

fn line(kind: &str, change: &Change) -> String {
    let Change { cell, before, now, known, is_bad: _, symptom } = change;
    let line = json!({
        "change": kind, "cell": cell, "before": before, "now": now,
        "known_stale": *known == Some(Known::Stale), "known": known, "symptom": symptom,
    });
    format!("{line}\n")
}
