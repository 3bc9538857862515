//! Which cell is booted next, and from which snapshot: cells share snapshots, cores and memory.
//!
//! The first cell that needs a snapshot saves it while it boots; the others that need it wait. Of the cells that are ready, the
//! one with the longest time to the end goes first, counting those that wait for its snapshots.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use nestmatrix_stack::{SnapshotKey, Usage};

use super::demand::{Demand, Kind};

/// The part of a cold boot's time that a boot from the deepest snapshot takes, as measured.
const RESTORED_PART: f64 = 0.4;
/// How many more cores than there are the running cells may need together, as a part of them. They then wait for each other a
/// little. Two AMD stacks of two processors need 2.4 cores together, and take less time side by side than in a row.
const SLACK: f64 = 0.3;
/// If this much of a core is unused, one more cell has room, up to [`MOST_SLACK`]. Cells that were disturbed are estimated at 1.4 cores,
/// and two cores still run two of them in less time side by side than in a row.
const UNUSED_CORES: f64 = 0.5;
/// How many more cores than there are all cells may need together then, as a part of them. Stacks that wait longer might reach time limits.
const MOST_SLACK: f64 = 0.5;

/// A cell that waits to be booted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    /// Its place among the ready cells.
    pub(super) index: usize,
    /// Its kind. Cells of one kind use about the same.
    pub(super) kind: Kind,
    /// The snapshots that it can be restored from, the one with the fewest levels first.
    pub(super) chain: Vec<SnapshotKey>,
    /// About how long it takes from its beginning, in seconds.
    pub(super) seconds: f64,
    /// The most memory that it takes, in MiB; used until that is measured.
    pub(super) memory_mib: u64,
    /// The memory that it takes besides its emulator's, for a copy of its machine's memory in a file system in memory, in MiB.
    pub(super) copied_mib: u64,
    /// Whether no other cell may run meanwhile.
    pub(super) alone: bool,
    /// Whether it runs before every other cell.
    pub(super) first: bool,
}

/// A cell that is booted next.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dispatch {
    pub(super) task: Task,
    /// The snapshot that it is restored from.
    pub(super) restores: Option<SnapshotKey>,
    /// The snapshots that it saves while it boots.
    pub(super) saves: Vec<SnapshotKey>,
}

/// What running cells may use together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Budget {
    /// This many cells in parallel.
    Jobs(usize),
    /// As many as this machine has room for.
    Machine { cores: f64, memory_mib: u64 },
}

/// How far a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SnapshotStatus {
    /// It is in the cache.
    Saved,
    /// A running cell is going to save it.
    Saving,
    /// It could not be saved. No cell waits for it any more.
    Failed,
}

/// Waiting cells that share all their snapshots. They differ in how long they take.
#[derive(Debug)]
struct Group {
    /// Their snapshots, by their places in [`Schedule::snapshots`].
    chain: Vec<usize>,
    /// The cells, with the longest at the end, and of equals the first in the plan.
    waiting: Vec<Task>,
    /// Its place in the order of the ready groups, if it is ready.
    rank: Option<Rank>,
}

/// What must be first, then the longest time to the end first, in milliseconds, and of equals the first in the plan.
type Rank = (Reverse<bool>, Reverse<u64>, usize);

/// A snapshot that cells share.
#[derive(Debug)]
struct SharedSnapshot {
    key: SnapshotKey,
    status: Option<SnapshotStatus>,
    /// How many waiting cells need it.
    waiting: usize,
    /// The groups that need it.
    groups: Vec<usize>,
    /// The two longest cells that need it, in seconds, with their places in the plan. No cell that needs a snapshot leaves before it
    /// is saved, so this stays true for as long as it is used.
    longest: [(f64, usize); 2],
}

/// The waiting cells of a run, and how far the snapshots are that they need.
///
/// A snapshot has at most one snapshot before it, so they form a forest. A change of one snapshot moves only the groups that need it.
/// So choosing a cell costs no more with many cells than with few.
#[derive(Debug)]
pub(super) struct Schedule {
    groups: Vec<Group>,
    snapshots: Vec<SharedSnapshot>,
    places: BTreeMap<SnapshotKey, usize>,
    /// Groups that do not wait for a snapshot.
    ready: BTreeMap<Rank, usize>,
    running: Vec<Task>,
    demand: Demand,
    budget: Budget,
}

impl Schedule {
    /// A schedule of these cells. `saved` says which of their snapshots are in the cache.
    pub(super) fn new(tasks: Vec<Task>, budget: Budget, saved: impl Fn(&SnapshotKey) -> bool) -> Self {
        let mut schedule = Self {
            groups: Vec::new(),
            snapshots: Vec::new(),
            places: BTreeMap::new(),
            ready: BTreeMap::new(),
            running: Vec::new(),
            demand: Demand::default(),
            budget,
        };
        let mut of_chain = BTreeMap::new();
        for task in tasks {
            let chain: Vec<usize> = task.chain.iter().map(|key| schedule.place(key, &saved)).collect();
            let group = *of_chain.entry((task.kind, chain)).or_insert_with_key(|(_, chain)| {
                for &snapshot in chain {
                    schedule.snapshots[snapshot].groups.push(schedule.groups.len());
                }
                schedule.groups.push(Group { chain: chain.clone(), waiting: Vec::new(), rank: None });
                schedule.groups.len() - 1
            });
            for &snapshot in &schedule.groups[group].chain {
                schedule.snapshots[snapshot].count(&task);
            }
            schedule.groups[group].waiting.push(task);
        }
        for group in 0..schedule.groups.len() {
            let longest_last = |a: &Task, b: &Task| {
                a.first.cmp(&b.first).then(a.seconds.total_cmp(&b.seconds)).then(b.index.cmp(&a.index))
            };
            schedule.groups[group].waiting.sort_by(longest_last);
            schedule.rank(group);
        }
        schedule
    }

    /// The typical times of the cells that wait, in seconds.
    pub(super) fn typical_seconds(&self) -> impl Iterator<Item = f64> {
        self.groups.iter().flat_map(|group| &group.waiting).map(|task| task.seconds)
    }

    /// The next cell to boot; none while there is no room, or while all cells wait for snapshots.
    pub(super) fn next(&mut self) -> Option<Dispatch> {
        let &group = self.ready.values().next()?;
        let task = self.groups[group].waiting.last()?;
        if !self.fits(task) {
            return None;
        }
        let saves = self.would_save(&self.groups[group]);
        let task = self.groups[group].waiting.pop()?;
        let restores = self.saved(&self.groups[group]).map(|depth| task.chain[depth].clone());
        for snapshot in self.groups[group].chain.clone() {
            self.snapshots[snapshot].waiting -= 1;
        }
        for &snapshot in &saves {
            self.set_status(snapshot, Some(SnapshotStatus::Saving));
        }
        self.rank(group);
        self.running.push(task.clone());
        let saves = saves.into_iter().map(|snapshot| self.snapshots[snapshot].key.clone()).collect();
        Some(Dispatch { task, restores, saves })
    }

    /// Boots no more cells.
    pub(super) fn give_up(&mut self) {
        self.ready.clear();
        self.groups.clear();
        self.snapshots.clear();
        self.places.clear();
    }

    /// A snapshot has been saved.
    pub(super) fn is_saved(&mut self, key: &SnapshotKey) {
        if let Some(&snapshot) = self.places.get(key) {
            self.set_status(snapshot, Some(SnapshotStatus::Saved));
        }
    }

    /// A snapshot is gone, or can't be used.
    pub(super) fn is_lost(&mut self, key: &SnapshotKey) {
        // Several cells may report the same loss. By the second report, another cell may already be saving it again.
        if let Some(&snapshot) = self.places.get(key)
            && self.snapshots[snapshot].status == Some(SnapshotStatus::Saved)
        {
            self.set_status(snapshot, None);
        }
    }

    /// A cell has ended. It used this much.
    pub(super) fn ended(&mut self, choice: &Dispatch, usage: Usage) {
        self.running.retain(|task| task.index != choice.task.index);
        for key in &choice.saves {
            // The next cell would fail to save it in the same way.
            if let Some(&snapshot) = self.places.get(key)
                && self.snapshots[snapshot].status == Some(SnapshotStatus::Saving)
            {
                self.set_status(snapshot, Some(SnapshotStatus::Failed));
            }
        }
        self.demand.learn(choice.task.kind, usage);
    }

    /// The place of a snapshot in [`Self::snapshots`].
    fn place(&mut self, key: &SnapshotKey, saved: impl Fn(&SnapshotKey) -> bool) -> usize {
        if let Some(&snapshot) = self.places.get(key) {
            return snapshot;
        }
        let status = saved(key).then_some(SnapshotStatus::Saved);
        let longest = [(0.0, usize::MAX); 2];
        self.snapshots.push(SharedSnapshot {
            key: key.clone(),
            status,
            waiting: 0,
            groups: Vec::new(),
            longest,
        });
        self.places.insert(key.clone(), self.snapshots.len() - 1);
        self.snapshots.len() - 1
    }

    /// Changes how far a snapshot is.
    fn set_status(&mut self, snapshot: usize, status: Option<SnapshotStatus>) {
        self.snapshots[snapshot].status = status;
        for group in self.snapshots[snapshot].groups.clone() {
            self.rank(group);
        }
    }

    /// Puts a group at its place in the order of the ready groups.
    fn rank(&mut self, group: usize) {
        if let Some(rank) = self.groups[group].rank.take() {
            self.ready.remove(&rank);
        }
        let of = &self.groups[group];
        let Some(first) = of.waiting.last() else { return };
        let after_saved = self.saved(of).map_or(0, |depth| depth + 1);
        if of.chain[after_saved..]
            .iter()
            .any(|&snapshot| self.snapshots[snapshot].status == Some(SnapshotStatus::Saving))
        {
            return;
        }
        let milliseconds = (self.seconds_to_end(of, first) * 1000.0).max(0.0) as u64;
        let rank = (Reverse(first.first), Reverse(milliseconds), first.index);
        self.ready.insert(rank, group);
        self.groups[group].rank = Some(rank);
    }

    /// The depth of the deepest saved snapshot.
    fn saved(&self, group: &Group) -> Option<usize> {
        group
            .chain
            .iter()
            .rposition(|&snapshot| self.snapshots[snapshot].status == Some(SnapshotStatus::Saved))
    }

    /// The snapshots that a cell would save: the deepest, for this run and later ones, and those after which cells differ.
    fn would_save(&self, group: &Group) -> Vec<usize> {
        let first = self.saved(group).map_or(0, |depth| depth + 1);
        let is_saved_next = |&depth: &usize| {
            let snapshot = &self.snapshots[group.chain[depth]];
            let next = group.chain.get(depth + 1).map(|&next| &self.snapshots[next]);
            snapshot.status.is_none() && next.is_none_or(|next| next.waiting < snapshot.waiting)
        };
        (first..group.chain.len()).filter(is_saved_next).map(|depth| group.chain[depth]).collect()
    }

    /// About how long it takes until a cell has ended, and the longest of those that would wait for its snapshots, in seconds.
    fn seconds_to_end(&self, group: &Group, task: &Task) -> f64 {
        let own = match self.saved(group) {
            Some(depth) if depth + 1 == group.chain.len() => task.seconds * RESTORED_PART,
            _ => task.seconds,
        };
        // Cells that need a later one need the first one, too.
        let first = self.would_save(group).first().copied();
        own + first.map_or(0.0, |snapshot| self.snapshots[snapshot].longest_but(task) * RESTORED_PART)
    }

    fn fits(&self, task: &Task) -> bool {
        if self.running.is_empty() {
            return true;
        }
        if task.alone || self.running.iter().any(|task| task.alone) {
            return false;
        }
        match self.budget {
            Budget::Jobs(jobs) => self.running.len() < jobs,
            Budget::Machine { cores, memory_mib } => {
                let needs = |task: &Task| {
                    let (cores, memory_mib) = self.demand.of(task.kind, task.memory_mib);
                    (cores, memory_mib + task.copied_mib)
                };
                let taken: f64 = self.running.iter().map(|task| needs(task).0).sum();
                let memory: u64 = self.running.iter().chain([task]).map(|task| needs(task).1).sum();
                let slack = if taken + UNUSED_CORES <= cores { MOST_SLACK } else { SLACK };
                taken + needs(task).0 <= cores * (1.0 + slack) && memory <= memory_mib
            }
        }
    }
}

impl SharedSnapshot {
    /// Counts a cell that needs it.
    fn count(&mut self, task: &Task) {
        self.waiting += 1;
        let cell = (task.seconds, task.index);
        if cell.0 > self.longest[0].0 {
            self.longest = [cell, self.longest[0]];
        } else if cell.0 > self.longest[1].0 {
            self.longest[1] = cell;
        }
    }

    /// How long the longest other cell takes that needs it, in seconds.
    fn longest_but(&self, task: &Task) -> f64 {
        let [first, second] = self.longest;
        if first.1 == task.index { second.0 } else { first.0 }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
