//! The runs that a merged run consists of, their conflicts, and what is missing.

use crate::records::{CellRecord, Merged, MergedRun, Tally, VerdictWord};

use super::cell::observed;
use super::style::{Role, Style};
use super::table::{Entry, Line, Table};
use super::text::{duration, one_line};

/// The indentation below a heading.
const INDENT: usize = 2;

/// The merged runs, the cells with different verdicts, and what is missing.
pub fn merged(merged: &Merged, style: &Style) -> String {
    let run = &merged.outcome.run;
    let mut out = heading("merged from", style);
    let mut table = Table::default();
    for run in &run.merged {
        let shard = run.shard.map_or(String::new(), |shard| format!("shard {shard}"));
        let entries = [one_line(&run.run), shard, machine(run), counts(&run.verdicts), end(run)];
        table.push(Line::Entries(entries.map(|text| Entry::new(text, Role::Plain)).into()));
    }
    out.push_str(&table.render(INDENT, style));
    if !merged.conflicts.is_empty() {
        out.push_str(&heading("\nconflicting", style));
    }
    for seen in &merged.conflicts {
        out.push_str(&side_by_side(seen, style));
    }
    if !run.missing_shards.is_empty() || !run.missing_cells.is_empty() {
        out.push_str(&heading("\nmissing", style));
        let shards = run.missing_shards.iter().map(|shard| format!("shard {shard}"));
        let cells = run.missing_cells.iter().map(ToString::to_string);
        shards.chain(cells).for_each(|text| out.push_str(&format!("{:INDENT$}{text}\n", "")));
    }
    out
}

fn heading(text: &str, style: &Style) -> String {
    let (before, text) = text.strip_prefix('\n').map_or(("", text), |text| ("\n", text));
    format!("{before}{}\n", style.paint(Role::Heading, text))
}

/// A cell with each of its verdicts, the run that has it, and the symptom.
fn side_by_side(seen: &[CellRecord], style: &Style) -> String {
    let mut table = Table::default();
    for record in seen {
        let verdict = Entry::new(record.verdict.to_string(), Role::Verdict(record.verdict));
        let run = record.run.as_deref().map_or(String::new(), one_line);
        let metal = record.metal.map_or(String::new(), |metal| metal.to_string());
        table.push(Line::Entries(vec![
            verdict,
            Entry::new(run, Role::Plain),
            Entry::new(metal, Role::Plain),
        ]));
        if let Some(observed) = observed(record) {
            table.push(Line::Prose(observed));
        }
    }
    let cell = seen.first().map_or(String::new(), |record| record.cell.to_string());
    format!("{:INDENT$}{cell}\n{}", "", table.render(2 * INDENT, style))
}

fn machine(run: &MergedRun) -> String {
    let machine = &run.machine;
    one_line(&format!("{}, {} x {}", machine.system, machine.cores, machine.processor))
}

/// `6 pass, 3 skip`.
fn counts(tally: &Tally) -> String {
    let Tally { pass, fail, xfail, xpass, flaky, skip, error, .. } = *tally;
    let numbers = [
        (pass, VerdictWord::Pass),
        (fail, VerdictWord::Fail),
        (xfail, VerdictWord::Xfail),
        (xpass, VerdictWord::Xpass),
        (flaky, VerdictWord::Flaky),
        (skip, VerdictWord::Skip),
        (error, VerdictWord::Error),
    ];
    let parts: Vec<String> = numbers
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{number} {word}"))
        .collect();
    if parts.is_empty() { "no verdicts".to_owned() } else { parts.join(", ") }
}

/// How long the run took, and whether it finished.
fn end(run: &MergedRun) -> String {
    let took = duration(run.seconds.max(0.0).round() as u64);
    let Tally { pass, fail, xfail, xpass, flaky, skip, error, .. } = run.verdicts;
    let have = pass + fail + xfail + xpass + flaky + skip + error;
    let resumed = match run.resumed.len() {
        0 => String::new(),
        1 => "; resumed".to_owned(),
        times => format!("; resumed {times} times"),
    };
    let cut_off = match (&run.ended, run.interrupted) {
        (None, _) => format!("; killed with {have} of {} cells", run.cells),
        (Some(_), true) => format!("; interrupted with {have} of {} cells", run.cells),
        (Some(_), false) => String::new(),
    };
    format!("{took}{resumed}{cut_off}")
}
