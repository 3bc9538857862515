//! The state of everything on a host that is restored after a cell.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::files::{FileState, Rights};
use super::modules::{DEVICE, Modules};
use super::{HostChange, HostPaths, files, modules, settings};

/// The state of a host, as far as it is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostState {
    modules: Modules,
    device: Option<Rights>,
    files: BTreeMap<String, FileState>,
    settings: BTreeMap<String, String>,
}

impl HostState {
    /// The present state.
    pub(super) fn read(paths: &HostPaths) -> Result<Self, String> {
        Ok(Self {
            modules: modules::read(paths),
            device: modules::device(paths),
            files: files::read(paths)?,
            settings: settings::read(paths),
        })
    }

    /// The value of a module's parameter, if the module is loaded and has it.
    pub(super) fn parameter(&self, module: &str, name: &str) -> Option<&str> {
        Some(self.modules.get(module)?.parameters.get(name)?.as_str())
    }

    /// What differs in the state that was left.
    pub(super) fn changes(&self, left: &Self) -> Vec<HostChange> {
        let mut changes = Vec::new();
        for name in keys(&self.modules, &left.modules) {
            let folder = format!("/sys/module/{name}");
            let (found, left) = (self.modules.get(name), left.modules.get(name));
            let (Some(found), Some(left)) = (found, left) else {
                let loaded = |module: Option<_>| module.map(|_| "loaded".to_owned());
                changes.push(HostChange::new(&folder, loaded(found), loaded(left)));
                continue;
            };
            add(
                &mut changes,
                &format!("{folder}/parameters/"),
                &found.parameters,
                &left.parameters,
                |value, _| value.clone(),
            );
        }
        if self.device != left.device {
            let rights = |rights: Option<Rights>| rights.map(Rights::describe);
            changes.push(HostChange::new(DEVICE, rights(self.device), rights(left.device)));
        }
        add(&mut changes, "", &self.files, &left.files, |file, other| {
            file.describe(other.is_some_and(|other| file.has_content_of(other)))
        });
        add(&mut changes, "", &self.settings, &left.settings, |value, _| value.clone());
        changes
    }

    /// Makes the host what it was. Whatever is restored already stays as it is, so it can be called again after it was cut off.
    /// Returns what went wrong.
    pub(super) fn restore(&self, paths: &HostPaths) -> Vec<String> {
        // Modules get their parameters from the files.
        let files = files::restore(paths, &self.files).err();
        let modules = modules::restore(paths, &self.modules).err();
        let device = modules::restore_device(paths, self.device).err();
        let settings = settings::restore(paths, &self.settings);
        [files, modules, device].into_iter().flatten().chain(settings).collect()
    }
}

fn keys<'a, T>(found: &'a BTreeMap<String, T>, left: &'a BTreeMap<String, T>) -> BTreeSet<&'a String> {
    found.keys().chain(left.keys()).collect()
}

/// Adds what differs. `describe` gets a value and the other one, if there is one.
fn add<T: PartialEq>(
    changes: &mut Vec<HostChange>,
    prefix: &str,
    found: &BTreeMap<String, T>,
    left: &BTreeMap<String, T>,
    describe: impl Fn(&T, Option<&T>) -> String,
) {
    for key in keys(found, left) {
        let (found, left) = (found.get(key), left.get(key));
        if found != left {
            let text = |value: Option<&T>, other| value.map(|value| describe(value, other));
            changes.push(HostChange::new(&format!("{prefix}{key}"), text(found, left), text(left, found)));
        }
    }
}
