//! The schedule of a run, from the cells that are ready and the room that this machine has.

use std::rc::Rc;

use nestmatrix_stack::StackPlan;
use nestmatrix_stack::launcher::BOCHS_TEMPORARY;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::Setting;
use super::demand::{Emulation, Kind};
use super::ready_cell::ReadyCell;
use super::schedule::{Budget, Schedule, Task};
use crate::records::Machine;

/// Memory that an emulator needs besides its machine's, in MiB: for code that it has translated, above all.
const EMULATOR_MEMORY_MIB: u64 = 384;
/// Memory of this machine that cells leave to others, in MiB.
const SPARED_MEMORY_MIB: u64 = 512;

/// The schedule of these cells, which refers to them by their places. With `verdict_soon`, the shortest one goes first: a user waits
/// for it.
pub(super) fn schedule_of(
    cells: &[Rc<ReadyCell>],
    setting: &Setting,
    machine: &Machine,
    verdict_soon: bool,
) -> Schedule {
    let lengths =
        cells.iter().map(|ready| (ready.seconds, ready.cell.stages().len() + ready.cell.steps.len()));
    let shortest = shortest(lengths).filter(|_| verdict_soon);
    let copies_in_memory =
        statfs(BOCHS_TEMPORARY).is_ok_and(|system| system.filesystem_type() == TMPFS_MAGIC);
    let has_system_disk = |stack: &StackPlan| stack.levels.iter().any(|level| level.image.disk().is_some());
    let task = |(index, ready): (usize, &Rc<ReadyCell>)| {
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
            copied_mib: ready.copied_mib().filter(|_| copies_in_memory).unwrap_or_default(),
            alone: ready.changes_host,
            first: ready.continues || shortest == Some(index),
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
    let tasks = cells.iter().enumerate().map(task).collect();
    Schedule::new(tasks, budget, |key| cache.is_some_and(|cache| cache.has(key)))
}

/// The place of the shortest cell, given the typical time of each, in seconds, and how many stages and steps it has: the typical time
/// does not count steps.
fn shortest(lengths: impl IntoIterator<Item = (f64, usize)>) -> Option<usize> {
    let shorter = |(_, one): &(usize, (f64, usize)), (_, other): &(usize, (f64, usize))| {
        one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))
    };
    lengths.into_iter().enumerate().min_by(shorter).map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(&[], None)]
    #[case::of_equals_the_first_in_the_plan(&[(30.0, 9), (30.0, 9)], Some(0))]
    #[case::by_time(&[(90.0, 6), (30.0, 9)], Some(1))]
    #[case::by_steps(&[(30.0, 12), (90.0, 6), (30.0, 9)], Some(2))]
    fn the_shortest_cell_takes_the_least_time_and_has_the_fewest_steps(
        #[case] lengths: &[(f64, usize)],
        #[case] expected: Option<usize>,
    ) {
        assert_eq!(shortest(lengths.iter().copied()), expected);
    }
}
