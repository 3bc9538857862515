//! The matrix as a list: one row a cell, with the image that each level boots. `report` prints it for people.

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_model::{Architecture, Fidelity, Guest, LevelNumber, Version};
use nestmatrix_stack::Metal;
use serde::Serialize;

use crate::scenario::{
    Cell, CellName, Denied, Expectation, Filter, Fingerprint, ImageChoice, Later, LevelSpec, Matrix,
    Permitted, Role, StandIn, Supply, SystemRequirement, Tier,
};

/// The cells that a filter selects, with the images that they boot.
#[derive(Debug, Clone)]
pub struct Listing<'m> {
    pub(crate) matrix: &'m Matrix,
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
    /// The claims that it tests: those of its document by their ids, others as `DOCUMENT/CLAIM`.
    pub claims: Vec<String>,
    /// The support that the vendor gives the main claims of its scenario.
    pub tier: Tier,
    /// The support that the vendor gives each of its claims.
    pub tiers: BTreeMap<String, Tier>,
    /// Identifies everything that it asks for.
    pub fingerprint: Fingerprint,
    /// Its architecture.
    pub architecture: Architecture,
    /// Its levels, in JSON under `l0`, `l1` and so on.
    #[serde(flatten)]
    pub levels: BTreeMap<LevelNumber, LevelRow>,
    /// Why the scenario uses no stand-ins, if so.
    pub deny_stand_ins: Option<String>,
    /// The expected result.
    pub expectation: Expectation,
    /// The systems of its levels that the authors of nestmatrix have not yet run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_yet_run: Vec<String>,
    /// The guest of the user that its innermost level boots, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
    /// The missing requirements, each once; if there are any, the cell is skipped.
    pub missing: Vec<String>,
}

/// One level of a cell, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LevelRow {
    /// The id of the system that the document requires.
    pub system: String,
    /// Its version, or the first allowed one; none for a system without versions.
    pub version: Option<Version>,
    /// Whether later versions are allowed, and up to which one.
    pub and_later: Option<Later>,
    /// The role that the system must be set up with.
    pub role: Option<Role>,
    /// All of this as a document would write it: `RHEL 9.2 and later`.
    pub requirement: String,
    /// The image that is booted; `emulator` if an emulator is itself the level.
    pub image: Option<String>,
    /// How near that image is to the system; none if there is no image.
    pub fidelity: Option<Fidelity>,
    /// Why it is used; none for an image of the system itself.
    pub reason: Option<String>,
    /// What is missing, if there is no image.
    pub missing: Option<String>,
}

impl<'m> Listing<'m> {
    /// The cells of `matrix` that match `filter`, with images from the supply.
    pub fn new(matrix: &'m Matrix, filter: &Filter, supply: &Supply, denied: Denied) -> Self {
        let takes = |cell: &&Cell| filter.matches(&cell.name);
        Self::of(matrix, matrix.cells().iter().filter(takes).collect(), supply, denied)
    }

    /// These cells of `matrix`, with images from the supply.
    pub(super) fn of(matrix: &'m Matrix, cells: Vec<&'m Cell>, supply: &Supply, denied: Denied) -> Self {
        let row = |cell: &&Cell| {
            let permitted = Permitted::of(cell, denied);
            let level = |level: &LevelSpec| {
                let choice = matrix.image_from(supply, cell, level, Metal::Emulated, permitted);
                (level.level, LevelRow::new(&level.system, choice.map_err(|missing| missing.to_string())))
            };
            let levels: BTreeMap<_, _> = cell.levels.iter().map(level).collect();
            let mut missing: Vec<String> = levels
                .values()
                .filter_map(|level| level.missing.clone())
                .filter(|_| cell.no_machine.is_none() || cell.windows().is_none())
                .chain(supply.bar(cell))
                .collect();
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
                not_yet_run: cell.untried().map(str::to_owned).collect(),
                guest: cell.guest().cloned(),
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

    /// The cells that have all images and are skipped nevertheless, since emulated metal can't run them.
    pub(super) fn native_only(&self) -> impl Iterator<Item = &Row> {
        let cells = self.cells.iter().zip(&self.rows);
        let only = cells.filter(|(cell, row)| {
            let has_images = row.levels.values().all(|level| level.missing.is_none());
            cell.no_machine.is_none() && has_images && !row.missing.is_empty()
        });
        only.map(|(_, row)| row)
    }

    /// Whether a listed cell boots this image at some level.
    pub fn boots(&self, image: &str) -> bool {
        let mut levels =
            self.rows.iter().filter(|row| row.missing.is_empty()).flat_map(|row| row.levels.values());
        levels.any(|level| level.image.as_deref() == Some(image))
    }

    /// The rebuilds that the listed cells use, each with what it is a rebuild of.
    pub(crate) fn rebuilds(&self) -> BTreeSet<(&str, &str)> {
        let levels = self.rows.iter().flat_map(|row| row.levels.values());
        let rebuilds = levels.filter(|level| level.fidelity == Some(Fidelity::Rebuild));
        rebuilds.filter_map(|level| Some((level.image.as_deref()?, level.reason.as_deref()?))).collect()
    }

    /// The stand-ins that the listed cells use.
    pub(crate) fn stand_ins(&self) -> impl Iterator<Item = &StandIn> {
        self.matrix.stand_ins().iter().filter(|stand_in| {
            self.cells.iter().zip(&self.rows).any(|(cell, row)| {
                cell.levels.iter().zip(row.levels.values()).any(|(level, row)| {
                    row.fidelity == Some(Fidelity::StandIn)
                        && row.image.as_ref() == Some(&stand_in.image)
                        && row.reason.as_ref() == Some(&stand_in.reason)
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
            fidelity: choice.as_ref().map(|choice| choice.fidelity),
            reason: choice.as_ref().and_then(|choice| choice.reason.clone()),
            image: choice.map(|choice| choice.image),
            missing,
        }
    }

    /// The requirement in short: `RHEL 9.2+` for "RHEL 9.2 and later".
    pub(crate) fn short(&self) -> String {
        self.requirement.replacen(" and later", "+", usize::from(self.and_later.is_some()))
    }

    /// The image that is booted for it, with the mark of its fidelity.
    pub(crate) fn serving(&self) -> String {
        match &self.image {
            Some(image) => format!("{image}{}", self.fidelity.map_or("", Fidelity::mark)),
            None => "no image".into(),
        }
    }
}
