//! Which cell is booted next, and from what: cells share saved states, cores and memory.
//!
//! A state is made by the first cell that comes by on its way; the others that need it wait. What is ready goes in the order of the
//! longest way to an end, its own or that of those who wait for it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use nestmatrix_stack::{SnapshotKey, Usage};

use super::demand::{Demand, Kind};

/// The part of a cold boot's time that is left of it when it goes on from the deepest state, as measured.
const LEFT: f64 = 0.4;
/// Parts of a core by which the cells that run may want more than there are: they wait for each other a little.
const SLACK: f64 = 0.3;

/// A cell that is to be booted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    /// Its place in the plan.
    pub(super) index: usize,
    /// Its kind: cells of one are alike in what they use.
    pub(super) kind: Kind,
    /// The states from which it can go on, the one of the fewest levels first.
    pub(super) chain: Vec<SnapshotKey>,
    /// About how long it takes from its beginning, in seconds.
    pub(super) seconds: f64,
    /// The most memory that it takes, in MiB, until that is measured.
    pub(super) memory_mib: u64,
}

/// A cell that is booted next.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dispatch {
    pub(super) task: Task,
    /// The snapshot that it is restored from.
    pub(super) restores: Option<SnapshotKey>,
    /// The snapshots that it saves on its way.
    pub(super) saves: Vec<SnapshotKey>,
}

/// What cells may use together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Budget {
    /// So many cells side by side.
    Jobs(usize),
    /// So many as this machine has room for.
    Machine { cores: f64, memory_mib: u64 },
}

/// What is known of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It is there.
    Saved,
    /// A cell that runs is going to save it.
    Making,
    /// It could not be saved; nobody waits for it any more.
    Given,
}

/// Cells that wait and share all states: they differ in how long they take.
#[derive(Debug)]
struct Group {
    /// Its states, by their places in [`Schedule::states`].
    chain: Vec<usize>,
    /// The longest at the end, of equals the first in the plan.
    waiting: Vec<Task>,
    /// What it stands in the order of those that are ready for.
    rank: Option<Rank>,
}

/// The longest way first, in milliseconds, and of equals the first in the plan.
type Rank = (Reverse<u64>, usize);

/// A state that cells share.
#[derive(Debug)]
struct State {
    key: SnapshotKey,
    known: Option<Known>,
    /// Cells that wait and go by it.
    waiting: usize,
    /// The groups that go by it.
    groups: Vec<usize>,
    /// The two cells that take longest of those that go by it, in seconds, with their places in the plan. Nobody who goes by a
    /// state leaves before it is made, so this holds for as long as it is asked for.
    longest: [(f64, usize); 2],
}

/// The cells of a run that wait, and what is known of what they need.
///
/// A state has one state before it, so they are a forest. What becomes of one changes the order of those groups alone that
/// go by it: with many cells, choosing one costs no more than with few.
#[derive(Debug)]
pub(super) struct Schedule {
    groups: Vec<Group>,
    states: Vec<State>,
    places: BTreeMap<SnapshotKey, usize>,
    /// Groups that no state is being made for.
    ready: BTreeMap<Rank, usize>,
    running: Vec<Task>,
    demand: Demand,
    budget: Budget,
}

impl Schedule {
    /// These cells, of whose states those are there that `saved` says.
    pub(super) fn new(tasks: Vec<Task>, budget: Budget, saved: impl Fn(&SnapshotKey) -> bool) -> Self {
        let mut schedule = Self {
            groups: Vec::new(),
            states: Vec::new(),
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
                for &state in chain {
                    schedule.states[state].groups.push(schedule.groups.len());
                }
                schedule.groups.push(Group { chain: chain.clone(), waiting: Vec::new(), rank: None });
                schedule.groups.len() - 1
            });
            for &state in &schedule.groups[group].chain {
                schedule.states[state].goes_by(&task);
            }
            schedule.groups[group].waiting.push(task);
        }
        for group in 0..schedule.groups.len() {
            let longest_last =
                |a: &Task, b: &Task| a.seconds.total_cmp(&b.seconds).then(b.index.cmp(&a.index));
            schedule.groups[group].waiting.sort_by(longest_last);
            schedule.rank(group);
        }
        schedule
    }

    /// The next cell to boot; none while there is no room, or while all that wait wait for a state.
    pub(super) fn next(&mut self) -> Option<Dispatch> {
        let &group = self.ready.values().next()?;
        let task = self.groups[group].waiting.last()?;
        if !self.fits(task) {
            return None;
        }
        let makes = self.would_make(&self.groups[group]);
        let task = self.groups[group].waiting.pop()?;
        let restores = self.saved(&self.groups[group]).map(|depth| task.chain[depth].clone());
        for state in self.groups[group].chain.clone() {
            self.states[state].waiting -= 1;
        }
        for &state in &makes {
            self.know(state, Some(Known::Making));
        }
        self.rank(group);
        self.running.push(task.clone());
        let saves = makes.into_iter().map(|state| self.states[state].key.clone()).collect();
        Some(Dispatch { task, restores, saves })
    }

    /// No cell is booted any more.
    pub(super) fn give_up(&mut self) {
        self.ready.clear();
        self.groups.clear();
        self.states.clear();
        self.places.clear();
    }

    /// A state is there.
    pub(super) fn is_saved(&mut self, key: &SnapshotKey) {
        if let Some(&state) = self.places.get(key) {
            self.know(state, Some(Known::Saved));
        }
    }

    /// A state that was there is not, or can't be used.
    pub(super) fn is_lost(&mut self, key: &SnapshotKey) {
        // Of several cells that went on from it, the second tells what is known, when somebody makes it anew already.
        if let Some(&state) = self.places.get(key)
            && self.states[state].known == Some(Known::Saved)
        {
            self.know(state, None);
        }
    }

    /// A cell has ended that used this.
    pub(super) fn ended(&mut self, choice: &Dispatch, usage: Usage) {
        self.running.retain(|task| task.index != choice.task.index);
        for key in &choice.saves {
            // Whoever comes next would come to the same end.
            if let Some(&state) = self.places.get(key)
                && self.states[state].known == Some(Known::Making)
            {
                self.know(state, Some(Known::Given));
            }
        }
        self.demand.learn(choice.task.kind, usage);
    }

    /// The place of a state in [`Self::states`].
    fn place(&mut self, key: &SnapshotKey, saved: impl Fn(&SnapshotKey) -> bool) -> usize {
        if let Some(&state) = self.places.get(key) {
            return state;
        }
        let known = saved(key).then_some(Known::Saved);
        let longest = [(0.0, usize::MAX); 2];
        self.states.push(State { key: key.clone(), known, waiting: 0, groups: Vec::new(), longest });
        self.places.insert(key.clone(), self.states.len() - 1);
        self.states.len() - 1
    }

    /// From now on, this is known of a state.
    fn know(&mut self, state: usize, known: Option<Known>) {
        self.states[state].known = known;
        for group in self.states[state].groups.clone() {
            self.rank(group);
        }
    }

    /// Puts a group where it belongs in the order of those that are ready.
    fn rank(&mut self, group: usize) {
        if let Some(rank) = self.groups[group].rank.take() {
            self.ready.remove(&rank);
        }
        let of = &self.groups[group];
        let Some(first) = of.waiting.last() else { return };
        let after_saved = self.saved(of).map_or(0, |depth| depth + 1);
        if of.chain[after_saved..].iter().any(|&state| self.states[state].known == Some(Known::Making)) {
            return;
        }
        let milliseconds = (self.way(of, first) * 1000.0).max(0.0) as u64;
        let rank = (Reverse(milliseconds), first.index);
        self.ready.insert(rank, group);
        self.groups[group].rank = Some(rank);
    }

    /// The depth of the deepest state that is there.
    fn saved(&self, group: &Group) -> Option<usize> {
        group.chain.iter().rposition(|&state| self.states[state].known == Some(Known::Saved))
    }

    /// The states that a cell would save: the deepest, for this run and later ones, and others where cells part ways.
    fn would_make(&self, group: &Group) -> Vec<usize> {
        let first = self.saved(group).map_or(0, |depth| depth + 1);
        let makes = |&depth: &usize| {
            let state = &self.states[group.chain[depth]];
            let next = group.chain.get(depth + 1).map(|&next| &self.states[next]);
            state.known.is_none() && next.is_none_or(|next| next.waiting < state.waiting)
        };
        (first..group.chain.len()).filter(makes).map(|depth| group.chain[depth]).collect()
    }

    /// About how long it takes until a cell, or one of those who would wait for it, is through, in seconds.
    fn way(&self, group: &Group, task: &Task) -> f64 {
        let own = match self.saved(group) {
            Some(depth) if depth + 1 == group.chain.len() => task.seconds * LEFT,
            _ => task.seconds,
        };
        // Who goes by a later one of them goes by the first.
        let first = self.would_make(group).first().copied();
        own + first.map_or(0.0, |state| self.states[state].longest_but(task) * LEFT)
    }

    fn fits(&self, task: &Task) -> bool {
        if self.running.is_empty() {
            return true;
        }
        match self.budget {
            Budget::Jobs(jobs) => self.running.len() < jobs,
            Budget::Machine { cores, memory_mib } => {
                let needs = |task: &Task| self.demand.of(task.kind, task.memory_mib);
                let all = || self.running.iter().chain([task]).map(needs);
                let wanted: f64 = all().map(|(cores, _)| cores).sum();
                let memory: u64 = all().map(|(_, memory)| memory).sum();
                wanted <= cores + SLACK && memory <= memory_mib
            }
        }
    }
}

impl State {
    /// Counts a cell that goes by it.
    fn goes_by(&mut self, task: &Task) {
        self.waiting += 1;
        let cell = (task.seconds, task.index);
        if cell.0 > self.longest[0].0 {
            self.longest = [cell, self.longest[0]];
        } else if cell.0 > self.longest[1].0 {
            self.longest[1] = cell;
        }
    }

    /// How long the longest of the others takes that go by it, in seconds.
    fn longest_but(&self, task: &Task) -> f64 {
        let [first, second] = self.longest;
        if first.1 == task.index { second.0 } else { first.0 }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
