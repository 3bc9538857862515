//! Merging: several runs, of shards or of several machines, become one run that says what each of them saw.

mod gather;
mod merged_run;
mod place;
mod several;
mod write;

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use gather::GatheredRuns;
pub use merged_run::MergedRun;
use nestmatrix_model::PROGRAM;
use place::Reserved;
pub(super) use several::{counted, machine_of_all};

use super::folder::{CELLS, folder_of_now, point_latest_to};
use super::{CellRecord, Outcome, PastRun, PastRunError, Purpose};
use crate::contained;

/// Runs that are about to be merged. They are locked, so no process can resume them meanwhile.
#[derive(Debug)]
pub struct Merge {
    runs: Vec<PastRun>,
    locks: Vec<File>,
}

/// The result of a merge.
#[derive(Debug)]
pub struct Merged {
    /// The merged run, with the verdict that counts for each cell.
    pub outcome: Outcome,
    /// For each cell with different verdicts, all that was seen.
    pub conflicts: Vec<Vec<CellRecord>>,
}

/// Why runs can't be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// One can't be read.
    #[error(transparent)]
    Unreadable(#[from] PastRunError),
    /// One is given more than once.
    #[error("{} is given twice", .0.display())]
    Twice(PathBuf),
    /// One has not finished.
    #[error("{} is still in progress", .0.display())]
    InProgress(PathBuf),
    /// One has fewer verdicts than cells, and its list of cells is missing.
    #[error("{} has no {CELLS}, so the cells that it has no verdict of are unknown", .0.display())]
    NoCells(PathBuf),
    /// One is a mutation run, whose mutants a merged run would leave out.
    #[error("{} is a mutation run: `{program} report` shows several of them together", .0.display(), program = PROGRAM)]
    Mutation(PathBuf),
    /// One is a sweep of CPU models.
    #[error("{} is a sweep of CPU models, which is not merged: `{program} diff` compares two of them", .0.display(), program = PROGRAM)]
    CpuModels(PathBuf),
    /// A path in a record leads out of the merged run's folder.
    #[error("{}: {what:?} is not a folder inside a run's", .folder.display())]
    OutsideFolder {
        /// The folder of the run with that record.
        folder: PathBuf,
        /// The path.
        what: String,
    },
    /// Something exists at the place of the merged run.
    #[error("{} exists already", .0.display())]
    InTheWay(PathBuf),
    /// It can't be written.
    #[error("failed to write the merged run {}: {source}", .path.display())]
    Unwritable {
        /// Its folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl Merge {
    /// Reads runs from their folders. Runs that were merged or killed are accepted.
    ///
    /// # Errors
    /// One can't be read, is still in progress, is there twice, or is a mutation run.
    pub fn read(folders: &[PathBuf]) -> Result<Self, MergeError> {
        let mut known = BTreeSet::new();
        let mut locks = Vec::new();
        let mut runs = Vec::new();
        for folder in folders {
            if !known.insert(folder.canonicalize().unwrap_or_else(|_| folder.clone())) {
                return Err(MergeError::Twice(folder.clone()));
            }
            // If a file can't be locked, no run is in progress on that file system.
            if let Ok(verdicts) = contained::open(folder, Path::new("verdicts.jsonl")) {
                match verdicts.try_lock_shared() {
                    Err(TryLockError::WouldBlock) => return Err(MergeError::InProgress(folder.clone())),
                    _ => locks.push(verdicts),
                }
            }
            let run = PastRun::read(folder)?;
            if run.record.purpose == Purpose::Mutation {
                return Err(MergeError::Mutation(folder.clone()));
            }
            if run.record.purpose == Purpose::CpuModels {
                return Err(MergeError::CpuModels(folder.clone()));
            }
            runs.push(run);
        }
        Ok(Self { runs, locks })
    }

    /// Writes them as one run. It goes to the folder `into`, which must not exist yet; without `into`, to a new folder in
    /// `results`, and `results/latest` then points to that. `arguments` are the command line's, for the record.
    ///
    /// # Errors
    /// It can't be written. Nothing of it remains then.
    pub fn write(
        self,
        results: &Path,
        into: Option<&Path>,
        arguments: Vec<String>,
    ) -> Result<Merged, MergeError> {
        let Self { runs, locks } = self;
        let gathered = GatheredRuns::of(runs)?;
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| MergeError::Unwritable { path, source }
        };
        let place = match into {
            Some(path) => Reserved::at(path)?,
            None => {
                let made = fs::create_dir_all(results).and_then(|()| folder_of_now(results));
                Reserved { path: made.map_err(unwritable(results))?, made: true }
            }
        };
        let failed = unwritable(&place.path);
        let name = place.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (outcome, conflicts) = gathered
            .write(&place.path, &name, arguments)
            .and_then(|written| {
                if into.is_none() {
                    // This merge wrote everything in it.
                    let pointed = point_latest_to(results, &name);
                    pointed.inspect_err(|_| drop(fs::remove_dir_all(&place.path)))?;
                }
                Ok(written)
            })
            .map_err(failed)?;
        place.keep();
        drop(locks);
        Ok(Merged { outcome, conflicts })
    }
}
