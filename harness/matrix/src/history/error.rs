//! Why a history can't be had. None of it touches a verdict: the runs' folders have them all.

use std::io;
use std::path::PathBuf;

/// Why a history can't be had.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A later nestmatrix has written it.
    #[error(
        "{} is of a newer nestmatrix: its tables have version {version}, and this one knows up to {known}. It is left as it is; \
         use the newer nestmatrix, or move the file away to have a new one made from the runs",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version that it has.
        version: u32,
        /// The version that is known here.
        known: u32,
    },
    /// SQLite could not do it: the disk is full, the folder can't be written, somebody else keeps it for too long.
    #[error("failed to {doing} {}: {source}", .path.display())]
    Failed {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// What is in it is not what was written.
    #[error("{} is damaged: {why}; `cargo xtask history --rebuild` makes a new one from the runs", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The folder of results can't be read, or a damaged file in it not be moved away.
    #[error("failed to {doing} {}: {source}", .path.display())]
    Folder {
        /// What was tried.
        doing: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}
