//! The matrix: a section a document, a table a scenario. As in the tables of vendors' manuals, the systems of the innermost level
//! are the columns.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};
use nestmatrix_stack::Metal;

use super::contradictions::against;
use super::head::class;
use super::text::{prose, shown};
use crate::records::{OverviewCell, Tally};
use crate::report::cell::documented;
use crate::report::layout::{DocumentPart, Layout, Placed, ScenarioPart, Severity, counts, tally};
use crate::report::matrix::ran;
use crate::report::text::{duration, grouped};
use crate::scenario::{Coverage, Tier};

pub(super) fn documents(layout: &Layout<'_>) -> Markup {
    let documents = layout.documents();
    html! {
        @if documents.len() > 1 {
            nav.documents aria-label="Documents" {
                @for part in &documents {
                    a href={ "#" (anchor(part)) } {
                        span.title { (shown(&part.heading())) }
                        (bar(&part.tally()))
                    }
                }
            }
        }
        @for part in &documents { (document(layout, part)) }
    }
}

fn anchor(part: &DocumentPart<'_>) -> String {
    format!("document-{}", shown(part.id))
}

/// The counts of verdicts, as a bar and in words.
fn bar(tally: &Tally) -> Markup {
    let counts = counts(tally);
    let all: usize = counts.iter().map(|(_, number)| number).sum();
    let mut from = 0;
    let parts: Vec<(Severity, usize, usize)> = counts
        .iter()
        .map(|(severity, number)| {
            from += number;
            (*severity, from - number, *number)
        })
        .collect();
    html! {
        svg.bar viewBox={ "0 0 " (all.max(1)) " 1" } preserveAspectRatio="none" aria-hidden="true" {
            @for (severity, from, number) in parts {
                rect class=(class(severity)) x=(from) width=(number) height="1" {}
            }
        }
        span.counts { @for (severity, number) in &counts { span class=(class(*severity)) { (number) " " (severity.word()) } " " } }
    }
}

fn document(layout: &Layout<'_>, part: &DocumentPart<'_>) -> Markup {
    let coverage = layout.coverage(&part.claims());
    html! {
        section.document id=(anchor(part)) {
            h2 { (shown(&part.heading())) }
            p.about { code { (shown(part.id)) }
                @if let Some(document) = part.document { ", language " (shown(&document.language)) ", "
                    (document.claims.len()) " claims" }
                @if !coverage.is_empty() { "; tested: " (Coverage::counted(&coverage, false)) } }
            @for scenario in &part.scenarios { (self::scenario(layout, scenario)) }
        }
    }
}

/// A row of a scenario's table: the architecture, the systems of the outer levels, and the images that ran.
type Row = (String, Vec<String>, Vec<String>);

fn scenario(layout: &Layout<'_>, part: &ScenarioPart<'_>) -> Markup {
    let Some((_, first)) = part.cells.first() else { return html! {} };
    let first = &first.record;
    let claims: BTreeSet<&String> = part.cells.iter().flat_map(|(_, cell)| &cell.record.claims).collect();
    let against = against(layout, &first.document, &claims);
    html! {
        section class={ "scenario" @if columns(layout, part) > 1 { " broad" } } {
            div.says {
            h3 { (shown(part.scenario.map_or(part.name, |scenario| scenario.title.as_str()))) }
            p.about {
                code { (shown(part.name)) } " "
                @for tier in tiers(part) { span class={ "tier " (tier) } { (tier) } " " }
                span.expected { "expected: " (shown(&documented(first))) }
                @if part.cells.len() > 6 { " " span.counts {
                    @for (severity, number) in counts(&tally(part.cells.iter().map(|(_, cell)| *cell))) {
                        span class=(class(severity)) { (number) " " (severity.word()) } " " } } }
            }
            @if let Some(note) = part.scenario.and_then(|scenario| scenario.note.as_ref()) { p.note { (prose(note)) } }
            @if !against.is_empty() {
                details.against {
                    summary { (against.len()) @if against.len() == 1 { " contradiction" } @else { " contradictions" } }
                    ul { @for (claim, text) in against { li { code { (shown(&claim)) } ": " (prose(&text)) } } }
                }
            }
            }
            (table(layout, &part.cells))
        }
    }
}

/// The tiers of the claims that its cells test, each once.
fn tiers(part: &ScenarioPart<'_>) -> Vec<Tier> {
    let mut tiers: Vec<Tier> = Vec::new();
    for tier in part.cells.iter().flat_map(|(_, cell)| cell.record.tiers()) {
        if !tiers.contains(&tier) {
            tiers.push(tier);
        }
    }
    tiers
}

/// The number of different systems at the innermost level.
fn columns(layout: &Layout<'_>, part: &ScenarioPart<'_>) -> usize {
    let innermost = part.cells.iter().filter_map(|(_, cell)| layout.systems(cell).pop());
    innermost.collect::<BTreeSet<String>>().len()
}

fn table(layout: &Layout<'_>, cells: &[Placed<'_>]) -> Markup {
    let depth = cells.iter().map(|(_, cell)| layout.systems(cell).len()).max().unwrap_or(0);
    let outer = depth.saturating_sub(1);
    let mut columns: Vec<String> = Vec::new();
    // Several cells can have the same place, because records can come from anywhere. None may get lost.
    let mut rows: BTreeMap<usize, Vec<Vec<Placed<'_>>>> = BTreeMap::new();
    let placed = cells.iter().map(|placed| {
        let mut systems = layout.systems(placed.1);
        systems.resize(depth, String::new());
        let inner = systems.pop().unwrap_or_default();
        let levels = &placed.1.record.levels;
        let mut ran: Vec<String> = levels.iter().take(outer).map(ran).collect();
        ran.resize(outer, String::new());
        let row: Row = (placed.1.record.architecture.to_string(), systems, ran);
        (row, inner, *placed)
    });
    let by_row = grouped(placed, |(row, ..)| row.clone());
    for (place, (_, cells)) in by_row.iter().enumerate() {
        for (_, inner, placed) in cells {
            let column = columns.iter().position(|known| known == inner).unwrap_or_else(|| {
                columns.push(inner.clone());
                columns.len() - 1
            });
            let row = rows.entry(place).or_default();
            row.resize(row.len().max(column + 1), Vec::new());
            row[column].push(*placed);
        }
    }
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { span.long { "architecture" } }
                @for level in 0..outer { th scope="col" { "L" (level) } }
                @for column in &columns { th.inner scope="col" { span.level { "L" (outer) } " " (shown(column)) } }
            } }
            tbody { @for (((architecture, systems, ran), _), row) in by_row.iter().zip(rows.values()) {
                tr {
                    th scope="row" { (architecture) }
                    @for (system, ran) in systems.iter().zip(ran) {
                        td.system { (shown(system)) @if !ran.is_empty() { " " small { (shown(ran)) } } }
                    }
                    @for column in 0..columns.len() {
                        td { @for (place, cell) in row.get(column).into_iter().flatten() { (button(*place, cell)) } }
                    }
                }
            } }
        } }
    }
}

/// A cell: its verdict, and in small letters its innermost image, its metal and its duration.
fn button(place: usize, cell: &OverviewCell) -> Markup {
    let record = &cell.record;
    let severity = Severity::of(cell);
    let mut small: Vec<String> = Vec::new();
    small.extend(record.levels.last().map(ran));
    if record.metal == Some(Metal::Native) {
        small.push("native".to_owned());
    }
    if record.verdict != crate::records::VerdictWord::Skip && !record.attempts.is_empty() {
        small.push(duration(record.seconds().max(0.0).round() as u64));
    }
    let stage = record.stage.filter(|_| cell.is_trouble()).map(|stage| format!(" {stage}"));
    html! {
        button class={ "cell " (class(severity)) } type="button" data-cell=(place) title=(record.cell) {
            b { (record.verdict) }
            @if !severity.note().is_empty() { " " i { (severity.note()) } }
            @if let Some(stage) = stage { i { (stage) } }
            @if !cell.others.is_empty() && cell.others.iter().any(|other| other.verdict != record.verdict) { i { " disputed" } }
            @if !small.is_empty() { small { (shown(&small.join(", "))) } }
        }
    }
}
