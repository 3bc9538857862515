//! The folder of a run, `results/RUN/`: the run's facts in `run.json`, one line per verdict in `verdicts.jsonl`, and one folder
//! per cell.
//!
//! Files are replaced in one step, so that a reader never sees half of one. The open file of verdicts is locked: while a run is
//! in progress, no other process resumes or merges it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nestmatrix_images::replace_file;
use serde::Serialize;

use super::moment::now;
use super::{CellRecord, RunRecord};
use crate::contained::{self, RelativeFolder};
use crate::scenario::CellName;

/// A run's folder.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    verdicts: File,
}

impl RunFolder {
    /// Makes the folder of a new run in `results`, named after the current time, and points `results/latest` to it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn create(results: &Path) -> io::Result<Self> {
        let folder = Self::create_aside(results)?;
        point_latest_to(results, &folder.name())?;
        Ok(folder)
    }

    /// The same for a run that `results/latest` should not point to.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn create_aside(results: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(results)?;
        let path = folder_of_now(results)?;
        let options = OpenOptions::new().create_new(true).append(true).clone();
        let verdicts = options.open(path.join("verdicts.jsonl"))?;
        // The kernel releases the lock when the file is closed, however this process ends.
        if let Err(e) = verdicts.try_lock() {
            tracing::warn!("failed to lock the run's folder: {e}");
        }
        Ok(Self { path, verdicts })
    }

    /// Opens and locks the folder of an interrupted run; `None` if another process has locked it.
    ///
    /// # Errors
    /// It can't be opened or locked.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let verdicts = contained::open_to_append(path, Path::new("verdicts.jsonl"))?;
        match verdicts.try_lock() {
            Ok(()) => Ok(Some(Self { path: path.to_owned(), verdicts })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    /// Truncates the file of verdicts to this many bytes.
    pub(crate) fn cut_verdicts(&self, bytes: u64) -> io::Result<()> {
        self.verdicts.set_len(bytes)
    }

    /// Writes the names of the planned cells, in order, in one step.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_cells<'a>(&self, cells: impl IntoIterator<Item = &'a CellName>) -> io::Result<()> {
        replace_file(&self.path.join(CELLS), &lines_of(cells))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Writes `run.json` in one step: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// It can't be written.
    pub fn write_run(&self, record: &RunRecord) -> io::Result<()> {
        replace_file(&self.path.join("run.json"), &text_of(record)?)
    }

    /// Appends a cell's record as one line.
    ///
    /// # Errors
    /// It can't be written.
    pub fn append(&mut self, record: &CellRecord) -> io::Result<()> {
        self.verdicts.write_all(line_of(record)?.as_bytes())
    }

    /// Removes the folder of a cell, if it exists.
    pub(crate) fn clear(&self, cell: &CellName) -> io::Result<()> {
        contained::remove_folder(&self.path, &folder_of(cell)?)
    }

    /// Makes the folder of a cell in that of its run. Returns its path, and its path relative to the run's folder.
    ///
    /// # Errors
    /// It can't be made.
    pub fn cell_in(run: &Path, cell: &CellName) -> io::Result<(PathBuf, RelativeFolder)> {
        let relative = folder_of(cell)?;
        contained::make_folder(run, &relative)?;
        Ok((run.join(relative.as_path()), relative))
    }
}

/// The folder of a cell in that of its run.
fn folder_of(cell: &CellName) -> io::Result<RelativeFolder> {
    Path::new("cells").join(cell.as_str()).try_into().map_err(io::Error::other)
}

/// The file in a run's folder with the names of the planned cells, one per line.
pub(crate) const CELLS: &str = "cells.txt";

/// The text of `run.json`, or of another file with one object.
pub(crate) fn text_of(record: &impl Serialize) -> io::Result<String> {
    let mut text = serde_json::to_string_pretty(record)?;
    text.push('\n');
    Ok(text)
}

/// A line of `verdicts.jsonl`.
pub(crate) fn line_of(record: &CellRecord) -> io::Result<String> {
    let mut line = serde_json::to_string(record)?;
    line.push('\n');
    Ok(line)
}

/// The text of [`CELLS`].
pub(crate) fn lines_of<'a>(cells: impl IntoIterator<Item = &'a CellName>) -> String {
    cells.into_iter().map(|cell| format!("{cell}\n")).collect()
}

/// Points `results/latest` to this folder in it.
pub(crate) fn point_latest_to(results: &Path, name: &str) -> io::Result<()> {
    // A link can't be replaced in one step, but another one can be renamed over it. A killed process may have left one, so its name
    // is new each time.
    let link = tempfile::Builder::new().prefix(".latest-").make_in(results, |link| symlink(name, link))?;
    link.persist(results.join("latest")).map(drop).map_err(|e| e.error)
}

/// Makes a folder in `results` that is named after now.
pub(crate) fn folder_of_now(results: &Path) -> io::Result<PathBuf> {
    unique_folder(results, &now().replace(':', "-"))
}

/// Makes `name` in `parent`, or `name-2` and so on if another run began in the same second.
fn unique_folder(parent: &Path, name: &str) -> io::Result<PathBuf> {
    for number in 1.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = parent.join(format!("{name}{suffix}"));
        match std::fs::create_dir(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path),
        }
    }
    Err(io::Error::other("no free name for the run's folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_points_to_the_newest_of_runs_that_begin_in_the_same_second() {
        let results = tempfile::tempdir().unwrap();
        let runs: Vec<RunFolder> = (0..3).map(|_| RunFolder::create(results.path()).unwrap()).collect();
        let latest = std::fs::read_link(results.path().join("latest")).unwrap();
        assert_eq!(latest.to_string_lossy(), runs[2].name());
        assert_ne!(runs[0].name(), runs[1].name());
    }

    #[test]
    fn a_link_that_a_killed_process_of_the_same_number_left_is_in_no_way() {
        let results = tempfile::tempdir().unwrap();
        symlink("gone", results.path().join(format!(".latest-{}", std::process::id()))).unwrap();
        let run = RunFolder::create(results.path()).unwrap();
        assert_eq!(std::fs::read_link(results.path().join("latest")).unwrap(), Path::new(&run.name()));
        let hidden = |name: &str| name.starts_with(".latest-");
        let entries = std::fs::read_dir(results.path()).unwrap();
        let left = entries.filter(|entry| hidden(&entry.as_ref().unwrap().file_name().to_string_lossy()));
        assert_eq!(left.count(), 1, "the one that was there before");
    }

    #[test]
    fn a_record_is_not_written_through_a_link() {
        let place = tempfile::tempdir().unwrap();
        let private = place.path().join("private");
        std::fs::write(&private, "private").unwrap();
        let run = RunFolder::create(&place.path().join("results")).unwrap();
        symlink(&private, run.path().join("cells.txt")).unwrap();
        run.write_cells(&["s/amd/a".parse().unwrap()]).unwrap();
        assert_eq!(std::fs::read_to_string(&private).unwrap(), "private");
        assert!(run.path().join("cells.txt").symlink_metadata().unwrap().is_file());
    }
}
