//! The whole matrix: every document, scenario and cell of a folder, read together so that one report names everything
//! that is wrong in it.

use std::collections::BTreeMap;
use std::path::Path;

use super::cell::Cell;
use super::document::Document;
use super::documents::{Contradiction, Documents};
use super::error::{InputError, InputErrors};
use super::folder::{Folder, display, read_file};
use super::scenario_file::{Context, Scenario};
use super::system::{StandIn, System, Systems};
use super::table::{Keys, Table};

/// The documents, scenarios and cells of one folder.
#[derive(Debug, Clone)]
pub struct Matrix {
    systems: Systems,
    documents: Vec<Document>,
    contradictions: Vec<Contradiction>,
    scenarios: Vec<Scenario>,
    cells: Vec<Cell>,
}

impl Matrix {
    /// Reads the folder `dir`: its `systems.toml`, the documents in `documents/`, and the scenarios in every other
    /// folder.
    ///
    /// # Errors
    /// Everything that is wrong in any of the files. A file that is wrong does not make those that refer to it wrong.
    pub fn load(dir: &Path) -> Result<Self, InputErrors> {
        let mut folder = Folder::scan(dir);
        let errors = &mut folder.errors;
        let systems = load(&Folder::systems(dir), errors, Systems::KEYS, Systems::read);
        let mut documents = Documents::default();
        for path in &folder.documents {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            match load(path, errors, Document::KEYS, |root| Document::read(root, &stem)) {
                Some(document) => {
                    documents.sound.insert(stem, document);
                }
                None => {
                    documents.broken.insert(stem);
                }
            }
        }
        let contradictions = folder.contradictions.as_ref().and_then(|path| {
            load(path, errors, &["contradiction"], |root| Some(documents.contradictions(root)))
        });
        let mut context = Context { systems, documents, names: BTreeMap::new() };
        let mut scenarios = Vec::new();
        let mut cells = Vec::new();
        for path in &folder.scenarios {
            let read = |root: &Table<'_>| Scenario::read(root, &mut context);
            if let Some((scenario, cells_of_it)) = load(path, errors, Scenario::KEYS, read) {
                scenarios.push(scenario);
                cells.extend(cells_of_it);
            }
        }
        match context.systems {
            Some(systems) if folder.errors.is_empty() => {
                let documents = context.documents.sound.into_values().collect();
                let contradictions = contradictions.unwrap_or_default();
                Ok(Self { systems, documents, contradictions, scenarios, cells })
            }
            _ => Err(InputErrors::new(display(dir), folder.errors)),
        }
    }

    /// Every cell, scenario by scenario.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The documents, in the order of their ids.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// Where the documents disagree, in the order of their file.
    pub fn contradictions(&self) -> &[Contradiction] {
        &self.contradictions
    }

    /// The scenarios, in the order of their files' paths.
    pub fn scenarios(&self) -> &[Scenario] {
        &self.scenarios
    }

    /// The operating systems that scenarios can name.
    pub fn systems(&self) -> &[System] {
        &self.systems.systems
    }

    /// The images that stand in for systems which cannot be had.
    pub fn stand_ins(&self) -> &[StandIn] {
        &self.systems.stand_ins
    }
}

/// What one file holds; or nothing, and everything that is wrong with it goes to `errors`.
fn load<T>(
    path: &Path,
    errors: &mut Vec<InputError>,
    keys: Keys,
    read: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Option<T> {
    match read_file(path) {
        Ok(file) => file.interpret(keys, read).map_err(|found| errors.extend(found)).ok(),
        Err(error) => {
            errors.push(error);
            None
        }
    }
}
