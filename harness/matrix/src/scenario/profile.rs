//! Profiles: named choices of cells, so that a run need not boot them all. They are in one file next to the scenarios. Each of
//! their globs must match a cell, so that a profile can't become outdated unnoticed.

use std::collections::BTreeMap;

use nestmatrix_input::Keys;

use super::cell::{Cell, CellName, kebab_case};
use super::filter::CellGlob;
use super::input::Table;
use super::problem::ScenarioProblem;

/// A named choice of cells for runs.
#[derive(Debug, Clone)]
pub struct RunProfile {
    /// Its name, unique in the matrix.
    pub name: String,
    /// What it chooses, for people.
    pub title: String,
    /// It chooses the cells that match any of these, or all cells if there are none.
    cells: Vec<CellGlob>,
    /// The exceptions: it omits the cells that match any of these.
    except: Vec<CellGlob>,
}

impl RunProfile {
    const KEYS: Keys = &["name", "title", "default", "cells", "except"];

    /// Whether it chooses the cell of this name.
    pub fn takes(&self, name: &CellName) -> bool {
        let any = |globs: &[CellGlob]| globs.iter().any(|glob| glob.matches(name));
        (self.cells.is_empty() || any(&self.cells)) && !any(&self.except)
    }

    fn read(table: &Table<'_>, names: &mut BTreeMap<String, String>, cells: Option<&[Cell]>) -> Option<Self> {
        let name = read_name(table, names);
        let title = table.prose("title");
        let taken = table.strings("cells").map(|texts| {
            texts.iter().filter_map(|text| text.parse(|glob| read_glob("cells", glob, cells))).collect()
        });
        let except = table.optional_strings("except").unwrap_or_default();
        let except = except.iter().filter_map(|text| text.parse(|glob| read_glob("except", glob, cells)));
        let except = except.collect();
        Some(Self { name: name?, title: title?, cells: taken?, except })
    }
}

fn read_name(table: &Table<'_>, names: &mut BTreeMap<String, String>) -> Option<String> {
    let text = table.string("name")?;
    let name = text.parse(|name| kebab_case("a profile name", name))?;
    match names.insert(name.clone(), text.location()) {
        Some(first) => {
            text.report(ScenarioProblem::Duplicate { what: "profile", name, first });
            None
        }
        None => Some(name),
    }
}

fn read_glob(key: &'static str, text: &str, cells: Option<&[Cell]>) -> Result<CellGlob, ScenarioProblem> {
    let glob = CellGlob::parse(key, text)?;
    match cells {
        Some(cells) if !cells.iter().any(|cell| glob.matches(&cell.name)) => {
            Err(ScenarioProblem::NoSuchCell { given: text.to_owned() })
        }
        _ => Ok(glob),
    }
}

/// The profiles of a matrix. One of them is the default.
#[derive(Debug, Clone)]
pub(super) struct Profiles {
    pub(super) default: RunProfile,
    others: Vec<RunProfile>,
}

impl Profiles {
    pub(super) const KEYS: Keys = &["profile"];

    /// Reads `profiles.toml`. Each glob must match one of `cells`. If other files are wrong, the cells are unknown, and this is
    /// not checked.
    pub(super) fn read(root: &Table<'_>, cells: Option<&[Cell]>) -> Option<Self> {
        let mut names = BTreeMap::new();
        let tables = root.tables("profile", RunProfile::KEYS);
        let (mut defaults, mut others) = (Vec::new(), Vec::new());
        for table in &tables {
            let profile = RunProfile::read(table, &mut names, cells);
            // A wrong value has already been reported, and does not require another default profile.
            let is_default = table.has("default") && table.optional_boolean("default") != Some(false);
            if is_default {
                defaults.push((table, profile));
            } else {
                others.extend(profile);
            }
        }
        for (table, _) in defaults.iter().skip(1) {
            table.report(ScenarioProblem::SecondDefault);
        }
        // A value that is not a list of profiles has already been reported.
        if defaults.is_empty() && (!tables.is_empty() || !root.has("profile")) {
            root.report(ScenarioProblem::NoDefault);
        }
        let (_, default) = defaults.into_iter().next()?;
        Some(Self { default: default?, others })
    }

    /// Every profile, the default one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &RunProfile> {
        std::iter::once(&self.default).chain(&self.others)
    }
}

/// The profile of a folder without `profiles.toml`: all cells.
impl Default for Profiles {
    fn default() -> Self {
        let (name, title) = ("full".to_owned(), "all cells".to_owned());
        let default = RunProfile { name, title, cells: Vec::new(), except: Vec::new() };
        Self { default, others: Vec::new() }
    }
}
