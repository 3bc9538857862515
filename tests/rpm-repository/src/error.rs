use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why a repository could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image whose packages are the source is not available.
    #[error(transparent)]
    Image(#[from] nestmatrix_images::Error),
    /// A recipe cannot be read.
    #[error(transparent)]
    Recipe(#[from] nestmatrix_images::RecipeErrors),
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
    /// A program of RPM, GnuPG or dpkg failed.
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
    #[error("cannot make {of} of Debian's packages: {message}")]
    Unexpected {
        /// The file or package to be made.
        of: String,
        /// What is different.
        message: String,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn unexpected(of: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unexpected { of: of.into(), message: message.into() }
    }
}
