//! The user's media below a list, and the cells that they turn real.

use nestmatrix_images::Catalog;

use super::cell_list::Listing;
use super::style::Style;
use super::text::{one_line, wrapped};
use crate::media::{Documented, MediumRow};

/// The widest that prose gets: longer lines are hard to read. Tables may be wider, because of the names of the cells.
pub(super) const PROSE: usize = 110;

/// Counts the cells of a list that boot documented systems. `list` makes the same list with another catalog.
pub fn documented<'m>(catalog: &Catalog, list: impl Fn(&Catalog) -> Listing<'m>) -> Documented {
    Documented::new(catalog, |catalog| {
        let listing = list(catalog);
        let booted = listing.rows().iter().filter(|row| row.missing.is_empty()).map(|row| {
            let levels = row.levels.values();
            let images = levels.filter_map(|level| Some((level.image.clone()?, level.fidelity?)));
            (row.cell.clone(), images.collect())
        });
        (listing.rows().len(), booted.collect())
    })
}

/// The media whose disks `is_booted`, and those that can't be used, under a heading; nothing if there are none.
pub fn media(rows: &[MediumRow], is_booted: impl Fn(&str) -> bool, style: &Style) -> String {
    let shown = rows.iter().filter(|row| row.unusable.is_some() || is_booted(&row.image));
    let mut out = String::new();
    for row in shown {
        let heading = if out.is_empty() { "disks:\n" } else { "" };
        let text = one_line(&format!("{}: {}", row.image, row.describe()));
        out.push_str(&format!("{heading}  {}\n", wrapped(&text, 2, 4, style.width.min(PROSE))));
    }
    out
}
