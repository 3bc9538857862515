//! A disposable host: this machine as an L0 that cells may change.
//!
//! An administrator permits it with a file that names the machine itself. Before a cell changes anything, the state of a fixed list of
//! things is written to a journal. After the cell they are restored, or by the next command if the harness was killed.

mod change;
mod files;
mod guard;
mod journal;
mod lease;
mod modules;
mod permission;
mod settings;
mod state;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use change::HostChange;
pub use guard::{HostGuard, PARAMETERS_FILE, Restored, restore};
pub use journal::{Journal, JournalError, Purpose};
pub use lease::{InUse, Lease};
pub use modules::kvm_parameter;
pub use permission::{NotPermitted, identity, permitted};

/// The folder of the journal and the lock.
pub const FOLDER: &str = "/var/lib/nestmatrix/host-state";

/// The file with which an administrator permits changes of this machine.
pub const PERMISSION: &str = "/etc/nestmatrix/disposable-host";

/// Where the parts of a machine are.
#[derive(Debug, Clone)]
pub struct HostPaths {
    /// Its root folder. Only tests have another one.
    root: PathBuf,
    /// The program that loads modules.
    modprobe: PathBuf,
    /// The pause before a module that is in use is tried again.
    pause: Duration,
}

impl HostPaths {
    /// This machine's.
    pub fn of_this_machine() -> Self {
        Self { root: "/".into(), modprobe: "modprobe".into(), pause: Duration::from_millis(500) }
    }

    /// Where an absolute path of the machine is.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The absolute path on the machine of a file that is there.
    fn name_of(&self, path: &Path) -> Option<String> {
        Some(format!("/{}", path.strip_prefix(&self.root).ok()?.to_str()?))
    }
}

/// What failed, on which file.
fn failed(what: &str, path: &Path) -> impl FnOnce(std::io::Error) -> String {
    let path = path.display().to_string();
    move |e| format!("failed to {what} {path}: {e}")
}
