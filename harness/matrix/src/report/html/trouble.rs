//! What needs attention, above the matrix: each symptom once, with all of its cells.

use maud::{Markup, html};

use crate::records::{CellRecord, LevelRecord};
use crate::report::cell::{documented, observed};
use crate::report::layout::{Layout, Placed, Severity};
use crate::report::text::{grouped, one_line};

use super::head::class;
use super::text::shown;

/// The most cells that are named for one symptom and the same versions. The rest is counted.
const NAMED: usize = 12;

/// The most different versions that are shown for one symptom. Cells with other versions are counted.
const STACKS: usize = 4;

pub(super) fn trouble(layout: &Layout<'_>) -> Markup {
    let cells = layout.overview.cells.iter().enumerate().filter(|(_, cell)| cell.is_trouble());
    let mut kinds = grouped(cells, |(_, cell)| (Severity::of(cell), seen(cell)));
    if kinds.is_empty() {
        return html! {};
    }
    let rank = |severity| Severity::ALL.iter().position(|known| *known == severity);
    kinds.sort_by_key(|((severity, _), cells)| (rank(*severity), std::cmp::Reverse(cells.len())));
    html! {
        section.trouble aria-labelledby="trouble" {
            h2 #trouble { "Needs attention" }
            @for ((severity, seen), cells) in &kinds {
                article class=(class(*severity)) data-cells=(places(cells)) {
                    (kind(*severity, seen, cells))
                }
            }
        }
    }
}

fn seen(cell: &crate::records::OverviewCell) -> String {
    let works = || "works: the documented limitation is gone".to_owned();
    observed(&cell.record).unwrap_or_else(works)
}

/// All cells of one symptom, named or not, for the filter.
fn places(cells: &[Placed<'_>]) -> String {
    cells.iter().map(|(place, _)| place.to_string()).collect::<Vec<_>>().join(" ")
}

fn kind(severity: Severity, seen: &str, cells: &[Placed<'_>]) -> Markup {
    let Some((_, first)) = cells.first() else { return html! {} };
    let record = &first.record;
    let stacks = grouped(cells.iter().copied(), |(_, cell)| versions(&cell.record));
    let others: usize = stacks.iter().skip(STACKS).map(|(_, cells)| cells.len()).sum();
    let (stage, symptom) = match (record.stage, &record.symptom) {
        (Some(stage), Some(symptom)) => (Some(stage.to_string()), one_line(symptom)),
        _ => (None, seen.to_owned()),
    };
    html! {
        h3 { span class={ "word " (class(severity)) } { (severity.word()) }
            @if !severity.note().is_empty() { " " small { (severity.note()) } }
            @if let Some(stage) = stage { " " span.stage { (stage) } }
            " " span.symptom { (shown(&symptom)) } }
        p.about { "documented: " (shown(&documented(record))) }
        @if let Some(known) = record.known_text() { p.about { (shown(&known)) } }
        @for (versions, cells) in stacks.iter().take(STACKS) {
            ul.versions { @for (levels, text) in versions { li { b { (levels) } " " (shown(text)) } } }
            ul.names {
                @for (place, cell) in cells.iter().take(NAMED) {
                    li { button.name type="button" data-cell=(place) { (cell.record.cell) } }
                }
                @if cells.len() > NAMED { li { "and " (cells.len() - NAMED) " more" } }
            }
        }
        @if others > 0 { p.about { "and " (others) " more cells with other versions" } }
    }
}

/// The software of the levels, in short. Levels with the same software are grouped.
fn versions(record: &CellRecord) -> Vec<(String, String)> {
    let same = grouped(&record.levels, |level| in_short(level));
    let line = |(text, levels): (Option<String>, Vec<&LevelRecord>)| {
        let levels: Vec<String> = levels.iter().map(|level| level.level.to_string()).collect();
        Some((levels.join(", "), text?))
    };
    same.into_iter().filter_map(line).collect()
}

/// The software of a level, without the distribution's package versions; `None` if it is unknown.
fn in_short(level: &LevelRecord) -> Option<String> {
    let seen = &level.seen;
    let number = |qemu: &String| qemu.split(" (").next().unwrap_or_default().to_owned();
    let qemu = seen.qemu.as_ref().map(|qemu| format!("QEMU {}", number(qemu)));
    let kernel = seen.kernel.as_ref().map(|kernel| format!("Linux {kernel}"));
    let facts: Vec<String> = [kernel, qemu, seen.cpu.clone()].into_iter().flatten().collect();
    (!facts.is_empty()).then(|| facts.join(", "))
}
