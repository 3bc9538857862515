//! A host while a cell may change it: what was found is in the journal, and is restored at the end.

use nestmatrix_stack::HostReboot;

use super::state::HostState;
use super::{HostChange, HostPaths, Journal, JournalError, Purpose, files, modules};

/// The file that stands for a cell's kernel parameters of KVM's modules. It is removed with the restored folder.
pub const PARAMETERS_FILE: &str = "/etc/modprobe.d/zz-nestmatrix.conf";

/// A host that a cell may change. If this value is dropped, the host is restored.
#[derive(Debug)]
#[must_use]
pub struct HostGuard {
    paths: HostPaths,
    journal: Journal,
    is_restored: bool,
}

/// What was changed, and whether it is restored.
#[derive(Debug, Default)]
pub struct Restored {
    /// What was not as it was found.
    pub changes: Vec<HostChange>,
    /// What could not be restored, if so.
    pub problem: Option<String>,
}

impl HostGuard {
    /// Records what is found here. The caller is the only run on this host, and has the permission to change it.
    ///
    /// # Errors
    /// The host can't be restored later, so it must not be changed.
    pub fn begin(paths: &HostPaths, purpose: Purpose) -> Result<Self, String> {
        if Journal::exists(paths) {
            return Err("the state of this host is not restored".to_owned());
        }
        modules::check_unused(paths)?;
        let found = HostState::read(paths)?;
        let journal = Journal::new(paths, purpose, found)?;
        journal.write(paths)?;
        Ok(Self { paths: paths.clone(), journal, is_restored: false })
    }

    /// Takes the options of KVM's modules out of /etc/modprobe.d. A document's procedure begins without them, and they could be stronger
    /// than what it writes. The modules stay as they are until they are loaded again.
    ///
    /// # Errors
    /// A file can't be changed, or the kernel's command line has such options.
    pub fn set_options_aside(&self) -> Result<(), String> {
        modules::check_command_line(&self.paths)?;
        files::change_settings(&self.paths, modules::without_options)
    }

    /// Loads KVM with these parameters, as if they were on the kernel's command line. `kvm_module` is that of the architecture.
    ///
    /// # Errors
    /// KVM can't be loaded with them.
    pub fn set_kernel_parameters(&self, parameters: &[String], kvm_module: &str) -> Result<(), String> {
        modules::write_options(&self.paths, PARAMETERS_FILE, parameters)?;
        modules::reload(&self.paths, kvm_module)
    }

    /// Leaves the host as it is, because it is rebooted now. The run continues after that.
    ///
    /// # Errors
    /// The journal can't be written. The host is restored.
    pub fn leave_for_reboot(mut self, reboot: HostReboot) -> Result<(), String> {
        self.journal.reboot = Some(reboot);
        self.journal.write(&self.paths)?;
        self.is_restored = true;
        Ok(())
    }

    /// The host after it was rebooted for a cell, and what was done before. If the run ends before the cell does, the cell begins anew.
    ///
    /// # Errors
    /// The journal can't be used.
    pub fn after_reboot(paths: &HostPaths) -> Result<Option<(Self, HostReboot)>, String> {
        let Some(mut journal) = Journal::read(paths).map_err(|e| e.to_string())? else { return Ok(None) };
        let Some(reboot) = journal.reboot.take() else { return Ok(None) };
        journal.write(paths)?;
        Ok(Some((Self { paths: paths.clone(), journal, is_restored: false }, reboot)))
    }

    /// Restores what was found.
    pub fn restore(mut self) -> Restored {
        self.is_restored = true;
        restore_state(&self.paths, &self.journal.found)
    }
}

impl Drop for HostGuard {
    fn drop(&mut self) {
        if !self.is_restored
            && let Some(problem) = restore_state(&self.paths, &self.journal.found).problem
        {
            tracing::error!("{problem}");
        }
    }
}

/// Restores the host if its journal says that it is not restored. The caller is the only run on it. Returns for whom it was changed.
///
/// # Errors
/// The journal can't be used.
pub fn restore(paths: &HostPaths) -> Result<Option<(Purpose, Restored)>, JournalError> {
    let Some(journal) = Journal::read(paths)? else { return Ok(None) };
    Ok(Some((journal.purpose, restore_state(paths, &journal.found))))
}

/// The journal stays until everything is as it was found.
fn restore_state(paths: &HostPaths, found: &HostState) -> Restored {
    let mut changes = match HostState::read(paths) {
        Ok(left) => found.changes(&left),
        Err(why) => return Restored { changes: Vec::new(), problem: Some(not_restored(&why)) },
    };
    let mut problems = found.restore(paths);
    let still = match HostState::read(paths) {
        Ok(now) => found.changes(&now),
        Err(why) => return Restored { changes, problem: Some(not_restored(&why)) },
    };
    for change in &mut changes {
        change.restored = !still.iter().any(|other| other.what == change.what);
    }
    if still.is_empty() {
        // What went wrong on the way made no difference.
        problems = Journal::remove(paths).err().into_iter().collect();
    } else {
        let all = still.iter().map(HostChange::describe).collect::<Vec<_>>().join(", ");
        problems.insert(0, all);
    }
    let problem = (!problems.is_empty()).then(|| not_restored(&problems.join("; ")));
    Restored { changes, problem }
}

fn not_restored(why: &str) -> String {
    format!("this host is not as it was found: {why}")
}
