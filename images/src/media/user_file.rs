//! A file that the user gave beside a medium, such as the image with a system's drivers. It stays where it is.

use super::medium::{digest_of, modified, open};
use super::{MediumError, MediumProblem, format, iso};
use crate::Digest;
use crate::progress::Reporter;
use serde::{Deserialize, Serialize};
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
        let (file, data) = open(path)?;
        let sha256 =
            digest_of(&file, data.len(), reporter).map_err(|e| MediumProblem::Unreadable(e).of(path))?;
        Ok(Self { file: path.to_owned(), sha256, size: data.len(), modified: modified(&data) })
    }

    /// The same of a CD image.
    pub(crate) fn read_cd(path: &Path, reporter: Reporter<'_>) -> Result<Self, MediumError> {
        let (file, data) = open(path)?;
        let start = format::read(&file, 0, 64 << 10).map_err(|e| MediumProblem::Unreadable(e).of(path))?;
        if !iso::is_iso(&start) {
            return Err(MediumProblem::NotACd.of(path));
        }
        iso::check(&file, data.len()).map_err(|problem| problem.of(path))?;
        Self::read(path, reporter)
    }

    /// Whether its size and time are those that it had when it was recorded.
    pub(crate) fn looks_unchanged(&self) -> Result<bool, MediumError> {
        let (_, data) = open(&self.file)?;
        Ok(data.len() == self.size && modified(&data) == self.modified)
    }

    /// Compares its contents with what was recorded.
    pub(crate) fn check(&self, reporter: Reporter<'_>) -> Result<(), MediumError> {
        let read = Self::read(&self.file, reporter)?;
        if read.sha256 == self.sha256 {
            return Ok(());
        }
        let (found, expected) = (read.sha256, self.sha256.clone());
        Err(MediumProblem::Changed { found, expected }.of(&self.file))
    }
}
