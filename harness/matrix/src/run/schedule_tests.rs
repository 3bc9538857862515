//! Which cell the schedule boots next, and which snapshots it saves or restores.

use std::collections::BTreeSet;

use nestmatrix_model::{Architecture, LevelNumber};
use nestmatrix_stack::Inputs;
use rstest::rstest;

use super::*;
use crate::run::demand::Emulation;

fn key(name: &str) -> SnapshotKey {
    SnapshotKey::of(LevelNumber::ALL[0], &Inputs::from([("name".into(), name.into())]))
}

fn kind(architecture: Architecture, emulation: Emulation) -> Kind {
    Kind { architecture, emulation, has_system_disk: false }
}

fn task(index: usize, chain: &[&str], seconds: f64) -> Task {
    let chain = chain.iter().map(|name| key(name)).collect();
    Task {
        index,
        kind: kind(Architecture::Amd, Emulation::Kvm),
        chain,
        seconds,
        memory_mib: 1000,
        copied_mib: 0,
        alone: false,
        first: false,
    }
}

fn schedule(tasks: Vec<Task>, jobs: usize) -> Schedule {
    Schedule::new(tasks, Budget::Jobs(jobs), |_| false)
}

fn used(cores: f64, memory_mib: u64) -> Usage {
    Usage {
        cpu_seconds: cores * 10.0,
        emulator_seconds: 10.0,
        waited_seconds: 0.0,
        peak_memory_mib: memory_mib,
    }
}

#[test]
fn cells_that_share_a_snapshot_wait_until_the_first_has_saved_it() {
    let tasks = vec![task(0, &["a", "ab"], 30.0), task(1, &["a", "ab"], 30.0), task(2, &["a", "ac"], 30.0)];
    let mut schedule = schedule(tasks, 3);
    let first = schedule.next().unwrap();
    assert_eq!((first.task.index, &first.restores), (0, &None));
    assert_eq!(first.saves, [key("a"), key("ab")], "one goes on from the first, one from the second");
    assert_eq!(schedule.next(), None);
    schedule.is_saved(&key("a"));
    let second = schedule.next().unwrap();
    assert_eq!((second.task.index, second.restores, second.saves), (2, Some(key("a")), vec![key("ac")]));
    assert_eq!(schedule.next(), None);
    schedule.is_saved(&key("ab"));
    let third = schedule.next().unwrap();
    assert_eq!((third.task.index, third.restores, third.saves), (1, Some(key("ab")), vec![]));
}

#[test]
fn a_cell_that_must_run_alone_waits_for_the_others_and_they_for_it() {
    let alone = Task { alone: true, ..task(1, &[], 20.0) };
    let mut schedule = schedule(vec![task(0, &[], 30.0), alone, task(2, &[], 10.0), task(3, &[], 5.0)], 3);
    let first = schedule.next().unwrap();
    assert_eq!((first.task.index, schedule.next()), (0, None));
    schedule.ended(&first, used(1.0, 100));
    let second = schedule.next().unwrap();
    assert_eq!((second.task.index, schedule.next()), (1, None));
    schedule.ended(&second, used(1.0, 100));
    let others = [schedule.next(), schedule.next()].map(|next| next.unwrap().task.index);
    assert_eq!(others, [2, 3], "side by side");
}

#[test]
fn a_cell_that_continues_after_a_reboot_is_first() {
    let first = Task { alone: true, first: true, ..task(1, &[], 5.0) };
    let mut schedule = schedule(vec![task(0, &[], 30.0), first, task(2, &[], 40.0)], 3);
    assert_eq!((schedule.next().unwrap().task.index, schedule.next()), (1, None));
}

#[test]
fn a_copy_of_the_memory_in_memory_needs_room_too() {
    let budget = Budget::Machine { cores: 8.0, memory_mib: 3500 };
    let copying = |index| Task { copied_mib: 900, ..task(index, &[], 30.0) };
    let mut both = Schedule::new(vec![copying(0), copying(1)], budget, |_| false);
    assert_eq!((both.next().unwrap().task.index, both.next()), (0, None));
    let mut one = Schedule::new(vec![copying(0), task(1, &[], 30.0)], budget, |_| false);
    assert_eq!([one.next(), one.next()].map(|next| next.unwrap().task.index), [0, 1]);
}

#[test]
fn each_of_many_cells_is_booted_once_and_each_snapshot_saved_once() {
    let names: Vec<[String; 2]> = (0..3000)
        .map(|index| [format!("l0-{}", index % 7), format!("l0-{}-l1-{}", index % 7, index % 800)])
        .collect();
    let task = |(index, [l0, l1]): (usize, &[String; 2])| {
        task(index, &[l0.as_str(), l1.as_str()], (index % 50) as f64)
    };
    let mut schedule = schedule(names.iter().enumerate().map(task).collect(), 4);
    let (mut booted, mut made, mut running) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    loop {
        while let Some(choice) = schedule.next() {
            assert!(booted.insert(choice.task.index));
            choice.saves.iter().for_each(|key| assert!(made.insert(key.clone())));
            running.push(choice);
        }
        let Some(choice) = running.pop() else { break };
        choice.saves.iter().for_each(|key| schedule.is_saved(key));
        schedule.ended(&choice, used(1.0, 500));
    }
    let states: BTreeSet<SnapshotKey> = names.iter().flatten().map(|name| key(name)).collect();
    assert_eq!((booted.len(), made), (3000, states));
}

#[test]
fn a_snapshot_that_can_t_be_saved_delays_no_cell_twice() {
    let tasks = vec![task(0, &["a"], 30.0), task(1, &["a"], 30.0), task(2, &["a"], 30.0)];
    let mut schedule = schedule(tasks, 3);
    let first = schedule.next().unwrap();
    assert_eq!(schedule.next(), None);
    schedule.ended(&first, used(1.0, 500));
    let others = [schedule.next().unwrap(), schedule.next().unwrap()];
    assert!(others.iter().all(|choice| choice.restores.is_none() && choice.saves.is_empty()));
}

#[test]
fn the_longest_way_goes_first_and_counts_who_waits() {
    let tasks = vec![task(0, &[], 35.0), task(1, &["a"], 30.0), task(2, &["a"], 30.0), task(3, &[], 100.0)];
    let mut schedule = schedule(tasks, 9);
    let order: Vec<usize> = std::iter::from_fn(|| schedule.next()).map(|choice| choice.task.index).collect();
    assert_eq!(order, [3, 1, 0]);
}

#[test]
fn a_state_of_an_earlier_run_is_used_and_one_that_is_damaged_is_made_again() {
    let mut schedule = Schedule::new(
        vec![task(0, &["a", "ab"], 30.0), task(1, &["a", "ab"], 30.0)],
        Budget::Jobs(1),
        |_| true,
    );
    let first = schedule.next().unwrap();
    assert_eq!((first.restores.clone(), first.saves.len()), (Some(key("ab")), 0));
    schedule.is_lost(&key("ab"));
    schedule.ended(&first, used(1.0, 500));
    let second = schedule.next().unwrap();
    assert_eq!((second.restores, second.saves), (Some(key("a")), vec![key("ab")]));
}

#[test]
fn as_many_run_as_the_machine_has_room_for_by_what_they_were_seen_to_use() {
    let budget = Budget::Machine { cores: 2.0, memory_mib: 2500 };
    let tasks = (0..6).map(|index| task(index, &[], 30.0)).collect();
    let mut schedule = Schedule::new(tasks, budget, |_| false);
    let first = schedule.next().unwrap();
    let second = schedule.next().unwrap();
    assert_eq!(schedule.next(), None, "no core is left");
    schedule.ended(&first, used(0.5, 700));
    assert!(schedule.next().is_some() && schedule.next().is_some(), "half a core each");
    assert_eq!(schedule.next(), None, "memory for three");
    schedule.ended(&second, used(4.0, 9000));
    assert_eq!(schedule.next(), None);
}

#[rstest]
#[case::half_a_core_is_unused(1.5, true)]
#[case::less_is_unused(1.6, false)]
fn one_more_runs_if_half_a_core_is_unused(#[case] cores: f64, #[case] runs: bool) {
    let budget = Budget::Machine { cores: 2.0, memory_mib: 4000 };
    let tasks = (0..6).map(|index| task(index, &[], 30.0)).collect();
    let mut schedule = Schedule::new(tasks, budget, |_| false);
    let [first, _second] = [(); 2].map(|()| schedule.next().unwrap());
    schedule.ended(&first, used(cores, 700));
    assert_eq!(schedule.next().is_some(), runs, "beside one that takes as much");
    assert_eq!(schedule.next(), None);
}

#[test]
fn what_needs_much_more_than_the_unused_part_of_a_core_waits() {
    let budget = Budget::Machine { cores: 2.0, memory_mib: 4000 };
    let of =
        |index, architecture| Task { kind: kind(architecture, Emulation::Tcg), ..task(index, &[], 30.0) };
    let tasks = vec![
        of(0, Architecture::Arm),
        of(1, Architecture::Amd),
        of(2, Architecture::Amd),
        of(3, Architecture::Arm),
    ];
    let mut schedule = Schedule::new(tasks, budget, |_| false);
    let [large, small] = [(); 2].map(|()| schedule.next().unwrap());
    schedule.ended(&large, used(2.1, 700));
    assert_eq!(schedule.next().unwrap().task.index, 2);
    schedule.ended(&small, used(1.0, 700));
    assert_eq!(schedule.next(), None, "1 and 2.1 of 2 cores");
}

#[test]
fn what_is_too_large_runs_alone() {
    let budget = Budget::Machine { cores: 1.0, memory_mib: 10 };
    let mut schedule = Schedule::new(vec![task(0, &[], 1.0), task(1, &[], 1.0)], budget, |_| false);
    assert!(schedule.next().is_some());
    assert!(schedule.next().is_none());
}

/// How many cells ever run side by side when 40 that each take 10 s of a core are booted on a machine of two, of which another
/// program takes `others` cores. What it counts as waiting goes to the schedule as `waited` says.
fn most_side_by_side(emulation: Emulation, others: f64, waited: fn(f64) -> f64) -> usize {
    let tasks =
        (0..40).map(|index| Task { kind: kind(Architecture::Intel, emulation), ..task(index, &[], 30.0) });
    let budget = Budget::Machine { cores: 2.0, memory_mib: 1 << 20 };
    let mut schedule = Schedule::new(tasks.collect(), budget, |_| false);
    let (mut running, mut most): (Vec<Dispatch>, usize) = Default::default();
    loop {
        running.extend(std::iter::from_fn(|| schedule.next()));
        most = most.max(running.len());
        if running.is_empty() {
            return most;
        }
        // Each is one thread, and all of them have the same part of the cores.
        let part = (2.0 / (running.len() as f64 + others)).min(1.0);
        let usage = Usage {
            cpu_seconds: 10.0,
            emulator_seconds: 10.0 / part,
            waited_seconds: waited(10.0 / part - 10.0),
            peak_memory_mib: 500,
        };
        schedule.ended(&running.remove(0), usage);
    }
}

#[test]
fn cells_that_wait_for_each_other_make_no_room_for_more() {
    for others in [0.0, 1.0, 4.0, 16.0] {
        for emulation in [Emulation::Kvm, Emulation::Tcg, Emulation::Bochs, Emulation::Hercules] {
            let most = most_side_by_side(emulation, others, |waited| waited);
            assert_eq!(most, 2, "{emulation:?}, {others} others");
        }
    }
}

#[test]
fn where_the_kernel_counts_no_waits_an_emulator_still_takes_its_core() {
    for others in [0.0, 1.0, 4.0, 16.0] {
        for emulation in [Emulation::Tcg, Emulation::Bochs, Emulation::Hercules] {
            assert_eq!(most_side_by_side(emulation, others, |_| 0.0), 2, "{emulation:?}, {others} others");
        }
    }
}
