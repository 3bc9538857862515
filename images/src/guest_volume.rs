//! The disk that carries the guest of a Windows level into it.

use crate::digest::Hasher;
use crate::disk::fat::Contents;
use crate::disk::partitioned::{self, Purpose};
use crate::{Digest, Error};
use std::path::{Path, PathBuf};

/// A raw disk with one FAT volume of files. It is partitioned: Windows does not mount every volume that is a whole fixed disk.
#[derive(Debug, Clone, Default)]
pub struct GuestVolume {
    files: Vec<(String, PathBuf)>,
}

impl GuestVolume {
    /// The volume's label, by which Windows finds it.
    pub const LABEL: &'static str = "NESTGUEST";

    /// One without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a copy of a file, under this name.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.files.push((name.into(), path.into()));
        self
    }

    /// Writes the disk.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read, or the disk cannot be written; [`Error::TooLargeForFat`] if a file is too large.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let mut hasher = Hasher::new();
        for (name, file) in &self.files {
            hasher = hasher.field(name).field(Digest::of_file(file)?.as_str());
        }
        let files: Vec<_> =
            self.files.iter().map(|(name, file)| (name.clone(), Contents::Copy(file.clone()))).collect();
        let mut label = *b"           ";
        label[..Self::LABEL.len()].copy_from_slice(Self::LABEL.as_bytes());
        partitioned::write(path, Purpose::Data, &label, &hasher.finish(), &files)
    }
}
