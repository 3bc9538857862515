//! Who uses a host. A run that may change it is alone on it; other runs on native metal share it.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::{FOLDER, HostPaths};

/// The use of a host. It ends with this value, or with the process.
#[derive(Debug)]
#[must_use]
pub struct Lease {
    _lock: File,
}

/// Why a host can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InUse {
    /// Another run has it.
    #[error("another run of nestmatrix is using this host{0}; wait until it has ended")]
    ByAnother(String),
    /// The lock can't be taken.
    #[error("failed to lock {}: {source}", .path.display())]
    System {
        /// The lock.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl Lease {
    fn path(paths: &HostPaths) -> PathBuf {
        paths.at(FOLDER).join("lock")
    }

    /// The host for a run that may change it, which no other run uses at the same time. Needs root.
    ///
    /// # Errors
    /// Another run uses it.
    pub fn exclusive(paths: &HostPaths) -> Result<Self, InUse> {
        let path = Self::path(paths);
        let failed = |source| InUse::System { path: path.clone(), source };
        let folder = paths.at(FOLDER);
        fs::create_dir_all(&folder).map_err(failed)?;
        // Other users lock it for reading, whatever the umask of root is.
        for folder in folder.ancestors().take(2) {
            fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(failed)?;
        file.set_permissions(Permissions::from_mode(0o644)).map_err(failed)?;
        locked(file.try_lock(), &path)?;
        let named = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        named.map_err(|source| InUse::System { path: path.clone(), source })?;
        Ok(Self { _lock: file })
    }

    /// The host for a run that does not change it; nothing if it was never one that may be changed.
    ///
    /// # Errors
    /// A run uses it that may change it.
    pub fn shared(paths: &HostPaths) -> Result<Option<Self>, InUse> {
        let path = Self::path(paths);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(InUse::System { path, source }),
        };
        locked(file.try_lock_shared(), &path)?;
        Ok(Some(Self { _lock: file }))
    }
}

fn locked(locked: Result<(), TryLockError>, path: &std::path::Path) -> Result<(), InUse> {
    locked.map_err(|e| match e {
        TryLockError::WouldBlock => {
            let process = fs::read_to_string(path).unwrap_or_default();
            let process = process.trim();
            let lives = !process.is_empty() && fs::exists(format!("/proc/{process}")).unwrap_or(false);
            InUse::ByAnother(if lives { format!(" (process {process})") } else { String::new() })
        }
        TryLockError::Error(source) => InUse::System { path: path.to_owned(), source },
    })
}
