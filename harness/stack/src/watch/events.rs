//! Events of the levels of a stack, other than lines of their consoles, and which of them end a wait.

use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::guest::{GuestFailure, excerpt};
use nestmatrix_vmm::libvirt::channel_of_alias;
use nestmatrix_vmm::wire::{Event, Notice};

use super::Watch;
use super::level_state::Expected;
use crate::host::HostError;

/// An event of a level, other than a line of its console.
#[derive(Debug)]
pub(crate) enum WatchEvent {
    /// An event that its QEMU reports.
    Monitor(Notice),
    /// An event that its agent reports: only that it is gone.
    Agent(Notice),
}

/// Why a wait ended before the awaited event.
#[derive(Debug)]
pub(crate) enum Abort {
    /// A level's kernel reports that it does not continue.
    Failed { level: LevelNumber, failure: GuestFailure, said: String },
    /// A level's QEMU reports that its guest panicked.
    Panicked { level: LevelNumber },
    /// A level shut down although it was needed.
    ShutDown { level: LevelNumber, reason: String },
    /// A level's QEMU stopped it.
    Halted { level: LevelNumber },
    /// The channel to a level's monitor or agent closed.
    Closed { level: LevelNumber, channel: String, why: String },
    /// No sign of life for this long.
    Silent { level: LevelNumber, silence: Duration },
    /// Signs of life, but no end for this long.
    Endless { level: LevelNumber, total: Duration },
    /// A host failed to do its part.
    Host { level: LevelNumber, error: HostError },
    /// The user asked the harness to end.
    Interrupted,
}

impl Watch {
    /// Notes an event of `level`; returns why it ends a wait, if it does.
    pub(super) fn handle_event(&mut self, level: LevelNumber, event: WatchEvent) -> Option<Abort> {
        match event {
            WatchEvent::Monitor(Notice::Event(event)) => self.handle_qemu_event(level, &event),
            WatchEvent::Monitor(Notice::Closed(why)) => {
                Some(Abort::Closed { level, channel: format!("QMP of {level}'s QEMU"), why })
            }
            WatchEvent::Agent(Notice::Closed(why)) => {
                Some(Abort::Closed { level, channel: format!("agent of {level}"), why })
            }
            WatchEvent::Monitor(Notice::Greeting(_)) | WatchEvent::Agent(_) => None,
        }
    }

    fn handle_qemu_event(&mut self, level: LevelNumber, event: &Event) -> Option<Abort> {
        let state = self.levels.get_mut(&level)?;
        match event.name.as_str() {
            "SHUTDOWN" => {
                let reason = event.data["reason"].as_str().unwrap_or("no reason given").to_owned();
                state.shut_down = Some(reason.clone());
                let is_meant = state.expected.is_some() || (state.may_shut_down && state.has_reported());
                (!is_meant).then_some(Abort::ShutDown { level, reason })
            }
            "GUEST_PANICKED" => {
                state.panicked = true;
                (state.expected != Some(Expected::Crash)).then_some(Abort::Panicked { level })
            }
            "MIGRATION" => {
                let status = event.data["status"].as_str().unwrap_or_default();
                if matches!(status, "completed" | "failed" | "cancelled") {
                    state.migrated = Some(status.to_owned());
                }
                None
            }
            // A machine that was stopped on purpose runs again.
            "RESUME" if state.pausing => {
                (state.moving, state.pausing) = (false, false);
                None
            }
            "RESET" => {
                state.resets += 1;
                state.own_resets += usize::from(event.data["guest"] == true);
                None
            }
            "BLOCK_IO_ERROR" => {
                state.disk_error = event.data["reason"].as_str().map(excerpt);
                None
            }
            // With -no-shutdown a machine also stops after a SHUTDOWN; otherwise QEMU gave up on it.
            // A machine whose guest has panicked stops, too.
            "STOP" if state.expected == Some(Expected::Crash) => None,
            "STOP" if state.shut_down.is_none() && !state.moving => Some(Abort::Halted { level }),
            "VSERPORT_CHANGE" if event.data["open"] == false => {
                let id = event.data["id"].as_str().unwrap_or_default();
                self.wires.port_closed(&channel_of_alias(id).unwrap_or_else(|| id.to_owned()));
                None
            }
            _ => None,
        }
    }
}
