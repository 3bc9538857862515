//! The matrix as a list: for people as the documents lay it out, with the levels as columns and below each system the
//! image that will be booted for it; for programs as one row for each cell.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::architecture::Architecture;
use super::cell::{Cell, CellName};
use super::document::{Document, Tier};
use super::expectation::Expectation;
use super::filter::Filter;
use super::images::{AvailableImage, StandIns};
use super::level::{LevelNumber, LevelSpec};
use super::matrix::Matrix;
use super::role::Role;
use super::scenario_file::Scenario;
use super::system::{Later, StandIn, SystemRequirement};
use super::version::Version;

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
    /// How far the vendor stands behind it.
    pub tier: Tier,
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
    /// The cells of `matrix` that `filter` takes, with images from those available.
    pub fn new(
        matrix: &'m Matrix,
        filter: &Filter,
        available: &[AvailableImage],
        deny_stand_ins: bool,
    ) -> Self {
        let row = |cell: &&Cell| {
            let stand_ins = StandIns::of(cell, deny_stand_ins);
            let level = |level: &LevelSpec| (level.level, level_row(matrix, level, available, stand_ins));
            let levels: BTreeMap<_, _> = cell.levels.iter().map(level).collect();
            let mut missing: Vec<String> =
                levels.values().filter_map(|level| level.missing.clone()).collect();
            missing.sort();
            missing.dedup();
            Row {
                cell: cell.name.clone(),
                scenario: cell.scenario.clone(),
                document: cell.document.clone(),
                claims: cell.claims.clone(),
                tier: cell.tier,
                architecture: cell.architecture,
                levels,
                deny_stand_ins: cell.deny_stand_ins.clone(),
                expectation: cell.expectation.clone(),
                missing,
            }
        };
        let cells: Vec<&Cell> = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).collect();
        let rows = cells.iter().map(row).collect();
        Self { matrix, cells, rows }
    }

    /// The cells, one row for each, in the matrix's order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    fn rows_of(&self, scenario: &Scenario) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.scenario == scenario.name).collect()
    }

    /// The stand-ins that the listed cells use.
    fn stand_ins(&self) -> impl Iterator<Item = &StandIn> {
        self.matrix.stand_ins().iter().filter(|stand_in| {
            self.cells.iter().zip(&self.rows).any(|(cell, row)| {
                cell.levels.iter().any(|level| {
                    stand_in.serves(&level.system)
                        && row
                            .levels
                            .get(&level.level)
                            .is_some_and(|row| row.stand_in && row.image.as_ref() == Some(&stand_in.image))
                })
            })
        })
    }
}

fn level_row(
    matrix: &Matrix,
    level: &LevelSpec,
    available: &[AvailableImage],
    stand_ins: StandIns<'_>,
) -> LevelRow {
    let SystemRequirement { system, version, and_later, role, .. } = level.system.clone();
    let requirement = level.system.to_string();
    match matrix.image_for(&level.system, available, stand_ins) {
        Ok(choice) => LevelRow {
            system,
            version,
            and_later,
            role,
            requirement,
            image: Some(choice.image),
            stand_in: choice.stand_in,
            reason: choice.reason,
            missing: None,
        },
        Err(missing) => LevelRow {
            system,
            version,
            and_later,
            role,
            requirement,
            image: None,
            stand_in: false,
            reason: None,
            missing: Some(missing.to_string()),
        },
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return writeln!(f, "no cell matches");
        }
        for document in self.matrix.documents() {
            let of_document = |scenario: &&Scenario| scenario.document == document.id;
            let scenarios = self.matrix.scenarios().iter().filter(of_document);
            let scenarios: Vec<_> = scenarios.map(|scenario| (scenario, self.rows_of(scenario))).collect();
            if scenarios.iter().any(|(_, rows)| !rows.is_empty()) {
                let Document { id, title, product, section, .. } = document;
                writeln!(f, "{product}, {section} {title} ({id})\n")?;
            }
            for (scenario, rows) in scenarios.iter().filter(|(_, rows)| !rows.is_empty()) {
                write_scenario(f, scenario, rows)?;
            }
        }
        for (index, StandIn { name, major, image, reason, .. }) in self.stand_ins().enumerate() {
            let heading = if index == 0 { "Stand-ins:\n" } else { "" };
            writeln!(f, "{heading}  {image} for {name} {major}: {reason}")?;
        }
        Ok(())
    }
}

fn write_scenario(f: &mut fmt::Formatter<'_>, scenario: &Scenario, rows: &[&Row]) -> fmt::Result {
    writeln!(f, "  {}: {}", scenario.name, scenario.title)?;
    let mut claims: Vec<&str> = Vec::new();
    for claim in rows.iter().flat_map(|row| &row.claims) {
        if !claims.contains(&claim.as_str()) {
            claims.push(claim);
        }
    }
    writeln!(f, "    claims: {}", claims.join(", "))?;
    writeln!(f, "    tier: {}, expected: {}", scenario.tier, scenario.expectation)?;
    if let Some(known_stale) = scenario.expectation.known_stale() {
        writeln!(f, "    {known_stale}")?;
    }
    if let Some(note) = &scenario.note {
        writeln!(f, "    note: {note}")?;
    }
    if let Some(reason) = &scenario.deny_stand_ins {
        writeln!(f, "    takes no stand-ins: {reason}")?;
    }
    writeln!(f)?;
    write_table(f, rows)?;
    let mut missing: Vec<&String> = rows.iter().flat_map(|row| &row.missing).collect();
    missing.sort();
    missing.dedup();
    for (index, missing) in missing.into_iter().enumerate() {
        let start = if index == 0 { "\n" } else { "" };
        writeln!(f, "{start}    skipped: {missing}")?;
    }
    writeln!(f)
}

/// Two lines for each cell: the systems with the cell's name, and under each system its image.
fn write_table(f: &mut fmt::Formatter<'_>, rows: &[&Row]) -> fmt::Result {
    let mut lines: Vec<Vec<String>> = Vec::new();
    if let Some(row) = rows.first() {
        let levels = row.levels.keys().map(LevelNumber::to_string);
        lines.push(std::iter::once("architecture".into()).chain(levels).chain(["cell".into()]).collect());
    }
    for row in rows {
        let systems = row.levels.values().map(|level| level.requirement.clone());
        let architecture = std::iter::once(row.architecture.to_string());
        lines.push(architecture.chain(systems).chain([row.cell.to_string()]).collect());
        let images = row.levels.values().map(|level| match (&level.image, level.stand_in) {
            (Some(image), true) => format!("{image} (stand-in)"),
            (Some(image), false) => image.clone(),
            (None, _) => "no image".into(),
        });
        lines.push(std::iter::once(String::new()).chain(images).collect());
    }
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}")).collect();
        writeln!(f, "    {}", cells.join("  ").trim_end())?;
    }
    Ok(())
}
