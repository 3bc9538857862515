use nestmatrix_images::Undelivered;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why a disk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Programs are missing on this machine, or it can't run them.
    #[error("cannot make a disk on this machine: {0}")]
    Unavailable(String),
    /// The host's apt configuration names no archive.
    #[error(transparent)]
    Archive(#[from] nestmatrix_images::Error),
    /// The archive lists packages of the system that it does not have.
    #[error("cannot install the system: {0}")]
    Undelivered(Undelivered),
    /// A file or folder could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} failed ({status}): {output}")]
    Tool {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        output: String,
    },
    /// Debian's packages are not as expected.
    #[error("cannot make a disk of the system: {0}")]
    Unexpected(String),
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }
}
