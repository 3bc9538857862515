//! The matrix after a run: its cells as the documents lay them out, each with its verdict.

use crate::records::{CellRecord, Known, LevelRecord, Outcome, Tally, VerdictWord};
use nestmatrix_model::PROGRAM;

use super::cell::{documented, remark, tiers, verdict};
use super::other_systems::{OtherSystem, other_systems};
use super::style::{Role, Style};
use super::table::{Entry, Line, Table};
use super::text::{duration, grouped, one_line, wrapped};
use super::trouble::trouble;

/// The indentation of a table below the name of its scenario.
const INDENT: usize = 4;

/// The most skipped cells that are shown. More of them would hide the cells that ran.
const SKIPPED: usize = 12;

/// The results of a run: a table for each scenario, the details of every verdict that needs attention, and the number of cells
/// with each verdict.
pub fn matrix(outcome: &Outcome, style: &Style) -> String {
    let records = &outcome.records;
    let mut out = String::new();
    let skipped = records.iter().filter(|record| record.verdict == VerdictWord::Skip).count();
    let shown = |record: &&CellRecord| skipped <= SKIPPED || record.verdict != VerdictWord::Skip;
    for (document, records) in grouped(records.iter().filter(shown), |record| &record.document) {
        out.push_str(&style.paint(Role::Heading, document));
        out.push_str("\n\n");
        for (scenario, records) in grouped(records, |record| &record.scenario) {
            if let Some(first) = records.first() {
                let tiers = tiers(records.iter().copied());
                let about = format!("{scenario}: {tiers}, expected: {}", documented(first));
                out.push_str(&format!("  {}\n\n", wrapped(&about, 2, 2, style.width)));
            }
            out.push_str(&scenario_table(&records, style));
            out.push('\n');
        }
    }
    if skipped > SKIPPED {
        let text = format!(
            "{skipped} skipped cells are not shown; `{PROGRAM} list --skipped` shows them with their causes"
        );
        out.push_str(&format!("{}\n\n", wrapped(&text, 0, 0, style.width)));
    }
    out.push_str(&legend(records, style));
    for record in records {
        out.push_str(&trouble(record, &outcome.folder, style));
    }
    out.push_str(&summary(outcome, style));
    out
}

/// The cells of a scenario: a table, or a list if the terminal is too narrow for the table.
fn scenario_table(records: &[&CellRecord], style: &Style) -> String {
    let depth = records.iter().map(|record| systems(record).len()).max().unwrap_or(0);
    let mut table = Table::default();
    let quiet = |text: String| Entry::new(text, Role::Quiet);
    let levels = (0..depth).map(|level| quiet(format!("L{level}")));
    let ends = [quiet("metal".into()), quiet("verdict".into()), Entry::right("seconds", Role::Quiet)];
    table.push(Line::Entries(
        std::iter::once(quiet("architecture".into())).chain(levels).chain(ends).collect(),
    ));
    for record in records {
        let mut systems: Vec<Entry> =
            systems(record).into_iter().map(|system| Entry::new(system, Role::Plain)).collect();
        systems.resize(depth, Entry::new("", Role::Plain));
        let ends = [
            Entry::new(metal(record), Role::Plain),
            Entry::new(verdict(record), Role::Verdict(record.verdict)),
            Entry::right(seconds(record), Role::Plain),
        ];
        let architecture = Entry::new(record.architecture.to_string(), Role::Plain);
        table.push(Line::Entries(std::iter::once(architecture).chain(systems).chain(ends).collect()));
        if !record.levels.is_empty() {
            let ran = record.levels.iter().map(|level| Entry::new(ran(level), Role::Quiet));
            table.push(Line::Entries(std::iter::once(Entry::new("", Role::Plain)).chain(ran).collect()));
        }
        push_remark(&mut table, record);
    }
    if INDENT + table.width() <= style.width {
        table.render(INDENT, style)
    } else {
        records.iter().map(|record| list_entry(record, style)).collect()
    }
}

fn list_entry(record: &CellRecord, style: &Style) -> String {
    let seconds = match seconds(record) {
        seconds if seconds.is_empty() => seconds,
        seconds => format!("{seconds} s"),
    };
    let facts = [record.architecture.to_string(), metal(record), seconds];
    let facts: Vec<String> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    let verdict = style.paint(Role::Verdict(record.verdict), &verdict(record));
    let mut table = Table::default();
    for (level, system) in systems(record).into_iter().enumerate() {
        let ran = record.levels.get(level).map_or(String::new(), ran);
        let level = Entry::new(format!("L{level}"), Role::Quiet);
        table.push(Line::Entries(vec![level, Entry::new(system, Role::Plain), Entry::new(ran, Role::Quiet)]));
    }
    push_remark(&mut table, record);
    format!("{:INDENT$}{verdict}: {}\n{}", "", facts.join(", "), table.render(INDENT + 2, style))
}

fn push_remark(table: &mut Table, record: &CellRecord) {
    let remark = remark(record);
    match record.verdict {
        _ if remark.is_empty() => {}
        // New results are described below the tables. A known one is described only here.
        _ if record.known().is_some_and(|known| known != Known::CameBack) => table.push(Line::Prose(remark)),
        _ => table.push(Line::Remark(remark)),
    }
}

/// The system that the document requires on each level. For a cell that did not run, it is taken from the cell's name.
fn systems(record: &CellRecord) -> Vec<String> {
    if record.levels.is_empty() {
        record.cell.as_str().split('/').skip(2).map(str::to_owned).collect()
    } else {
        required_systems(record)
    }
}

/// The system that the document requires on each level that a record has, in short. In a sweep, the innermost one has its CPU model.
pub(super) fn required_systems(record: &CellRecord) -> Vec<String> {
    let mut systems: Vec<String> =
        record.levels.iter().map(|level| short(&one_line(&level.required))).collect();
    if let (Some(innermost), Some(model)) = (systems.last_mut(), &record.cpu_model) {
        innermost.push_str(&format!(", {}", one_line(model)));
    }
    systems
}

/// `RHEL 9.2+` for `RHEL 9.2 and later`.
pub(super) fn short(required: &str) -> String {
    match required.strip_suffix(" and later") {
        Some(first) => format!("{first}+"),
        None => required.to_owned(),
    }
}

/// The system that ran, with the mark of its fidelity.
pub(super) fn ran(level: &LevelRecord) -> String {
    format!("{}{}", level.os, level.fidelity.mark())
}

fn metal(record: &CellRecord) -> String {
    record.metal.map_or(String::new(), |metal| metal.to_string())
}

fn seconds(record: &CellRecord) -> String {
    if record.attempts.is_empty() { String::new() } else { format!("{:.1}", record.seconds()) }
}

/// What the marks mean: every system that ran instead of a documented one, with the reason.
fn legend(records: &[CellRecord], style: &Style) -> String {
    let others = other_systems(records.iter().flat_map(|record| &record.levels));
    let line = |other: &OtherSystem<'_>| {
        let text = one_line(&other.to_string());
        format!("{} {}\n", other.fidelity.mark(), wrapped(&text, 2, 0, style.width))
    };
    let out: String = others.iter().map(line).collect();
    if out.is_empty() { out } else { out + "\n" }
}

/// The last line: `6 pass, 3 skip in 3 min 12 s`.
fn summary(outcome: &Outcome, style: &Style) -> String {
    let tally = outcome.run.verdicts;
    let Tally {
        pass,
        righted,
        fail,
        known_wrong,
        came_back,
        xfail,
        xpass,
        known_stale,
        flaky,
        known_flaky,
        skip,
        error,
    } = tally;
    let new_fail = fail.saturating_sub(known_wrong).saturating_sub(came_back);
    let numbers = [
        (VerdictWord::Pass, pass.saturating_sub(righted), ""),
        (VerdictWord::Pass, righted, Known::Righted.note()),
        (VerdictWord::Fail, new_fail, ""),
        (VerdictWord::Fail, came_back, Known::CameBack.note()),
        (VerdictWord::Fail, known_wrong, Known::Wrong.note()),
        (VerdictWord::Xfail, xfail, ""),
        (VerdictWord::Xpass, xpass.saturating_sub(known_stale), ""),
        (VerdictWord::Xpass, known_stale, Known::Stale.note()),
        (VerdictWord::Flaky, flaky.saturating_sub(known_flaky), ""),
        (VerdictWord::Flaky, known_flaky, Known::Flaky.note()),
        (VerdictWord::Skip, skip, ""),
        (VerdictWord::Error, error, ""),
    ];
    let parts: Vec<String> = numbers
        .iter()
        .filter(|(_, number, _)| *number > 0)
        .map(|(word, number, note)| {
            let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
            style.paint(Role::Verdict(*word), &format!("{number} {word}{note}"))
        })
        .collect();
    let verdicts = if parts.is_empty() { "no verdicts".to_owned() } else { parts.join(", ") };
    let took = duration(outcome.took.as_secs_f64().round() as u64);
    let end = if outcome.run.interrupted {
        "; interrupted: cells that are not listed have no verdict"
    } else if skip > 0 && parts.len() == 1 {
        "; no cell ran"
    } else {
        ""
    };
    let restored = outcome.records.iter().filter(|record| record.restored.is_some()).count();
    let restored = if restored > 0 { format!("; {restored} restored from snapshots") } else { String::new() };
    format!("{verdicts} in {took}{restored}{end}\n")
}
