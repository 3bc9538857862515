//! Taking in what is new: the folders of runs in that of results which the history has not read as they are now.
//!
//! Nobody has to remember to feed the history, and a run that was killed is no special case: its folder is there.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{History, HistoryError};
use crate::contained;
use crate::records::{FORMAT, PastRun, Purpose};

/// What was taken in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fed {
    /// How many folders had something that was not read before.
    pub folders: usize,
    /// How many verdicts are new.
    pub verdicts: usize,
    /// Folders that can't be read as a run's, and were not known as such.
    pub unread: Vec<Unread>,
}

/// A folder that can't be read as a run's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Which.
    pub folder: PathBuf,
    /// Why not.
    pub why: String,
}

impl History {
    /// Takes in all runs in the folder of results that are new, or have changed since they were taken in. Verdicts that are known
    /// already, as those of a run that was merged or resumed, are not taken in twice.
    ///
    /// # Errors
    /// The folder can't be read, or the history not be written. What was taken in before that stays.
    pub fn handle_event(&mut self) -> Result<Fed, HistoryError> {
        let results = self.path.parent().map_or_else(PathBuf::new, Path::to_owned);
        let runs = folders(&results).map_err(|source| HistoryError::Folder {
            doing: "read the folder of results",
            path: results.clone(),
            source,
        })?;
        let mut fed = Fed::default();
        for (name, folder) in runs {
            // It may have gone meanwhile, or have just been made.
            let Some(stamp) = stamp(&folder) else { continue };
            let known = self.folder(&name)?;
            if known.as_ref().is_some_and(|known| known.stamp == stamp) {
                continue;
            }
            match PastRun::read(&folder) {
                // What somebody did to a stack that was held, or put into one for a trial, is no part of a cell's history.
                Ok(past) if past.record.purpose != Purpose::Matrix => {}
                Ok(past) => {
                    fed.verdicts += self.take_in_run(&past, (&name, &stamp))?;
                    fed.folders += 1;
                }
                Err(e) => {
                    let why = e.to_string();
                    self.note_problem(&name, &stamp, &why)?;
                    if known.and_then(|known| known.problem).as_ref() != Some(&why) {
                        fed.unread.push(Unread { folder, why });
                    }
                }
            }
        }
        Ok(fed)
    }
}

/// The folders of runs in that of results, with their names, in the order of these: that of time. `latest` is a link to one of them.
fn folders(results: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(results)? {
        let entry = entry?;
        // Merges make hidden ones. A name that is no text is nobody's that this program has made.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_run = entry.file_type()?.is_dir() && !name.starts_with('.');
        if is_run && contained::is_file(&entry.path(), Path::new("run.json")) {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// What changes when a run's folder does, or the version of nestmatrix by which it can be read.
fn stamp(folder: &Path) -> Option<String> {
    let of = |metadata: Metadata| {
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(format!("{} {}", metadata.len(), modified.as_nanos()))
    };
    let run = of(fs::symlink_metadata(folder.join("run.json")).ok()?)?;
    // A run that has none is damaged, which is to be told once.
    let verdicts = fs::symlink_metadata(folder.join("verdicts.jsonl")).ok().and_then(of).unwrap_or_default();
    Some(format!("{FORMAT}, {run}, {verdicts}"))
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
