//! A file that the user gave beside a medium, such as the image with a system's drivers. It stays where it is.

use super::medium::{digest_of_unchanging, modified, open};
use super::{MediumError, MediumProblem, MediumState, format, iso};
use crate::Digest;
use crate::progress::Reporter;
use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};

/// What is recorded of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct UserFile {
    /// Its absolute path.
    pub(crate) file: PathBuf,
    pub(crate) sha256: Digest,
    /// In bytes.
    pub(crate) size: u64,
    /// When it was last modified, in nanoseconds since 1970.
    modified: i64,
}

impl UserFile {
    /// Reads a file that is to be recorded.
    pub(crate) fn read(path: &Path, reporter: Reporter<'_>) -> Result<Self, MediumError> {
        Self::of(&open(path)?, path, reporter)
    }

    /// The same of a CD image.
    pub(crate) fn read_cd(path: &Path, reporter: Reporter<'_>) -> Result<Self, MediumError> {
        let opened = open(path)?;
        let (file, data) = &opened;
        let start = format::read(file, 0, 64 << 10).map_err(|e| MediumProblem::Unreadable(e).of(path))?;
        if !iso::is_iso(&start) {
            return Err(MediumProblem::NotACd.of(path));
        }
        iso::check(file, data.len()).map_err(|problem| problem.of(path))?;
        Self::of(&opened, path, reporter)
    }

    fn of((file, data): &(File, Metadata), path: &Path, reporter: Reporter<'_>) -> Result<Self, MediumError> {
        let sha256 = digest_of_unchanging(file, data, reporter).map_err(|problem| problem.of(path))?;
        Ok(Self { file: path.to_owned(), sha256, size: data.len(), modified: modified(data) })
    }

    /// What its size and time show.
    pub(crate) fn state(&self) -> MediumState {
        MediumState::of(&self.file, self.size, self.modified)
    }

    /// Makes sure that its contents are those that were recorded. They are read only if its size or time has changed; if they are the
    /// same, it takes the new time.
    pub(crate) fn ensure_unchanged(&mut self, reporter: Reporter<'_>) -> Result<(), MediumError> {
        if !matches!(self.state(), MediumState::Unchanged) {
            self.modified = self.check(reporter)?;
        }
        Ok(())
    }

    /// Compares its contents with what was recorded. Returns when it was modified.
    pub(crate) fn check(&self, reporter: Reporter<'_>) -> Result<i64, MediumError> {
        let read = Self::read(&self.file, reporter)?;
        if read.sha256 == self.sha256 {
            return Ok(read.modified);
        }
        let (found, expected) = (read.sha256, self.sha256.clone());
        Err(MediumProblem::Changed { found, expected }.of(&self.file))
    }
}
