//! The matrix as a list: for people as the documents lay it out, with a table for each architecture, the levels as its
//! columns and below each system the image that will be booted for it; for programs as one row for each cell.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use nestmatrix_model::{Architecture, LevelNumber, Version};
use serde::Serialize;

use crate::scenario::{
    Cell, CellName, Document, Expectation, Filter, Fingerprint, ImageChoice, Later, LevelSpec, Matrix, Role,
    Scenario, StandIn, StandIns, Supply, SystemRequirement, Tier,
};

/// The cells that a filter takes, with the images they will boot. `Display` gives the text for people.
#[derive(Debug, Clone)]
pub struct Listing<'m> {
    matrix: &'m Matrix,
    cells: Vec<&'m Cell>,
    rows: Vec<Row>,
}

/// One cell, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// The cell.
    pub cell: CellName,
    /// Its scenario.
    pub scenario: String,
    /// The id of its document.
    pub document: String,
    /// The claims that it tries: of its document by their ids, of others as `DOCUMENT/CLAIM`.
    pub claims: Vec<String>,
    /// How far the vendor stands behind what its scenario tries first of all.
    pub tier: Tier,
    /// How far the vendor stands behind each of its claims.
    pub tiers: BTreeMap<String, Tier>,
    /// What names all that it asks for.
    pub fingerprint: Fingerprint,
    /// Its architecture.
    pub architecture: Architecture,
    /// Its levels, in JSON under `l0`, `l1` and so on.
    #[serde(flatten)]
    pub levels: BTreeMap<LevelNumber, LevelRow>,
    /// Why the scenario takes no stand-ins, if it takes none.
    pub deny_stand_ins: Option<String>,
    /// What should come of it.
    pub expectation: Expectation,
    /// What is missing for it to run, each thing once; if there is anything, the cell is skipped.
    pub missing: Vec<String>,
}

/// One level of a cell, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LevelRow {
    /// The id of the system that the document asks for.
    pub system: String,
    /// Its version, or the first that will do; none of a system without versions.
    pub version: Option<Version>,
    /// Whether later versions will do, and then up to where.
    pub and_later: Option<Later>,
    /// What the system has to be set up with.
    pub role: Option<Role>,
    /// All of this as a document would write it: `RHEL 9.2 and later`.
    pub requirement: String,
    /// The image that will be booted; `emulator` where an emulator is itself the level.
    pub image: Option<String>,
    /// Whether that image stands in for the system.
    pub stand_in: bool,
    /// Why a stand-in is used, and this one.
    pub reason: Option<String>,
    /// What is missing, if there is no image.
    pub missing: Option<String>,
}

impl<'m> Listing<'m> {
    /// The cells of `matrix` that `filter` takes, with images from the supply.
    pub fn new(matrix: &'m Matrix, filter: &Filter, supply: &Supply, deny_stand_ins: bool) -> Self {
        let takes = |cell: &&Cell| filter.matches(&cell.name);
        Self::of(matrix, matrix.cells().iter().filter(takes).collect(), supply, deny_stand_ins)
    }

    /// These cells of `matrix`, with images from the supply.
    pub(super) fn of(
        matrix: &'m Matrix,
        cells: Vec<&'m Cell>,
        supply: &Supply,
        deny_stand_ins: bool,
    ) -> Self {
        let row = |cell: &&Cell| {
            let available = supply.of(cell.architecture);
            let stand_ins = StandIns::of(cell, deny_stand_ins);
            let level = |level: &LevelSpec| {
                let choice = matrix.image_for(&level.system, cell.architecture, available, stand_ins);
                (level.level, LevelRow::new(&level.system, choice.map_err(|missing| missing.to_string())))
            };
            let levels: BTreeMap<_, _> = cell.levels.iter().map(level).collect();
            let mut missing: Vec<String> =
                levels.values().filter_map(|level| level.missing.clone()).chain(supply.bar(cell)).collect();
            missing.sort();
            missing.dedup();
            Row {
                cell: cell.name.clone(),
                scenario: cell.scenario.clone(),
                document: cell.document.clone(),
                claims: cell.claims.clone(),
                tier: cell.tier,
                tiers: cell.tiers.clone(),
                fingerprint: Fingerprint::of(cell),
                architecture: cell.architecture,
                levels,
                deny_stand_ins: cell.deny_stand_ins.clone(),
                expectation: cell.expectation.clone(),
                missing,
            }
        };
        let rows = cells.iter().map(row).collect();
        Self { matrix, cells, rows }
    }

    /// The cells, one row for each, in the matrix's order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The stand-ins that the listed cells use.
    fn stand_ins(&self) -> impl Iterator<Item = &StandIn> {
        self.matrix.stand_ins().iter().filter(|stand_in| {
            self.cells.iter().zip(&self.rows).any(|(cell, row)| {
                cell.levels.iter().zip(row.levels.values()).any(|(level, row)| {
                    row.stand_in
                        && row.image.as_ref() == Some(&stand_in.image)
                        && stand_in.serves(&level.system, cell.architecture)
                })
            })
        })
    }
}

impl LevelRow {
    fn new(requirement: &SystemRequirement, choice: Result<ImageChoice, String>) -> Self {
        let (choice, missing) = match choice {
            Ok(choice) => (Some(choice), None),
            Err(missing) => (None, Some(missing)),
        };
        let SystemRequirement { system, version, and_later, role, .. } = requirement;
        Self {
            system: system.clone(),
            version: *version,
            and_later: *and_later,
            role: *role,
            requirement: requirement.to_string(),
            stand_in: choice.as_ref().is_some_and(|choice| choice.stand_in),
            reason: choice.as_ref().and_then(|choice| choice.reason.clone()),
            image: choice.map(|choice| choice.image),
            missing,
        }
    }

    /// The requirement in few letters: `RHEL 9.2+` for "RHEL 9.2 and later".
    fn short(&self) -> String {
        self.requirement.replacen(" and later", "+", usize::from(self.and_later.is_some()))
    }

    /// What is booted for it; a stand-in has an asterisk.
    fn serving(&self) -> String {
        match &self.image {
            Some(image) => format!("{image}{}", if self.stand_in { "*" } else { "" }),
            None => "no image".into(),
        }
    }
}

impl<'m> fmt::Display for Listing<'m> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return writeln!(f, "no cell matches");
        }
        let mut by_scenario: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
        for row in &self.rows {
            by_scenario.entry(&row.scenario).or_default().push(row);
        }
        for document in self.matrix.documents() {
            let of_document = |scenario: &&Scenario| scenario.document == document.id;
            let rows = |scenario: &'m Scenario| Some((scenario, by_scenario.get(scenario.name.as_str())?));
            let scenarios: Vec<_> =
                self.matrix.scenarios().iter().filter(of_document).filter_map(rows).collect();
            if !scenarios.is_empty() {
                let Document { id, title, product, section, .. } = document;
                writeln!(f, "{product}, {section} {title} ({id})\n")?;
            }
            for (scenario, rows) in scenarios {
                self.write_scenario(f, scenario, rows)?;
            }
        }
        if self.rows.iter().flat_map(|row| row.levels.values()).any(|level| level.and_later.is_some()) {
            writeln!(f, "+ and later")?;
        }
        for (index, StandIn { name, major, image, reason, .. }) in self.stand_ins().enumerate() {
            let heading = if index == 0 { "* stands in:\n" } else { "" };
            writeln!(f, "{heading}  {image} for {name} {major}: {reason}")?;
        }
        let skipped = self.rows.iter().filter(|row| !row.missing.is_empty()).count();
        let cells = if self.rows.len() == 1 { "cell" } else { "cells" };
        let boot = self.rows.len() - skipped;
        writeln!(f, "\n{} {cells}: {boot} can be booted, {skipped} skipped", self.rows.len())
    }
}

impl Listing<'_> {
    fn write_scenario(&self, f: &mut fmt::Formatter<'_>, scenario: &Scenario, rows: &[&Row]) -> fmt::Result {
        writeln!(f, "  {}: {}", scenario.name, scenario.title)?;
        let tiers = Tier::listed(rows.iter().flat_map(|row| row.tiers.values().copied()));
        writeln!(f, "    {tiers}, expected: {}", scenario.expectation)?;
        let limitation = scenario.expectation.limitation();
        if let Some(why) = limitation.and_then(|limitation| limitation.no_symptom.as_ref()) {
            write_wrapped(f, "names no symptom: ", why)?;
        }
        if let Some(known_stale) = scenario.expectation.known_stale() {
            write_wrapped(f, "", &known_stale.to_string())?;
        }
        if let Some(known_wrong) = scenario.expectation.known_wrong() {
            write_wrapped(f, "", &known_wrong.to_string())?;
        }
        for known_flaky in &scenario.known_flaky {
            write_wrapped(f, "", &known_flaky.to_string())?;
        }
        write_wrapped(f, "claims: ", &claims(rows).join(", "))?;
        if let Some(note) = &scenario.note {
            write_wrapped(f, "note: ", note)?;
        }
        if let Some(reason) = &scenario.deny_stand_ins {
            write_wrapped(f, "takes no stand-ins: ", reason)?;
        }
        for rows in rows.chunk_by(|left, right| left.architecture == right.architecture) {
            let Some(Row { architecture, .. }) = rows.first() else { continue };
            writeln!(f)?;
            writeln!(f, "    {architecture}")?;
            write_table(f, rows, true)?;
            let missing: BTreeSet<&String> = rows.iter().flat_map(|row| &row.missing).collect();
            for missing in missing {
                write_wrapped(f, "  skipped: ", missing)?;
            }
        }
        writeln!(f)
    }
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

/// Columns within which prose is kept. The list does not know its terminal, and tables go beyond it for their cells' names.
const COLUMNS: usize = 110;

/// A label and its text below a scenario's name, broken between words.
fn write_wrapped(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    const INDENT: usize = 4;
    write!(f, "{:INDENT$}{label}", "")?;
    let mut column = INDENT + label.len();
    for (index, word) in text.split_whitespace().enumerate() {
        if index > 0 && column + 1 + word.chars().count() > COLUMNS {
            write!(f, "\n{:INDENT$}    ", "")?;
            column = INDENT + 4;
        } else if index > 0 {
            f.write_str(" ")?;
            column += 1;
        }
        f.write_str(word)?;
        column += word.chars().count();
    }
    writeln!(f)
}

/// The cells of one architecture: for each its systems with its name and, with `images`, below each system what is booted
/// for it.
fn write_table(f: &mut fmt::Formatter<'_>, rows: &[&Row], images: bool) -> fmt::Result {
    let mut lines: Vec<Vec<String>> = Vec::new();
    if let Some(row) = rows.first() {
        lines.push(row.levels.keys().map(LevelNumber::to_string).chain(["cell".into()]).collect());
    }
    for row in rows {
        lines.push(row.levels.values().map(LevelRow::short).chain([row.cell.to_string()]).collect());
        if images {
            lines.push(row.levels.values().map(LevelRow::serving).collect());
        }
    }
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for line in &lines {
        let mut text = String::new();
        for (entry, width) in line.iter().zip(&widths) {
            text.push_str(&format!("{entry:<width$}  "));
        }
        writeln!(f, "      {}", text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nestmatrix_images::Catalog;

    use super::*;
    use crate::run::{MetalChoice, NativeMetals, PlanOptions, RunPlan, supply};

    #[test]
    fn a_run_and_the_list_skip_a_cell_for_the_same_reason() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let matrix = Matrix::load(&top.join("scenarios")).unwrap();
        let catalog = Catalog::load(&top.join("images/recipes")).unwrap();
        // On IBM Z an emulator plays the metal, and none of its guests runs.
        let of_z = |cell: &&Cell| cell.architecture == Architecture::IbmZ && cell.no_machine.is_none();
        let cells: Vec<&Cell> = matrix.cells().iter().filter(of_z).collect();
        let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
        let plan =
            RunPlan::new(cells.iter().copied().cloned(), &matrix, &catalog, &NativeMetals::new(), &options);
        let barred = plan.skipped().filter(|(_, reasons)| reasons.len() == 1);
        let barred: Vec<(CellName, String)> =
            barred.map(|(cell, reasons)| (cell.name.clone(), reasons[0].to_string())).collect();
        let of_emulator =
            |(_, reason): &&(CellName, String)| reason.starts_with("needs a real ibm-z machine");
        assert!(barred.iter().filter(of_emulator).count() > 0, "{barred:?}");
        let listing = Listing::of(&matrix, cells, &supply(&catalog), false);
        for (cell, reason) in barred.iter().filter(of_emulator) {
            let row = listing.rows().iter().find(|row| row.cell == *cell).unwrap();
            assert_eq!(row.missing, std::slice::from_ref(reason), "{cell}");
        }
    }
}
