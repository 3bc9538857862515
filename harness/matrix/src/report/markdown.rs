//! An overview as Markdown (GitHub's and GitLab's, with tables), for a document or an issue.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::cell::{attempts, documented, observed, remark, tiers, verdict};
use super::layout::{DocumentPart, Layout, ScenarioPart, counted};
use super::matrix::ran;
use super::mutation::{PENDING, counted as counted_mutants, is_trouble, wanted};
use super::other_systems::{OtherSystem, other_systems};
use super::text::one_line;
use crate::records::{
    CellMutation, DiskRecord, LevelRecord, MutantOutcome, MutationTally, Overview, OverviewCell, OverviewRun,
};
use crate::scenario::{Coverage, Matrix};

/// The number of console lines that are shown.
const CONSOLE_LINES: usize = 10;

/// The matrix by document and scenario, and what needs attention.
pub fn markdown(overview: &Overview, matrix: &Matrix) -> String {
    let layout = Layout::new(overview, matrix);
    let mut out = format!("# nestmatrix: {}\n\n", counted(&overview.tally()));
    for OverviewRun { record: run, mutants_pending, .. } in &overview.runs {
        let machine = &run.machine;
        let facts = [&run.began, &machine.system, &machine.processor, &machine.kernel];
        let facts: Vec<String> = facts.into_iter().chain(&run.emulators).map(|fact| escaped(fact)).collect();
        let end = end(run.interrupted, &run.ended);
        let pending = if *mutants_pending { format!("; **{PENDING}**") } else { String::new() };
        let _ = writeln!(out, "- {}: {}{end}{pending}", code(&run.run), facts.join(", "));
    }
    for document in layout.documents() {
        out.push_str(&section(&layout, &document));
    }
    out.push_str(&legend(overview));
    let trouble: Vec<&OverviewCell> = overview.cells.iter().filter(|cell| cell.is_trouble()).collect();
    if !trouble.is_empty() {
        out.push_str("\n## Needs attention\n");
        trouble.iter().for_each(|cell| out.push_str(&particulars(overview, cell)));
    }
    out.push_str(&mutations(overview));
    if !overview.without_verdict.is_empty() {
        out.push_str("\n## Without a verdict\n\n");
        overview.without_verdict.iter().for_each(|cell| {
            let _ = writeln!(out, "- {}", code(cell.as_str()));
        });
    }
    out
}

/// The mutants that need attention or are accepted, and the number of mutants of each cell.
fn mutations(overview: &Overview) -> String {
    let cells = &overview.mutations;
    if cells.is_empty() {
        return String::new();
    }
    let mut out = format!("\n## Mutations\n\n{}\n", counted_mutants(&MutationTally::of(cells)));
    let of = |outcome| {
        let with_cell = |cell: &'_ CellMutation| {
            let results = cell.results.iter().filter(|result| result.outcome == outcome);
            results.map(|result| (cell.cell.clone(), result.clone())).collect::<Vec<_>>()
        };
        cells.iter().flat_map(with_cell).collect::<Vec<_>>()
    };
    let shown = [MutantOutcome::Survived, MutantOutcome::Undecided, MutantOutcome::Accepted].map(of).concat();
    if !shown.is_empty() {
        out.push_str("\n| outcome | cell | mutation | damage | verdict | seen |\n");
        out.push_str("| --- | --- | --- | --- | --- | --- |\n");
    }
    for (cell, result) in &shown {
        let word = result.outcome.word();
        let word = if is_trouble(result) { format!("**{word}**") } else { word.to_owned() };
        let verdict = result.verdict.map_or(String::new(), |verdict| verdict.to_string());
        let verdict = result.stage.map_or(verdict.clone(), |stage| format!("{verdict} at {stage}"));
        let accepted = result.accepted.as_ref().map(|why| format!("accepted: {why}"));
        let seen: Vec<String> =
            [&result.symptom, &accepted].into_iter().flatten().map(|text| escaped(text)).collect();
        let (damage, wanted) = (escaped(&result.damage), wanted(result));
        let mutation = code(&result.mutation);
        let _ = writeln!(
            out,
            "| {word} | {} | {mutation} | {damage}; {wanted} | {verdict} | {} |",
            code(cell.as_str()),
            seen.join("<br>")
        );
    }
    out.push_str("\n| cell | without damage | killed | survived | accepted | undecided | not tried |\n");
    out.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    for cell in cells {
        let counts = [
            MutantOutcome::Killed,
            MutantOutcome::Survived,
            MutantOutcome::Accepted,
            MutantOutcome::Undecided,
            MutantOutcome::NotTried,
        ];
        let counts: Vec<String> = counts.map(|outcome| cell.count(outcome).to_string()).into();
        let (name, verdict) = (code(cell.cell.as_str()), cell.original.verdict);
        let _ = writeln!(out, "| {name} | {verdict} | {} |", counts.join(" | "));
    }
    out
}

fn end(interrupted: bool, ended: &Option<String>) -> &'static str {
    match ended {
        None => "; not finished",
        Some(_) if interrupted => "; interrupted",
        Some(_) => "",
    }
}

fn section(layout: &Layout<'_>, part: &DocumentPart<'_>) -> String {
    let mut out =
        format!("\n## {}\n\n{}: {}\n", escaped(&part.heading()), code(part.id), counted(&part.tally()));
    let claims = layout.coverage(&part.claims());
    if !claims.is_empty() {
        let _ = write!(out, "\nTried claims: {}\n", Coverage::counted(&claims, false));
    }
    part.scenarios.iter().for_each(|scenario| out.push_str(&table(layout, scenario)));
    out
}

fn table(layout: &Layout<'_>, part: &ScenarioPart<'_>) -> String {
    let title = part.scenario.map_or(String::new(), |scenario| format!(": {}", escaped(&scenario.title)));
    let mut out = format!("\n### {}{title}\n\n", escaped(part.name));
    if let Some((_, first)) = part.cells.first() {
        let tiers = tiers(part.cells.iter().map(|(_, cell)| &cell.record));
        let _ = writeln!(out, "{tiers}, expected: {}\n", escaped(&documented(&first.record)));
    }
    let depth = part.cells.iter().map(|(_, cell)| layout.systems(cell).len()).max().unwrap_or(0);
    let levels: String = (0..depth).map(|level| format!(" L{level} |")).collect();
    let _ = writeln!(out, "| architecture |{levels} metal | verdict | seen |");
    let _ = writeln!(out, "|{}", " --- |".repeat(depth + 4));
    for (_, cell) in &part.cells {
        let record = &cell.record;
        let mut systems: Vec<String> = layout.systems(cell).iter().map(|system| escaped(system)).collect();
        for (system, level) in systems.iter_mut().zip(&record.levels) {
            let _ = write!(system, "<br>{}", escaped(&ran(level)));
        }
        systems.resize(depth, String::new());
        let metal = record.metal.map_or(String::new(), |metal| metal.to_string());
        let word = verdict(record);
        let word = if cell.is_trouble() { format!("**{word}**") } else { word };
        let seen = match remark(record) {
            seen if seen.is_empty() => seen,
            seen => code(&seen).replace('|', "\\|"),
        };
        let _ = writeln!(
            out,
            "| {} | {} | {metal} | {word} | {seen} |",
            record.architecture,
            systems.join(" | ")
        );
    }
    out
}

/// What the marks mean.
fn legend(overview: &Overview) -> String {
    let others = other_systems(overview.cells.iter().flat_map(|cell| &cell.record.levels));
    let line = |other: &OtherSystem<'_>| {
        format!("\n{} {}\n", escaped(other.fidelity.mark()), escaped(&other.to_string()))
    };
    let mut out: String = others.iter().map(line).collect();
    let levels = overview.cells.iter().flat_map(|cell| &cell.record.levels);
    let disks: BTreeSet<(&str, &DiskRecord)> =
        levels.filter_map(|level| Some((level.os.as_str(), level.disk.as_ref()?))).collect();
    for (os, disk) in disks {
        let _ = writeln!(out, "\n{}: {}", escaped(os), escaped(&disk.to_string()));
    }
    out
}

/// The details of a cell that needs attention.
fn particulars(overview: &Overview, cell: &OverviewCell) -> String {
    let record = &cell.record;
    let mut out = format!("\n### {}: {}\n\n", verdict(record), code(record.cell.as_str()));
    let _ = writeln!(out, "- documented: {}", code(&documented(record)));
    if let Some(known) = record.known_text() {
        let _ = writeln!(out, "- known: {}", code(&known));
    }
    if let Some(model) = &record.cpu_model {
        let _ = writeln!(out, "- CPU model: {}", code(model));
    }
    let works = || "works: the limitation is gone".to_owned();
    let _ = writeln!(out, "- observed: {}", code(&observed(record).unwrap_or_else(works)));
    if let Some(attempts) = attempts(record) {
        let _ = writeln!(out, "- attempts: {attempts}");
    }
    record.levels.iter().for_each(|level| {
        let _ = writeln!(out, "- {}: {}", level.level, versions(level));
    });
    let _ = writeln!(out, "- run it again: {}", code(&super::command::again(overview, cell)));
    // If the level printed nothing, for example because its QEMU did not start, the next outer level that did.
    let outwards = record.levels.iter().rev().filter(|level| record.level.is_none_or(|of| level.level <= of));
    if let Some(level) = outwards.into_iter().find(|level| !level.seen.last_lines.is_empty()) {
        let lines = &level.seen.last_lines;
        let last: Vec<String> =
            lines[lines.len().saturating_sub(CONSOLE_LINES)..].iter().map(|line| one_line(line)).collect();
        let _ = write!(out, "\nLast lines of {}'s console:\n\n{}", level.level, fenced(&last.join("\n")));
    }
    out
}

fn versions(level: &LevelRecord) -> String {
    let seen = &level.seen;
    let qemu = seen.qemu.as_ref().map(|qemu| format!("QEMU {qemu}"));
    let uefi = level.uefi.as_ref().map(ToString::to_string);
    let facts = [Some(ran(level)), seen.kernel.clone(), qemu, seen.machine.clone(), uefi, seen.cpu.clone()];
    facts.into_iter().flatten().map(|fact| escaped(&fact)).collect::<Vec<_>>().join(", ")
}

/// Text in which Markdown and HTML see only text.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // Both would become links.
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// Text as code. The fence is longer than any run of backticks in the text.
fn code(text: &str) -> String {
    let text = one_line(text);
    let fence = "`".repeat(longest_run(&text) + 1);
    if text.starts_with('`') || text.ends_with('`') || text.is_empty() {
        format!("{fence} {text} {fence}")
    } else {
        format!("{fence}{text}{fence}")
    }
}

/// Lines as a code block.
fn fenced(text: &str) -> String {
    let fence = "`".repeat((longest_run(text) + 1).max(3));
    format!("{fence}text\n{text}\n{fence}\n")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}
