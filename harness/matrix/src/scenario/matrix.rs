//! The whole matrix: every document, scenario and cell of a folder, read together so that one report names every error in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nestmatrix_input::Keys;
use nestmatrix_model::UnknownWord;

use super::cell::Cell;
use super::decided::Ledger;
use super::document::{Claim, Document};
use super::documents::{Contradiction, Contradictions, Documents, OutsideContradiction};
use super::folder::{Folder, display, read_systems};
use super::input::{InputError, InputErrors};
use super::input::{InputFile, Table};
use super::profile::{Profiles, RunProfile};
use super::scenario_file::{Context, Scenario};
use super::stand_in::StandIn;
use super::system::{System, Systems};

/// The documents, scenarios and cells of one folder.
#[derive(Debug, Clone)]
pub struct Matrix {
    systems: Systems,
    documents: Vec<Document>,
    contradictions: Contradictions,
    scenarios: Vec<Scenario>,
    cells: Vec<Cell>,
    profiles: Profiles,
    decided: Ledger,
}

impl Matrix {
    /// Reads the folder `dir`: its `systems.toml`, the documents in `documents/`, the scenarios in every other folder,
    /// its `profiles.toml` and its `decided.toml`. A folder without a `systems.toml` uses the shipped systems.
    ///
    /// Every error in any of the files. A file with an error does not make the files that refer to it wrong.
    pub fn load(dir: &Path) -> Result<Self, InputErrors> {
        let mut folder = Folder::scan(dir);
        let errors = &mut folder.errors;
        let systems = interpret(read_systems(dir), errors, Systems::KEYS, Systems::read);
        let mut documents = Documents::default();
        for path in &folder.documents {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            match load(path, errors, Document::KEYS, Document::read) {
                Some(document) => {
                    documents.sound.insert(stem, document);
                }
                None => {
                    documents.broken.insert(stem);
                }
            }
        }
        let contradictions = folder.contradictions.as_ref().and_then(|path| {
            load(path, errors, Contradictions::KEYS, |root| Some(documents.contradictions(root)))
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
        // If a file is wrong, its scenarios are missing here. Another scenario that names one of them is still right.
        if errors.is_empty() {
            for (path, scenario) in folder.scenarios.iter().zip(&scenarios) {
                if scenario.control().is_some() {
                    load(path, errors, Scenario::KEYS, |root| {
                        scenario.check_control(root, &scenarios, &cells);
                        Some(())
                    });
                }
            }
        }
        // If a file is wrong, its cells are missing here. A glob that matches only those is still right.
        let known = errors.is_empty().then_some(cells.as_slice());
        let profiles = folder.profiles.as_ref().map_or(Some(Profiles::default()), |path| {
            load(path, errors, Profiles::KEYS, |root| Profiles::read(root, known))
        });
        let decided = folder.decided.as_ref().map_or(Some(Ledger::default()), |path| {
            load(path, errors, Ledger::KEYS, |root| Some(Ledger::read(root, known)))
        });
        match context.systems {
            Some(systems) if folder.errors.is_empty() => {
                let documents = context.documents.sound.into_values().collect();
                let contradictions = contradictions.unwrap_or_default();
                let profiles = profiles.unwrap_or_default();
                let decided = decided.unwrap_or_default();
                Ok(Self { systems, documents, contradictions, scenarios, cells, profiles, decided })
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

    /// The claim of this name, `DOCUMENT/CLAIM`.
    pub fn claim(&self, name: &str) -> Option<&Claim> {
        let (document, id) = name.split_once('/')?;
        let document = self.documents.iter().find(|known| known.id == document)?;
        document.claims.iter().find(|known| known.id == id)
    }

    /// The contradictions between the documents, in the order of their file.
    pub fn contradictions(&self) -> &[Contradiction] {
        &self.contradictions.pairs
    }

    /// Contradictions of documents that the matrix does not have, in the order of their file.
    pub fn outside_contradictions(&self) -> &[OutsideContradiction] {
        &self.contradictions.outside
    }

    /// The scenarios, in the order of their files' paths.
    pub fn scenarios(&self) -> &[Scenario] {
        &self.scenarios
    }

    /// The profiles, the default one first. A folder without a file of profiles has one, `full`, of all its cells.
    pub fn profiles(&self) -> impl Iterator<Item = &RunProfile> {
        self.profiles.all()
    }

    /// The default profile.
    pub fn default_profile(&self) -> &RunProfile {
        &self.profiles.default
    }

    /// The profile of this name.
    ///
    /// # Errors
    /// There is none; the error names the existing ones.
    pub fn profile(&self, name: &str) -> Result<&RunProfile, InputError> {
        self.profiles().find(|profile| profile.name == name).ok_or_else(|| {
            let known = self.profiles().map(|profile| profile.name.clone()).collect();
            InputError::of_argument(UnknownWord { what: "profile", given: name.to_owned(), known })
        })
    }

    /// What was shown about the cells.
    pub fn decided(&self) -> &Ledger {
        &self.decided
    }

    /// The file in the folder `dir` that records what was shown about the cells.
    pub fn decided_file(dir: &Path) -> PathBuf {
        Folder::decided(dir)
    }

    /// The operating systems that scenarios can name.
    pub fn systems(&self) -> &[System] {
        &self.systems.systems
    }

    /// The images that stand in for systems that are not available.
    pub fn stand_ins(&self) -> &[StandIn] {
        &self.systems.stand_ins
    }
}

/// The contents of one file. If the file is wrong, nothing, and all its errors are added to `errors`.
fn load<T>(
    path: &Path,
    errors: &mut Vec<InputError>,
    keys: Keys,
    read: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Option<T> {
    interpret(InputFile::read(path), errors, keys, read)
}

/// The same for a file that has been read, or could not be read.
fn interpret<T>(
    file: Result<InputFile, InputError>,
    errors: &mut Vec<InputError>,
    keys: Keys,
    read: impl FnOnce(&Table<'_>) -> Option<T>,
) -> Option<T> {
    match file {
        Ok(file) => file.interpret(keys, read).map_err(|found| errors.extend(found)).ok(),
        Err(error) => {
            errors.push(error);
            None
        }
    }
}
