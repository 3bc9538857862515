//! What a stack with Windows can be, and what its scenario can ask of Windows and of the guests that Windows starts.

use nestmatrix_model::{Architecture, Fault, FaultAction, Isa, Launch, LevelNumber, Step, Word};

use super::axes::{Axes, LevelAxis};
use super::family::Family;
use super::input::Table;
use super::level::{LevelSettings, LevelSpec};
use super::problem::ScenarioProblem;
use super::role::Role;

/// Why no machine can run a stack of these levels, outermost first, as far as Windows is concerned.
pub(crate) fn why_no_stack(architecture: Architecture, levels: &[LevelSpec]) -> Option<String> {
    let windows = levels.iter().find(|spec| spec.system.is_windows());
    if let Some(spec) = windows.filter(|_| architecture.isa() != Isa::Amd64) {
        return Some(format!("{} has Windows, which nestmatrix runs only on {}", spec.level, Isa::Amd64));
    }
    levels.iter().enumerate().find_map(|(index, spec)| {
        let host = index.checked_sub(1).and_then(|host| levels.get(host));
        let has_guest = index + 1 < levels.len();
        why_no_guest(host.and_then(|host| host.system.windows_role()), spec)
            .or_else(|| why_no_host(spec, has_guest))
    })
}

/// Why this level can't run in a host with this role.
fn why_no_guest(role: Option<Role>, spec: &LevelSpec) -> Option<String> {
    match (role, spec.system.family) {
        (Some(Role::Wsl2), Some(Family::Wsl)) => None,
        (_, Some(Family::Wsl)) => Some(format!("{} runs only in WSL2", spec.system.name)),
        (Some(Role::Wsl2), _) => Some(format!("WSL2 runs no {}, only Linux in WSL", spec.system.name)),
        (Some(Role::HyperV), Some(Family::Windows)) => {
            Some("nestmatrix starts only Linux in Hyper-V, no Windows".to_owned())
        }
        _ => None,
    }
}

/// Why this level can't have a guest, or can't be without one.
fn why_no_host(spec: &LevelSpec, has_guest: bool) -> Option<String> {
    let LevelSpec { level, system, settings, .. } = spec;
    let started_by = Role::of_launch(settings.launch());
    match (system.is_windows(), system.role, has_guest) {
        (true, ..) if level.below().is_none() => {
            Some("L0 has Windows, and nestmatrix starts L1 with KVM alone".to_owned())
        }
        (false, Some(role), _) => Some(format!(
            "{} is a part of Windows, and systems.toml does not say that {} is of the family `windows`",
            role.name(),
            system.name
        )),
        (true, Some(role), false) => Some(format!(
            "{level} is the innermost level, and only a Windows without {} reports",
            role.name()
        )),
        (true, None, true) => {
            Some(format!("{level} has Windows with neither Hyper-V nor WSL2, so nothing in it runs guests"))
        }
        (_, _, true) => started_by
            .map(|role| format!("{level} runs in {}, so it can only be the innermost level", role.name())),
        _ => None,
    }
}

/// The keys of a level that Windows starts. Everything else is about QEMU's machines.
const KEYS: [&str; 4] = ["launch", "cpus", "memory-mib", "kernel-parameters"];

impl Axes {
    /// Reports settings of levels that their systems, or the systems around them, can't have. `tables` are those of the levels.
    pub(super) fn check_windows<'t>(&self, tables: impl Iterator<Item = Option<&'t Table<'t>>>) {
        let hosts = std::iter::once(None).chain(self.levels.iter().map(Some));
        for ((host, axis), table) in hosts.zip(&self.levels).zip(tables) {
            if let (Some(host), Some(table)) = (host, table) {
                check_launch(table, axis, host);
                check_keys(table, axis.level, host);
            }
        }
    }

    /// Reports steps in Windows and in the levels inside: only the levels around it have a shell that takes commands.
    pub(super) fn check_steps_in_windows<'t>(&self, steps: impl Iterator<Item = (&'t Step, &'t Table<'t>)>) {
        let windows = self.levels.iter().find(|axis| axis.has_windows());
        let Some(windows) = windows.map(|axis| axis.level) else { return };
        for (step, table) in steps {
            let levels = step.measured_levels().chain([step.on]);
            let Some(level) = levels.max().filter(|level| *level >= windows) else { continue };
            let step = step.name.clone();
            table.report(ScenarioProblem::StepInWindows { step, level, windows });
        }
    }

    /// Reports faults that need a QEMU, or a kernel, that a guest of Windows does not have.
    pub(super) fn check_faults_in_windows<'t>(
        &self,
        faults: impl Iterator<Item = (&'t Fault, &'t Table<'t>)>,
    ) {
        for (fault, table) in faults {
            let host = self.levels.iter().find(|axis| Some(axis.level) == fault.level.below());
            let roles: Vec<Role> = host.into_iter().flat_map(LevelAxis::roles).collect();
            let is_impossible = match fault.action {
                FaultAction::KillQemu | FaultAction::CloseQmp => !roles.is_empty(),
                // Only WSL has the kernel of a Linux in WSL.
                FaultAction::StartOnL0 => roles.contains(&Role::Wsl2),
            };
            if is_impossible {
                let (action, level) = (fault.action.word(), fault.level);
                table.report(ScenarioProblem::FaultInWindows { action, level });
            }
        }
    }
}

/// Reports a `launch` that does not fit a system of the level, or of the level around it.
fn check_launch(table: &Table<'_>, axis: &LevelAxis, host: &LevelAxis) {
    // A wrong one has already been reported.
    let Some(launch) = axis.settings.launch_as_given() else { return };
    let Some(text) = table.optional_string("launch") else { return };
    let level = axis.level;
    let unfit = host.systems.iter().map(|value| &value.value).find(|system| match system.windows_role() {
        Some(role) => role.launch() != launch,
        None => Role::of_launch(launch).is_some(),
    });
    if let Some(system) = unfit {
        let (host, system) = (host.level, system.to_string());
        text.report(ScenarioProblem::LaunchUnfit { level, launch: launch.word(), host, system });
    } else if launch == Launch::Libvirt && axis.has_windows() {
        text.report(ScenarioProblem::WindowsByLibvirt { level });
    }
}

/// Reports settings that only QEMU's machines have.
fn check_keys(table: &Table<'_>, level: LevelNumber, host: &LevelAxis) {
    let Some(role) = host.roles().next() else { return };
    for key in LevelSettings::KEYS.iter().filter(|key| table.has(key) && !KEYS.contains(key)) {
        table.report(ScenarioProblem::KeyInWindows { key, level, role: role.name() });
    }
}

impl LevelAxis {
    fn has_windows(&self) -> bool {
        self.systems.iter().any(|value| value.value.is_windows())
    }

    fn roles(&self) -> impl Iterator<Item = Role> {
        self.systems.iter().filter_map(|value| value.value.windows_role())
    }
}
