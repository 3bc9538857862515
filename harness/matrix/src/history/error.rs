//! Why the history is not available. No verdict is lost: the runs' folders have them all.

use nestmatrix_model::PROGRAM;
use std::io;
use std::path::PathBuf;

/// Why the history is not available.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A newer version of nestmatrix wrote it.
    #[error(
        "{} was written by a newer nestmatrix: its tables have version {version}, and this nestmatrix supports up to {known}. \
         It was not changed. Use the newer nestmatrix, or move the file away; then it is rebuilt from the runs",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version that is supported here.
        known: u32,
    },
    /// SQLite failed: the disk is full, the folder is not writable, or another process locked it for too long.
    #[error("failed to {doing} {}: {source}", .path.display())]
    Failed {
        /// What failed.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// Its content is damaged.
    #[error("{} is damaged: {why}; `{program} history --rebuild` rebuilds it from the runs", .path.display(), program = PROGRAM)]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The folder of results cannot be read, or a damaged file in it cannot be moved away.
    #[error("failed to {doing} {}: {source}", .path.display())]
    Folder {
        /// What failed.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}
