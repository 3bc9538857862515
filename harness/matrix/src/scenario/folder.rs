//! The folder that contains the matrix: which files in it are read, and how a file becomes text without trusting its size or
//! its bytes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::InputError;
use super::problem::InputProblem;
use super::table::InputFile;

/// The largest file in bytes that is read. Scenarios and documents are written by hand and take a few kilobytes.
pub const FILE_SIZE_LIMIT: u64 = 1 << 20;

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
        for (path, is_folder) in folder.entries(root) {
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
                folder.errors.push(InputError::of_file(&display(&path), InputProblem::Misplaced));
            }
        }
        if folder.scenarios.is_empty() && folder.errors.is_empty() {
            folder.errors.push(InputError::of_file(&display(root), InputProblem::NoScenarios));
        }
        folder
    }

    /// The TOML files of one folder. Its subfolders are searched too: files in them are misplaced, and would otherwise be
    /// ignored silently.
    fn toml_files(&mut self, folder: &Path) -> Vec<PathBuf> {
        let (folders, files): (Vec<_>, Vec<_>) =
            self.entries(folder).into_iter().partition(|(_, is_folder)| *is_folder);
        for (inner, _) in folders {
            for path in self.toml_files(&inner) {
                self.errors.push(InputError::of_file(&display(&path), InputProblem::Misplaced));
            }
        }
        files.into_iter().map(|(path, _)| path).filter(|path| is_toml(path)).collect()
    }

    /// The entries of a folder, in order, and whether each is a folder (a link to one is not). Names that start with a dot are
    /// editors' own files.
    fn entries(&mut self, folder: &Path) -> Vec<(PathBuf, bool)> {
        let hidden = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
        let read = || -> io::Result<Vec<(PathBuf, bool)>> {
            let mut entries = Vec::new();
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                if !hidden(&entry) {
                    entries.push((entry.path(), entry.file_type()?.is_dir()));
                }
            }
            entries.sort();
            Ok(entries)
        };
        read().unwrap_or_else(|error| {
            self.errors.push(InputError::of_file(&display(folder), InputProblem::Unreadable(error)));
            Vec::new()
        })
    }
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

pub(super) fn display(path: &Path) -> String {
    path.display().to_string()
}

/// The systems of a folder: its own `systems.toml`, and the shipped one only if there is none.
pub(super) fn read_systems(root: &Path) -> Result<InputFile, InputError> {
    let path = Folder::systems(root);
    match fs::symlink_metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Ok(InputFile::new("the shipped systems.toml".to_owned(), SHIPPED_SYSTEMS.to_owned()))
        }
        _ => read_file(&path),
    }
}

/// Reads one file as text.
pub(super) fn read_file(path: &Path) -> Result<InputFile, InputError> {
    let name = display(path);
    let whole = |problem| InputError::of_file(&name, problem);
    let too_large = |size| whole(InputProblem::TooLarge { size, limit: FILE_SIZE_LIMIT });
    // Checked before the file is opened, since opening a named pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(|error| whole(InputProblem::Unreadable(error)))?;
    if !metadata.is_file() {
        return Err(whole(InputProblem::NotAFile));
    }
    if metadata.len() > FILE_SIZE_LIMIT {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    // One byte more than the limit, to notice a file that grew meanwhile or reported a wrong size.
    File::open(path)
        .and_then(|file| file.take(FILE_SIZE_LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|error| whole(InputProblem::Unreadable(error)))?;
    if bytes.len() as u64 > FILE_SIZE_LIMIT {
        return Err(too_large(bytes.len() as u64));
    }
    String::from_utf8(bytes).map(|text| InputFile::new(name.clone(), text)).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        // Up to the first bad byte, the readable rendering is the same as the text, so the place is the same in both.
        let text: Arc<str> = String::from_utf8_lossy(error.as_bytes()).into();
        InputError::at(
            &name,
            &text,
            start..start + char::REPLACEMENT_CHARACTER.len_utf8(),
            InputProblem::NotUtf8,
        )
    })
}
