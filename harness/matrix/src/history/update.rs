//! The update of the history: it reads the folders of runs that are new or have changed.
//!
//! Every use of the history updates it first, so a run that was killed is no special case: its folder exists.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{History, HistoryError};
use crate::contained;
use crate::records::{FORMAT, PastRun, Purpose};

/// The result of an update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Updated {
    /// The number of folders that were read.
    pub folders: usize,
    /// The number of new verdicts.
    pub verdicts: usize,
    /// Folders that cannot be read as a run, if that was not known before.
    pub unread: Vec<Unread>,
}

/// A folder that cannot be read as a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The folder.
    pub folder: PathBuf,
    /// The reason.
    pub why: String,
}

impl History {
    /// Adds all runs in the folder of results that are new or have changed. Verdicts that are already known, for example those of a
    /// run that was merged or resumed, are not added twice.
    ///
    /// # Errors
    /// The folder cannot be read, or the history cannot be written. What was added before that stays.
    pub fn update(&mut self) -> Result<Updated, HistoryError> {
        let results = self.path.parent().map_or_else(PathBuf::new, Path::to_owned);
        let runs = folders(&results).map_err(|source| HistoryError::Folder {
            doing: "read the folder of results",
            path: results.clone(),
            source,
        })?;
        let mut updated = Updated::default();
        for (name, folder) in runs {
            // It may have been removed, or it is still being created.
            let Some(stamp) = stamp(&folder) else { continue };
            let known = self.folder(&name)?;
            if known.as_ref().is_some_and(|known| known.stamp == stamp) {
                continue;
            }
            match PastRun::read(&folder) {
                // Debug sessions, trials of a bisection and mutants are not part of a cell's history.
                Ok(past) if past.record.purpose != Purpose::Matrix => {}
                Ok(past) => {
                    updated.verdicts += self.insert_run(&past, (&name, &stamp))?;
                    updated.folders += 1;
                }
                Err(e) => {
                    let why = e.to_string();
                    self.note_problem(&name, &stamp, &why)?;
                    if known.and_then(|known| known.problem).as_ref() != Some(&why) {
                        updated.unread.push(Unread { folder, why });
                    }
                }
            }
        }
        Ok(updated)
    }
}

/// The folders of runs in the folder of results, sorted by name and so by time. `latest` is a link to one of them.
fn folders(results: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(results)? {
        let entry = entry?;
        // Merges create hidden folders. This program only uses names that are valid text.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_run = entry.file_type()?.is_dir() && !name.starts_with('.');
        if is_run && contained::is_file(&entry.path(), Path::new("run.json")) {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Changes when the run's folder changes, or when a new version of nestmatrix reads runs differently.
fn stamp(folder: &Path) -> Option<String> {
    let of = |metadata: Metadata| {
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(format!("{} {}", metadata.len(), modified.as_nanos()))
    };
    let run = of(fs::symlink_metadata(folder.join("run.json")).ok()?)?;
    // A run without verdicts is damaged, which is reported once.
    let verdicts = fs::symlink_metadata(folder.join("verdicts.jsonl")).ok().and_then(of).unwrap_or_default();
    Some(format!("{FORMAT}, {run}, {verdicts}"))
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
