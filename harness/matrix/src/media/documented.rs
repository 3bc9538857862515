//! The cells that boot a documented system or a rebuild of it at every level, and which of them would not without the user's media or
//! sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use nestmatrix_images::Catalog;
use nestmatrix_model::Fidelity;
use serde::Serialize;

use crate::run::{Fate, PlannedLevel, RunPlan};
use crate::scenario::CellName;

/// The images of each cell that can boot.
pub type Booted = BTreeMap<CellName, Vec<(String, Fidelity)>>;

/// The cells that boot a documented system or a rebuild of it at every level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Documented {
    /// All cells that are counted, whether they can boot or not.
    pub of: usize,
    /// Those that boot a documented system or a rebuild of it at every level.
    pub cells: usize,
    /// Those of them that would not without the user's media, with the media that they boot.
    pub thanks_to_media: Gain,
    /// Those of them that would not without the user's sources, with the sources that they boot.
    pub thanks_to_sources: Gain,
    /// Other cells that boot a medium's disk at some level, and a stand-in at another.
    pub media_with_stand_ins: usize,
    /// The media that the user added.
    #[serde(skip)]
    media: bool,
}

/// What the user's media or sources add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gain {
    /// The cells.
    pub cells: Vec<CellName>,
    /// The media or sources that these cells boot.
    pub names: BTreeSet<String>,
}

impl Documented {
    /// Counts the cells of a plan. `plan` makes the same plan with another catalog.
    pub fn of_plans(catalog: &Catalog, plan: impl Fn(&Catalog) -> RunPlan) -> Self {
        Self::new(catalog, |catalog| {
            let plan = plan(catalog);
            let booted = plan.cells.iter().filter_map(|planned| match &planned.fate {
                Fate::Boots { levels, .. } => {
                    let image = |level: &PlannedLevel| (level.choice.image.clone(), level.choice.fidelity);
                    Some((planned.cell.name.clone(), levels.iter().map(image).collect()))
                }
                Fate::Skipped(_) => None,
            });
            (plan.cells.len(), booted.collect())
        })
    }

    /// Counts cells. `booted` returns their number, and the images of those that can boot, for a catalog.
    pub fn new(catalog: &Catalog, booted: impl Fn(&Catalog) -> (usize, Booted)) -> Self {
        let (of, with_all) = booted(catalog);
        let is_documented =
            |images: &[(String, Fidelity)]| images.iter().all(|(_, fidelity)| *fidelity != Fidelity::StandIn);
        let documented: Vec<&CellName> =
            with_all.iter().filter(|(_, images)| is_documented(images)).map(|(cell, _)| cell).collect();
        let gain = |without: &Catalog, names: &BTreeMap<String, String>| {
            let (_, without) = booted(without);
            let is_gained =
                |cell: &&&CellName| without.get(**cell).is_none_or(|images| !is_documented(images));
            let cells: Vec<CellName> =
                documented.iter().filter(is_gained).map(|cell| (*cell).clone()).collect();
            let images = cells.iter().filter_map(|cell| with_all.get(cell)).flatten();
            let names = images.filter_map(|(image, _)| names.get(image).cloned()).collect();
            Gain { cells, names }
        };
        let (media, sources) = (media(catalog), sources(catalog));
        let thanks_to_media =
            if media.is_empty() { Gain::default() } else { gain(&catalog.without_media(), &media) };
        let thanks_to_sources =
            if sources.is_empty() { Gain::default() } else { gain(&catalog.without_sources(), &sources) };
        let with_stand_ins = with_all.values().filter(|images| {
            !is_documented(images) && images.iter().any(|(image, _)| media.contains_key(image))
        });
        Self {
            of,
            cells: documented.len(),
            thanks_to_media,
            thanks_to_sources,
            media_with_stand_ins: with_stand_ins.count(),
            media: !media.is_empty(),
        }
    }

    /// Whether the user added anything that could make a difference.
    fn is_of_interest(&self) -> bool {
        self.media || !self.thanks_to_sources.cells.is_empty()
    }
}

/// The media by the images of their disks.
fn media(catalog: &Catalog) -> BTreeMap<String, String> {
    catalog.uses_of_media().iter().map(|of| (of.image(), of.medium.name())).collect()
}

/// The sources by the images that are made of their packages, in part or as a whole.
fn sources(catalog: &Catalog) -> BTreeMap<String, String> {
    let of_source = catalog.recipes().filter_map(|recipe| {
        let (source, os) = (recipe.source()?, recipe.os()?);
        let variant = os.variant.as_ref().map_or(String::new(), |variant| format!("-{variant}"));
        Some((format!("{}-{}{variant}", os.id, os.version), source.name()))
    });
    of_source.collect()
}

/// One line, and a second one if there is more to say; nothing without media and sources.
impl fmt::Display for Documented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.is_of_interest() {
            return Ok(());
        }
        let thanks = [("media", &self.thanks_to_media), ("sources", &self.thanks_to_sources)];
        let thanks: Vec<String> = thanks
            .iter()
            .filter(|(_, gain)| !gain.cells.is_empty())
            .map(|(what, Gain { cells, names })| {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{} thanks to {what} ({})", cells.len(), names.join(", "))
            })
            .collect();
        write!(
            f,
            "{} of {} cells run on documented systems or rebuilds at every level",
            self.cells, self.of
        )?;
        match (self.cells, thanks.as_slice()) {
            (0, _) => writeln!(f)?,
            (_, []) => writeln!(f, ", none of them thanks to media")?,
            (_, thanks) => {
                let of_media: BTreeSet<&CellName> = self.thanks_to_media.cells.iter().collect();
                let both = self.thanks_to_sources.cells.iter().filter(|cell| of_media.contains(cell)).count();
                let both = match both {
                    0 => String::new(),
                    1 => "; 1 of them needs both".to_owned(),
                    more => format!("; {more} of them need both"),
                };
                writeln!(f, ": {}{both}", thanks.join(", "))?;
            }
        }
        match self.media_with_stand_ins {
            0 => Ok(()),
            1 => writeln!(f, "1 more cell boots a disk of your media, and a stand-in at another level"),
            more => {
                writeln!(f, "{more} more cells boot a disk of your media, and a stand-in at another level")
            }
        }
    }
}
