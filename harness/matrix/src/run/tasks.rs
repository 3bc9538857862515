//! The schedule of a run, from the cells that are ready and the room that this machine has.

use nestmatrix_stack::StackPlan;

use super::Setting;
use super::demand::{Emulation, Kind};
use super::ready_cell::ReadyCell;
use super::schedule::{Budget, Schedule, Task};
use crate::records::Machine;

/// Memory that an emulator needs besides its machine's, in MiB: for code that it has translated, above all.
const EMULATOR_MEMORY_MIB: u64 = 384;
/// Memory of this machine that cells leave to others, in MiB.
const SPARED_MEMORY_MIB: u64 = 512;

/// The schedule of these cells, which refers to them by their places.
pub(super) fn schedule_of<'a>(
    cells: impl IntoIterator<Item = &'a ReadyCell>,
    setting: &Setting,
    machine: &Machine,
) -> Schedule {
    let has_system_disk = |stack: &StackPlan| stack.levels.iter().any(|level| level.image.disk().is_some());
    let task = |(index, ready): (usize, &ReadyCell)| {
        let memory = |stack: &StackPlan| u64::from(stack.memory_mib(0));
        Task {
            index,
            kind: Kind {
                architecture: ready.cell.architecture,
                emulation: Emulation::of(&ready.cell, ready.metal),
                has_system_disk: ready.stack.as_ref().is_ok_and(has_system_disk),
            },
            chain: ready.snapshots.iter().map(|link| link.key.clone()).collect(),
            seconds: ready.seconds,
            memory_mib: ready.stack.as_ref().map_or(0, memory) + EMULATOR_MEMORY_MIB,
            alone: ready.changes_host,
            first: ready.continues,
        }
    };
    let budget = match setting.jobs {
        Some(jobs) => Budget::Jobs(jobs.max(1)),
        None => Budget::Machine {
            cores: machine.cores as f64,
            memory_mib: machine.available_memory_mib().saturating_sub(SPARED_MEMORY_MIB),
        },
    };
    let cache = setting.snapshots.as_ref();
    let tasks = cells.into_iter().enumerate().map(task).collect();
    Schedule::new(tasks, budget, |key| cache.is_some_and(|cache| cache.has(key)))
}
