//! The private folders of a cell while its stack is up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The private folders of a cell. What they contain is removed after each attempt.
pub(super) struct CellFolders {
    /// The folder of its sockets, which has a short path.
    pub(super) sockets: PathBuf,
    /// The folder of files that may be large, such as the disks of its levels.
    pub(super) files: PathBuf,
}

impl CellFolders {
    /// Makes both.
    ///
    /// # Errors
    /// The folder that can't be made, and why.
    pub(super) fn make(&self) -> Result<(), (&Path, io::Error)> {
        [&self.sockets, &self.files]
            .into_iter()
            .try_for_each(|folder| fs::create_dir_all(folder).map_err(|e| (folder.as_path(), e)))
    }

    /// Removes both. What can't be removed now is removed with the run's folders.
    pub(super) fn remove(&self) {
        for folder in [&self.sockets, &self.files] {
            let _ = fs::remove_dir_all(folder);
        }
    }
}
