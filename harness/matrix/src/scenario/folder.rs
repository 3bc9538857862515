//! The folder that contains the matrix, and which files in it are read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nestmatrix_input::{Entry, FileProblem, entries, is_toml};

use super::input::{InputError, InputFile};
use super::problem::ScenarioProblem;

/// The systems that the project ships, compiled in because a folder of the user's need not be near the project's own.
const SHIPPED_SYSTEMS: &str = include_str!("../../../../scenarios/systems.toml");

/// The files of a matrix by their kind, each kind in the order of their paths.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) documents: Vec<PathBuf>,
    pub(super) scenarios: Vec<PathBuf>,
    pub(super) contradictions: Option<PathBuf>,
    pub(super) profiles: Option<PathBuf>,
    pub(super) decided: Option<PathBuf>,
    /// Problems of the folder itself.
    pub(super) errors: Vec<InputError>,
}

impl Folder {
    /// Where the systems and stand-ins are.
    pub(super) fn systems(root: &Path) -> PathBuf {
        root.join("systems.toml")
    }

    /// Where the contradictions between documents are, if any are known.
    pub(super) fn contradictions(root: &Path) -> PathBuf {
        root.join("contradictions.toml")
    }

    /// Where the profiles are, if there are any.
    pub(super) fn profiles(root: &Path) -> PathBuf {
        root.join("profiles.toml")
    }

    /// Where the results of mutation runs are kept, if there are any.
    pub(super) fn decided(root: &Path) -> PathBuf {
        root.join("decided.toml")
    }

    pub(super) fn scan(root: &Path) -> Self {
        let mut folder = Self::default();
        let documents = root.join("documents");
        for Entry { path, is_folder } in folder.entries(root) {
            if path == documents && is_folder {
                folder.documents = folder.toml_files(&path);
            } else if is_folder {
                let scenarios = folder.toml_files(&path);
                folder.scenarios.extend(scenarios);
            } else if path == Self::contradictions(root) {
                folder.contradictions = Some(path);
            } else if path == Self::profiles(root) {
                folder.profiles = Some(path);
            } else if path == Self::decided(root) {
                folder.decided = Some(path);
            } else if is_toml(&path) && path != Self::systems(root) {
                folder.errors.push(InputError::of_file(&display(&path), ScenarioProblem::Misplaced));
            }
        }
        if folder.scenarios.is_empty() && folder.errors.is_empty() {
            folder.errors.push(InputError::of_file(&display(root), ScenarioProblem::NoScenarios));
        }
        folder
    }

    /// The TOML files of one folder. Its subfolders are searched too: files in them are misplaced, and would otherwise be
    /// ignored silently.
    fn toml_files(&mut self, folder: &Path) -> Vec<PathBuf> {
        let (folders, files): (Vec<_>, Vec<_>) =
            self.entries(folder).into_iter().partition(|entry| entry.is_folder);
        for inner in folders {
            for path in self.toml_files(&inner.path) {
                self.errors.push(InputError::of_file(&display(&path), ScenarioProblem::Misplaced));
            }
        }
        files.into_iter().map(|entry| entry.path).filter(|path| is_toml(path)).collect()
    }

    fn entries(&mut self, folder: &Path) -> Vec<Entry> {
        entries(folder).unwrap_or_else(|error| {
            self.errors.push(InputError::of_file(&display(folder), FileProblem::Unreadable(error)));
            Vec::new()
        })
    }
}

pub(super) fn display(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn shipped_systems() -> InputFile {
    InputFile::new("the shipped systems.toml".to_owned(), SHIPPED_SYSTEMS.to_owned())
}

/// The systems of a folder: its own `systems.toml`, and the shipped one only if there is none.
pub(super) fn read_systems(root: &Path) -> Result<InputFile, InputError> {
    let path = Folder::systems(root);
    match fs::symlink_metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(shipped_systems()),
        _ => InputFile::read(&path),
    }
}
