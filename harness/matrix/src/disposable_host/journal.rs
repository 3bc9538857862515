//! The journal: what was found on a host before a cell changed it. It is on disk before the first change, and is removed when
//! everything is restored.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nestmatrix_stack::HostReboot;
use serde::{Deserialize, Serialize};

use super::state::HostState;
use super::{FOLDER, HostPaths, permission};

/// The version of the journal's format.
const FORMAT: u32 = 1;

/// For whom a host is changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purpose {
    /// The cell.
    pub cell: String,
    /// The folder of its run.
    pub run: PathBuf,
    /// When, UTC, RFC 3339.
    pub began: String,
}

/// What was found on a host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Journal {
    format: u32,
    /// The machine that it is about: a copy of its disk may be in another one.
    machine: String,
    /// For whom it was to be changed.
    pub purpose: Purpose,
    pub(super) found: HostState,
    /// What was done before the machine was rebooted, if it was, or is to be.
    #[serde(default)]
    pub(super) reboot: Option<HostReboot>,
}

/// Why a journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It can't be read.
    #[error("failed to read {}: {source}", .path.display())]
    Read {
        /// Where it is.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// It is not what was written.
    #[error("{} is damaged ({why}): restore the host by hand, and remove the file", .path.display())]
    Damaged {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It was written on another machine.
    #[error("{} is about another machine, of which this one has a copy of the disk: remove the file", .0.display())]
    AnotherMachine(PathBuf),
}

impl Journal {
    fn path(paths: &HostPaths) -> PathBuf {
        paths.at(FOLDER).join("journal.json")
    }

    /// Whether there is one: the state of the host is not restored. Any user may ask.
    pub fn exists(paths: &HostPaths) -> bool {
        Self::path(paths).exists()
    }

    /// The journal of this host, if its state is not restored.
    ///
    /// # Errors
    /// It can't be used.
    pub fn read(paths: &HostPaths) -> Result<Option<Self>, JournalError> {
        let path = Self::path(paths);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JournalError::Read { path, source }),
        };
        let journal: Self = serde_json::from_slice(&text)
            .map_err(|e| JournalError::Damaged { path: path.clone(), why: e.to_string() })?;
        if journal.format != FORMAT {
            let why = format!("its format is {}, and this program knows {FORMAT}", journal.format);
            return Err(JournalError::Damaged { path, why });
        }
        match permission::machine_id(paths) {
            Ok(id) if id == journal.machine => Ok(Some(journal)),
            _ => Err(JournalError::AnotherMachine(path)),
        }
    }

    /// Whether the run in this folder goes on after a reboot of this machine.
    pub fn awaits(&self, run: &Path) -> bool {
        self.reboot.is_some() && is_same(&self.purpose.run, run)
    }

    /// The parameter `nested` of a module before the cell changed anything.
    pub fn nested_before(&self, module: &str) -> Option<&str> {
        self.found.parameter(module, "nested")
    }

    /// The journal of this machine.
    pub(super) fn new(paths: &HostPaths, purpose: Purpose, found: HostState) -> Result<Self, String> {
        let machine = permission::machine_id(paths)?;
        Ok(Self { format: FORMAT, machine, purpose, found, reboot: None })
    }

    /// Writes it, so that it survives a crash of the whole machine.
    pub(super) fn write(&self, paths: &HostPaths) -> Result<(), String> {
        let path = Self::path(paths);
        let write = || {
            let folder = paths.at(FOLDER);
            fs::create_dir_all(&folder)?;
            let new = path.with_extension("new");
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            // The folders may be new.
            for folder in folder.ancestors().take(3) {
                File::open(folder)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|e: io::Error| format!("failed to write {}: {e}", path.display()))
    }

    /// Removes the journal of a host that is restored.
    pub(super) fn remove(paths: &HostPaths) -> Result<(), String> {
        let path = Self::path(paths);
        let removed = match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => File::open(paths.at(FOLDER)).and_then(|folder| folder.sync_all()),
        };
        removed.map_err(|e| format!("failed to remove {}: {e}", path.display()))
    }
}

/// Whether both are the same folder.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    real(one).is_some_and(|one| real(other) == Some(one))
}
