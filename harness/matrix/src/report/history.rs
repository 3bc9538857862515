//! The history of a cell: the changes of its verdict with the software before and after, whether it is flaky, and how long it takes.

use std::collections::BTreeSet;

use nestmatrix_model::Fidelity;

use super::style::{Role, Style};
use super::table::{Entry, Line, Table};
use super::text::{cut, one_line, wrapped};
use crate::history::{CellHistory, Difference, Disagreement, Durations, HistoryEntry, VerdictChange};
use crate::records::{Known, VerdictWord};

/// The indentation below a cell's name.
const INDENT: usize = 2;
/// The most durations that are drawn. Older ones are left out.
const DRAWN: usize = 40;
/// The number of hexadecimal digits of a digest that are shown.
const DIGITS: usize = 12;
/// From short to long.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The history of a cell.
pub fn cell_history(history: &CellHistory, style: &Style) -> String {
    let mut out = format!("{}\n", style.paint(Role::Heading, history.cell.as_str()));
    if let Some(last) = &history.last {
        out.push_str(&line(&format!("seen {}, last {}", times(history), head(last)), style));
        out.push_str(&symptom(last, 2 * INDENT, style));
    }
    let tried = history.entries - history.skipped;
    if history.changes.is_empty() && tried > 1 {
        out.push_str(&line("the verdict never changed", style));
    }
    if let (Some(last), true) = (history.last.as_ref().filter(|_| tried > 0), history.changes.is_empty()) {
        out.push_str(&software(last, style));
    }
    for change in &history.changes {
        out.push_str(&changed(change, style));
    }
    for disagreement in &history.flaky {
        out.push_str(&flaky(disagreement, style));
    }
    out.push_str(&legend(history, style));
    if !history.durations.is_empty() {
        out.push('\n');
        out.push_str(&durations(&history.durations, style));
    }
    out
}

/// The differences, one a line, without indentation.
fn differences(differences: &[Difference]) -> Vec<String> {
    let short = |what: &str, text: &str| match what {
        "image" => text.chars().take(DIGITS).collect(),
        _ => one_line(text),
    };
    let line = |difference: &Difference| {
        let Difference { level, what, before, after } = difference;
        let of = level.map_or(String::new(), |level| format!("{level}'s "));
        format!("{of}{what}: {} -> {}", short(what, before), short(what, after))
    };
    differences.iter().map(line).collect()
}

fn times(history: &CellHistory) -> String {
    let times = |number: usize| if number == 1 { "once".to_owned() } else { format!("{number} times") };
    let tried = history.entries - history.skipped;
    match (tried, history.skipped) {
        (tried, 0) => times(tried),
        (0, skipped) => format!("{}, always skipped", times(skipped)),
        (tried, skipped) => format!("{} and skipped {}", times(tried), times(skipped)),
    }
}

/// `2026-11-22T14:31:04Z fail at l1-boot, in run 2026-11-22T14-31-04Z`.
fn head(entry: &HistoryEntry) -> String {
    // Older versions of nestmatrix recorded only this.
    let stale = entry.known_stale && entry.verdict == VerdictWord::Xpass;
    let known = entry.known.or(stale.then_some(Known::Stale));
    let known = known.map_or(String::new(), |known| format!(" ({})", known.note()));
    let stage = entry.stage.map_or(String::new(), |stage| format!(" at {stage}"));
    let (seen, run) = (one_line(&entry.seen), one_line(&entry.run));
    format!("{seen} {}{known}{stage}, in run {run}", entry.verdict)
}

/// The symptom, on its own line.
fn symptom(entry: &HistoryEntry, indent: usize, style: &Style) -> String {
    let Some(symptom) = &entry.symptom else { return String::new() };
    format!("{:indent$}{}\n", "", cut(&one_line(symptom), style.width.saturating_sub(indent).max(1)))
}

fn line(text: &str, style: &Style) -> String {
    format!("{:INDENT$}{}\n", "", wrapped(text, INDENT, 2, style.width))
}

/// The verdict before and after, the software, and its differences.
fn changed(change: &VerdictChange, style: &Style) -> String {
    let VerdictChange { before, after, differences: differ } = change;
    let word = |entry: &HistoryEntry| style.paint(Role::Verdict(entry.verdict), &entry.verdict.to_string());
    let mut out = format!("\n{:INDENT$}{} -> {}\n", "", word(before), word(after));
    for (label, entry) in [("before", before), ("after", after)] {
        let text = format!("{label:<7} {}", head(entry));
        out.push_str(&format!("{:4}{}\n", "", cut(&text, style.width.saturating_sub(4).max(1))));
        out.push_str(&symptom(entry, 3 * INDENT, style));
        // Software that did not change is shown once.
        if label == "after" || !differ.is_empty() {
            out.push_str(&software(entry, style));
        }
    }
    let differ = differences(differ);
    if differ.is_empty() {
        out.push_str(&format!("{:4}nothing else that is recorded changed\n", ""));
    }
    for difference in differ {
        out.push_str(&format!("{:4}{}\n", "", cut(&difference, style.width.saturating_sub(4).max(1))));
    }
    out
}

/// The software of each level.
fn software(entry: &HistoryEntry, style: &Style) -> String {
    let mut table = Table::default();
    for level in &entry.with.levels {
        let known = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), one_line);
        // The distribution's package version follows, which the image identifies already.
        let qemu = format!("QEMU {}", known(&level.qemu).split(' ').next().unwrap_or("-"));
        let emulator = entry.with.emulator.as_ref().filter(|_| level.level.below().is_none());
        let entries = [
            level.level.to_string(),
            format!("{}{}", one_line(&level.os), level.fidelity.map_or("", Fidelity::mark)),
            format!("Linux {}", known(&level.kernel)),
            emulator.map_or(qemu, |emulator| one_line(emulator)),
            level.image.as_deref().map_or(String::new(), |image| {
                format!("image {}", one_line(image).chars().take(DIGITS).collect::<String>())
            }),
        ];
        table.push(Line::Entries(entries.map(|text| Entry::new(text, Role::Quiet)).into()));
    }
    table.render(3 * INDENT, style)
}

/// What the marks behind the systems mean.
fn legend(history: &CellHistory, style: &Style) -> String {
    let changed = history.changes.iter().flat_map(|change| [&change.before, &change.after]);
    let entries = changed.chain(&history.last);
    let used: BTreeSet<Fidelity> =
        entries.flat_map(|entry| &entry.with.levels).filter_map(|level| level.fidelity).collect();
    let meaning = |fidelity: Fidelity| match fidelity {
        Fidelity::Product => None,
        Fidelity::Rebuild => Some("a rebuild of the documented system"),
        Fidelity::StandIn => Some("stands in for the documented system"),
    };
    let lines = used.into_iter().filter_map(|used| Some(format!("{} {}", used.mark(), meaning(used)?)));
    let lines: String = lines.map(|text| line(&text, style)).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

fn flaky(disagreement: &Disagreement, style: &Style) -> String {
    let Disagreement { verdicts, runs, symptoms } = disagreement;
    let [before, after] = [0, 1].map(|index: usize| {
        let symptom =
            symptoms[index].as_ref().map_or(String::new(), |symptom| format!(" ({})", one_line(symptom)));
        format!("{}{symptom}", verdicts[index])
    });
    let [first, second] = runs.each_ref().map(|run| one_line(run));
    let text = if first == second {
        format!("flaky: within run {first}, {before} and then {after}")
    } else {
        format!("flaky: {before} in run {first} and {after} in run {second}, with the same software")
    };
    format!("\n{}", line(&text, style))
}

fn durations(all: &[Durations], style: &Style) -> String {
    let mut table = Table::default();
    let mut heading = vec![Entry::new("seconds", Role::Quiet)];
    heading.extend(["median", "min", "max", "last", "times"].map(|text| Entry::right(text, Role::Quiet)));
    table.push(Line::Entries(heading));
    for of in all {
        let metal = of.metal.map_or("unknown metal".to_owned(), |metal| metal.to_string());
        let how = if of.saved { "from a snapshot" } else { "without a snapshot" };
        let seconds = |seconds: f64| Entry::right(format!("{seconds:.1}"), Role::Plain);
        table.push(Line::Entries(vec![
            Entry::new(format!("{metal}, {how}"), Role::Plain),
            seconds(of.median),
            seconds(of.shortest),
            seconds(of.longest),
            seconds(of.seconds.last().copied().unwrap_or_default()),
            Entry::right(of.seconds.len().to_string(), Role::Plain),
            Entry::new(spark(of), Role::Plain),
        ]));
    }
    table.render(INDENT, style)
}

/// The newest durations as bars between the shortest and the longest; empty if there is only one.
fn spark(of: &Durations) -> String {
    let newest = &of.seconds[of.seconds.len().saturating_sub(DRAWN)..];
    if of.seconds.len() < 2 {
        return String::new();
    }
    let span = of.longest - of.shortest;
    let bar = |seconds: &f64| {
        let part = if span > 0.0 { (seconds - of.shortest) / span } else { 0.0 };
        BARS[((part * 7.0).round() as usize).min(7)]
    };
    newest.iter().map(bar).collect()
}
