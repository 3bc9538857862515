//! The state of one level while it is watched.

use tokio::task::AbortHandle;

use crate::console_view::ConsoleView;

/// What is about to happen to a level on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Its system powers off.
    PowerOff,
    /// Its kernel panics.
    Crash,
}

#[derive(Debug)]
pub(super) struct LevelState {
    pub(super) console: ConsoleView,
    /// The console of its second machine, which runs at the same time as the first.
    pub(super) second_console: Option<ConsoleView>,
    /// Why it shut down.
    pub(super) shut_down: Option<String>,
    /// It is supposed to power off.
    pub(super) may_shut_down: bool,
    /// It is being migrated, or saved: its QEMU stops it on purpose.
    pub(super) moving: bool,
    /// It is paused on purpose, until it runs again.
    pub(super) pausing: bool,
    /// The status with which its QEMU ended a migration, to another QEMU, to a file, or from a file.
    pub(super) migrated: Option<String>,
    /// What is about to happen to it on purpose.
    pub(super) expected: Option<Expected>,
    /// Its QEMU has reported that its kernel panicked.
    pub(super) panicked: bool,
    /// How often it was reset.
    pub(super) resets: usize,
    /// How often it has reset itself.
    pub(super) own_resets: usize,
    /// Why its QEMU could not read or write a disk.
    pub(super) disk_error: Option<String>,
    /// The task that receives the messages of its monitor.
    pub(super) monitor: Option<AbortHandle>,
}

impl LevelState {
    /// A level that has done nothing yet.
    pub(super) fn new(console: ConsoleView, may_shut_down: bool) -> Self {
        Self {
            console,
            second_console: None,
            shut_down: None,
            may_shut_down,
            moving: false,
            pausing: false,
            migrated: None,
            expected: None,
            panicked: false,
            resets: 0,
            own_resets: 0,
            disk_error: None,
            monitor: None,
        }
    }

    /// It boots again, and its console stays.
    pub(super) fn begin_again(&mut self) {
        self.console.begin_again();
        (self.shut_down, self.migrated, self.disk_error) = (None, None, None);
        (self.moving, self.pausing, self.panicked) = (false, false, false);
    }

    /// The consoles of its machines.
    pub(super) fn consoles(&self) -> impl Iterator<Item = &ConsoleView> {
        [&self.console].into_iter().chain(&self.second_console)
    }

    /// Whether its report is complete.
    pub(super) fn has_reported(&self) -> bool {
        self.console.is_complete()
    }
}
