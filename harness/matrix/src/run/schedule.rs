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
pub(super) struct Choice {
    pub(super) task: Task,
    /// The state from which it goes on.
    pub(super) from: Option<SnapshotKey>,
    /// The states that it saves on its way.
    pub(super) makes: Vec<SnapshotKey>,
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
    pub(super) fn next(&mut self) -> Option<Choice> {
        let &group = self.ready.values().next()?;
        let task = self.groups[group].waiting.last()?;
        if !self.fits(task) {
            return None;
        }
        let makes = self.would_make(&self.groups[group]);
        let task = self.groups[group].waiting.pop()?;
        let from = self.saved(&self.groups[group]).map(|depth| task.chain[depth].clone());
        for state in self.groups[group].chain.clone() {
            self.states[state].waiting -= 1;
        }
        for &state in &makes {
            self.know(state, Some(Known::Making));
        }
        self.rank(group);
        self.running.push(task.clone());
        let makes = makes.into_iter().map(|state| self.states[state].key.clone()).collect();
        Some(Choice { task, from, makes })
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
    pub(super) fn ended(&mut self, choice: &Choice, usage: Usage) {
        self.running.retain(|task| task.index != choice.task.index);
        for key in &choice.makes {
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
mod tests {
    use std::collections::BTreeSet;

    use nestmatrix_model::{Architecture, LevelNumber};
    use nestmatrix_stack::Inputs;

    use super::*;
    use crate::run::demand::Emulation;

    fn key(name: &str) -> SnapshotKey {
        SnapshotKey::of(LevelNumber::ALL[0], &Inputs::from([("name".into(), name.into())]))
    }

    fn task(index: usize, chain: &[&str], seconds: f64) -> Task {
        let chain = chain.iter().map(|name| key(name)).collect();
        Task { index, kind: (Architecture::Amd, Emulation::Kvm), chain, seconds, memory_mib: 1000 }
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
    fn who_shares_a_state_waits_until_the_first_has_saved_it() {
        let tasks =
            vec![task(0, &["a", "ab"], 30.0), task(1, &["a", "ab"], 30.0), task(2, &["a", "ac"], 30.0)];
        let mut schedule = schedule(tasks, 3);
        let first = schedule.next().unwrap();
        assert_eq!((first.task.index, &first.from), (0, &None));
        assert_eq!(first.makes, [key("a"), key("ab")], "one goes on from the first, one from the second");
        assert_eq!(schedule.next(), None);
        schedule.is_saved(&key("a"));
        let second = schedule.next().unwrap();
        assert_eq!((second.task.index, second.from, second.makes), (2, Some(key("a")), vec![key("ac")]));
        assert_eq!(schedule.next(), None);
        schedule.is_saved(&key("ab"));
        let third = schedule.next().unwrap();
        assert_eq!((third.task.index, third.from, third.makes), (1, Some(key("ab")), vec![]));
    }

    #[test]
    fn each_of_many_cells_is_booted_once_and_each_state_made_once() {
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
                choice.makes.iter().for_each(|key| assert!(made.insert(key.clone())));
                running.push(choice);
            }
            let Some(choice) = running.pop() else { break };
            choice.makes.iter().for_each(|key| schedule.is_saved(key));
            schedule.ended(&choice, used(1.0, 500));
        }
        let states: BTreeSet<SnapshotKey> = names.iter().flatten().map(|name| key(name)).collect();
        assert_eq!((booted.len(), made), (3000, states));
    }

    #[test]
    fn a_state_that_does_not_come_holds_nobody_up_twice() {
        let tasks = vec![task(0, &["a"], 30.0), task(1, &["a"], 30.0), task(2, &["a"], 30.0)];
        let mut schedule = schedule(tasks, 3);
        let first = schedule.next().unwrap();
        assert_eq!(schedule.next(), None);
        schedule.ended(&first, used(1.0, 500));
        let others = [schedule.next().unwrap(), schedule.next().unwrap()];
        assert!(others.iter().all(|choice| choice.from.is_none() && choice.makes.is_empty()));
    }

    #[test]
    fn the_longest_way_goes_first_and_counts_who_waits() {
        let tasks =
            vec![task(0, &[], 35.0), task(1, &["a"], 30.0), task(2, &["a"], 30.0), task(3, &[], 100.0)];
        let mut schedule = schedule(tasks, 9);
        let order: Vec<usize> =
            std::iter::from_fn(|| schedule.next()).map(|choice| choice.task.index).collect();
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
        assert_eq!((first.from.clone(), first.makes.len()), (Some(key("ab")), 0));
        schedule.is_lost(&key("ab"));
        schedule.ended(&first, used(1.0, 500));
        let second = schedule.next().unwrap();
        assert_eq!((second.from, second.makes), (Some(key("a")), vec![key("ab")]));
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
            (0..40).map(|index| Task { kind: (Architecture::Intel, emulation), ..task(index, &[], 30.0) });
        let budget = Budget::Machine { cores: 2.0, memory_mib: 1 << 20 };
        let mut schedule = Schedule::new(tasks.collect(), budget, |_| false);
        let (mut running, mut most): (Vec<Choice>, usize) = Default::default();
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
                assert_eq!(
                    most_side_by_side(emulation, others, |_| 0.0),
                    2,
                    "{emulation:?}, {others} others"
                );
            }
        }
    }
}
