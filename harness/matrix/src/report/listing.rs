//! The matrix as `list` prints it: as the documents lay it out, with a table an architecture. The levels are its columns, and
//! below each system stands the image that serves it.

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_model::{Guest, LevelNumber};

use super::cell_list::{LevelRow, Listing, Row};
use super::media::PROSE;
use super::style::{Role, Style};
use super::table::{Entry, Line, Table};
use super::text::wrapped;
use crate::scenario::{Document, Scenario, StandIn, Tier, not_yet_run};

/// The indentation of the text below a scenario's name.
const INDENT: usize = 4;

/// The listed cells with the images that they boot.
pub fn listing(listing: &Listing<'_>, style: &Style) -> String {
    let rows = listing.rows();
    if rows.is_empty() {
        return "no cell matches\n".to_owned();
    }
    let mut by_scenario: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        by_scenario.entry(&row.scenario).or_default().push(row);
    }
    let mut out = String::new();
    for document in listing.matrix.documents() {
        let scenarios = listing.matrix.scenarios().iter().filter(|scenario| scenario.document == document.id);
        let scenarios: Vec<(&Scenario, &Vec<&Row>)> = scenarios
            .filter_map(|scenario| Some((scenario, by_scenario.get(scenario.name.as_str())?)))
            .collect();
        if !scenarios.is_empty() {
            let Document { id, title, product, section, .. } = document;
            let heading = style.paint(Role::Heading, &format!("{product}, {section} {title} ({id})"));
            out.push_str(&format!("{heading}\n\n"));
        }
        for (of, rows) in scenarios {
            out.push_str(&scenario(of, rows, style));
        }
    }
    if rows.iter().flat_map(|row| row.levels.values()).any(|level| level.and_later.is_some()) {
        out.push_str("+ and later\n");
    }
    for (index, (image, reason)) in listing.rebuilds().into_iter().enumerate() {
        let heading = if index == 0 { "~ rebuild:\n" } else { "" };
        out.push_str(&format!("{heading}  {image}: {reason}\n"));
    }
    for (index, StandIn { name, version, image, reason, .. }) in listing.stand_ins().enumerate() {
        let heading = if index == 0 { "* stands in:\n" } else { "" };
        out.push_str(&format!("{heading}  {image} for {name} {version}: {reason}\n"));
    }
    let skipped = rows.iter().filter(|row| !row.missing.is_empty()).count();
    let cells = if rows.len() == 1 { "cell" } else { "cells" };
    let boot = rows.len() - skipped;
    out + &format!("\n{} {cells}: {boot} can boot, {skipped} skipped\n", rows.len())
}

fn scenario(scenario: &Scenario, rows: &[&Row], style: &Style) -> String {
    let expectation = &scenario.expectation;
    let mut out = format!("  {}: {}\n", scenario.name, scenario.title);
    let tiers = Tier::listed(rows.iter().flat_map(|row| row.tiers.values().copied()));
    out.push_str(&format!("    {tiers}, expected: {expectation}\n"));
    let no_symptom = expectation.limitation().and_then(|limitation| limitation.no_symptom.as_ref());
    let known = [
        expectation.known_stale().map(ToString::to_string),
        expectation.known_wrong().map(ToString::to_string),
    ];
    let known = known.into_iter().flatten().chain(scenario.known_flaky.iter().map(ToString::to_string));
    let mut prose: Vec<(&str, String)> = Vec::new();
    prose.extend(no_symptom.map(|why| ("names no symptom: ", why.clone())));
    prose.extend(known.map(|known| ("", known)));
    prose.push(("claims: ", claims(rows).join(", ")));
    prose.extend(scenario.note.iter().map(|note| ("note: ", note.clone())));
    let untried = rows.iter().flat_map(|row| row.not_yet_run.iter().map(String::as_str));
    prose.extend(
        rows.iter()
            .find_map(|row| row.guest.as_ref())
            .map(|guest| ("boots a guest of yours: ", described(guest))),
    );
    prose.extend(not_yet_run(untried).map(|untried| ("", untried)));
    prose.extend(scenario.deny_stand_ins.iter().map(|reason| ("takes no stand-ins: ", reason.clone())));
    for (label, text) in prose {
        out.push_str(&paragraph(INDENT, label, &text, style));
    }
    for rows in rows.chunk_by(|left, right| left.architecture == right.architecture) {
        let Some(Row { architecture, .. }) = rows.first() else { continue };
        out.push_str(&format!("\n    {architecture}\n{}", table(rows).render(INDENT + 2, style)));
        let missing: BTreeSet<&String> = rows.iter().flat_map(|row| &row.missing).collect();
        for missing in missing {
            out.push_str(&paragraph(INDENT + 2, "skipped: ", missing, style));
        }
    }
    out + "\n"
}

/// The guest of the user that the innermost level boots.
fn described(Guest { payload, ready }: &Guest) -> String {
    let waits = ready.as_ref().map(|ready| format!(", and waits for {ready:?} on its console"));
    format!("payload {payload}{}", waits.unwrap_or_default())
}

/// The claims that these cells try, each once, those of their own document first.
fn claims<'r>(rows: &[&'r Row]) -> Vec<&'r str> {
    let mut claims: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for claim in rows.iter().flat_map(|row| &row.claims) {
        if seen.insert(claim) {
            claims.push(claim);
        }
    }
    claims.sort_by_key(|claim| claim.contains('/'));
    claims
}

/// A label and its text below a scenario's name.
fn paragraph(indent: usize, label: &str, text: &str, style: &Style) -> String {
    let text = wrapped(&format!("{label}{text}"), indent, 4, style.width.min(PROSE));
    format!("{:indent$}{text}\n", "")
}

/// The cells of one architecture: their systems and names, and below each system the image that serves it.
fn table(rows: &[&Row]) -> Table {
    let mut table = Table::default();
    let mut push = |entries: Vec<String>| {
        table.push(Line::Entries(entries.into_iter().map(|text| Entry::new(text, Role::Plain)).collect()));
    };
    if let Some(row) = rows.first() {
        push(row.levels.keys().map(LevelNumber::to_string).chain(["cell".into()]).collect());
    }
    for row in rows {
        push(row.levels.values().map(LevelRow::short).chain([row.cell.to_string()]).collect());
        push(row.levels.values().map(LevelRow::serving).collect());
    }
    table
}
