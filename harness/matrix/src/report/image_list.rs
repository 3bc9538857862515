//! The cells that run on the documented systems or on rebuilds of them, by image: what each image is worth. Images that only stand in
//! for systems are left out.

use std::collections::BTreeMap;

use nestmatrix_model::{Architecture, Fidelity, Word as _};
use serde::Serialize;

use super::cell_list::{Listing, Row};
use super::media::PROSE;
use super::style::{Role, Style};
use super::text::{one_line, wrapped};
use crate::media::MediumRow;
use crate::scenario::{AvailableImage, CellName, Denied, Filter, Matrix, Supply};

/// One image, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageRow {
    /// Its name.
    pub image: String,
    /// What it is to the systems of the levels that boot it; none if no cell boots it.
    pub fidelity: Option<Fidelity>,
    /// The cells that boot it, and no stand-in at any level.
    pub cells: Vec<CellName>,
    /// The cells that boot it, and a stand-in at another level.
    pub cells_with_stand_ins: Vec<CellName>,
    /// If no cell boots it here: the cells that may boot it on native metal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub native_cells: Vec<CellName>,
    /// The medium, if it is the disk of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub medium: Option<MediumRow>,
}

/// The images that are more than stand-ins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageListing {
    rows: Vec<ImageRow>,
    /// The number of cells by the fidelity of the level that is least near; none for skipped cells.
    counts: BTreeMap<Option<Fidelity>, usize>,
}

impl ImageListing {
    /// The images of the supply, with the cells of `matrix` that match `filter` and boot them. `media` are those that the user added.
    pub fn new(
        matrix: &Matrix,
        filter: &Filter,
        supply: &Supply,
        denied: Denied,
        media: &[MediumRow],
    ) -> Self {
        let listing = Listing::new(matrix, filter, supply, denied);
        let mut rows = Vec::new();
        let names = available(supply).into_iter().map(|image| image.name.clone());
        let mut names: Vec<String> = names.collect();
        // Media that can't be used have no image in the supply.
        names.extend(media.iter().filter(|row| row.unusable.is_some()).map(|row| row.image.clone()));
        for image in names {
            let of = |fidelity| row(&image, fidelity, listing.rows());
            let exact: Vec<ImageRow> =
                [Fidelity::Product, Fidelity::Rebuild].into_iter().filter_map(of).collect();
            if exact.is_empty() && of(Fidelity::StandIn).is_none() {
                let native = listing.native_only().filter(|row| has(row, &image));
                let native_cells = native.map(|row| row.cell.clone()).collect();
                rows.push(ImageRow {
                    fidelity: None,
                    cells: Vec::new(),
                    cells_with_stand_ins: Vec::new(),
                    native_cells,
                    medium: None,
                    image,
                });
            }
            rows.extend(exact);
        }
        for row in &mut rows {
            row.medium = media.iter().find(|medium| medium.image == row.image).cloned();
        }
        let mut counts = BTreeMap::new();
        for row in listing.rows() {
            *counts.entry(least_near(row)).or_default() += 1;
        }
        Self { rows, counts }
    }

    /// The images, one row for each and for what it is to the systems of the cells.
    pub fn rows(&self) -> &[ImageRow] {
        &self.rows
    }
}

/// The images of all architectures by system and version, each once.
fn available(supply: &Supply) -> Vec<&AvailableImage> {
    let mut images: Vec<&AvailableImage> =
        Architecture::ALL.iter().flat_map(|architecture| supply.images(*architecture)).collect();
    images.sort_by_key(|image| (&image.system, image.version, &image.name));
    images.dedup_by_key(|image| &image.name);
    images
}

/// The fidelity of the level that is least near to the documented system; none if the cell is skipped.
fn least_near(row: &Row) -> Option<Fidelity> {
    if row.missing.is_empty() { row.levels.values().filter_map(|level| level.fidelity).max() } else { None }
}

/// Whether an image serves a level of a cell.
fn has(row: &Row, image: &str) -> bool {
    row.levels.values().any(|level| level.image.as_deref() == Some(image))
}

/// The cells that boot an image of this fidelity, if any do.
fn row(image: &str, fidelity: Fidelity, rows: &[Row]) -> Option<ImageRow> {
    let boots = |row: &&Row| {
        let mut levels = row.levels.values();
        levels.any(|level| level.image.as_deref() == Some(image) && level.fidelity == Some(fidelity))
    };
    let booted = rows.iter().filter(|row| row.missing.is_empty()).filter(boots);
    let (with, without): (Vec<&Row>, Vec<&Row>) =
        booted.partition(|row| least_near(row) == Some(Fidelity::StandIn));
    let names = |rows: &[&Row]| rows.iter().map(|row| row.cell.clone()).collect::<Vec<_>>();
    (!with.is_empty() || !without.is_empty()).then(|| ImageRow {
        image: image.to_owned(),
        fidelity: Some(fidelity),
        cells: names(&without),
        cells_with_stand_ins: names(&with),
        native_cells: Vec::new(),
        medium: None,
    })
}

/// The images with the cells that run on them without a stand-in, and how many cells run on what.
pub fn images(listing: &ImageListing, style: &Style) -> String {
    let mut out = String::new();
    for ImageRow { image, fidelity, cells, cells_with_stand_ins, native_cells, medium } in &listing.rows {
        let name = style.paint(Role::Heading, &format!("{image}{}", fidelity.map_or("", Fidelity::mark)));
        let more = match cells_with_stand_ins.len() {
            0 => String::new(),
            more => format!(", and {more} with a stand-in (*) at another level"),
        };
        let count = match (fidelity, cells.len()) {
            (None, _) if native_cells.is_empty() => "no cell boots it".to_owned(),
            (None, _) => {
                format!(
                    "no cell boots it on emulated metal, {} may on native metal",
                    number(native_cells.len())
                )
            }
            (Some(_), cells) => format!("{} without a stand-in{more}", number(cells)),
        };
        out.push_str(&format!("{name}: {count}\n"));
        if let Some(medium) = medium {
            out.push_str(&format!(
                "  {}\n",
                wrapped(&one_line(&medium.describe()), 2, 4, style.width.min(PROSE))
            ));
        }
        cells.iter().for_each(|cell| out.push_str(&format!("  {cell}\n")));
    }
    if listing.rows.is_empty() {
        out.push_str("no image is a product or a rebuild\n");
    }
    out + &format!("\n{}\n", counts(&listing.counts))
}

fn number(cells: usize) -> String {
    format!("{cells} {}", if cells == 1 { "cell" } else { "cells" })
}

/// `287 cells: 2 on the documented systems, 14 also on rebuilds (~), 74 also on stand-ins (*), 197 skipped`.
fn counts(counts: &BTreeMap<Option<Fidelity>, usize>) -> String {
    let of = |fidelity| counts.get(&fidelity).copied().unwrap_or(0);
    let parts = [
        (of(Some(Fidelity::Product)), "on the documented systems"),
        (of(Some(Fidelity::Rebuild)), "also on rebuilds (~)"),
        (of(Some(Fidelity::StandIn)), "also on stand-ins (*)"),
        (of(None), "skipped"),
    ];
    let parts = parts.map(|(count, what)| format!("{count} {what}"));
    format!("{}: {}", number(counts.values().sum()), parts.join(", "))
}
