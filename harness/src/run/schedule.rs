//! Which cell is booted next, and from what: cells share saved states, cores and memory.
//!
//! A state is made by the first cell that comes by on its way; the others that need it wait. What is ready goes in the order of the
//! longest way to an end, its own or that of those who wait for it.

use std::collections::BTreeMap;

use crate::scenario::Architecture;
use crate::stack::{StateKey, Usage};

/// The part of a cold boot's time that is left of it when it goes on from the deepest state, as measured.
const LEFT: f64 = 0.4;
/// Parts of a core by which the cells that run may want more than there are: they wait for each other a little.
const SLACK: f64 = 0.3;

/// A cell that is to be booted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    /// Its place in the plan.
    pub(super) index: usize,
    /// Its architecture: cells of one are alike in what they use.
    pub(super) architecture: Architecture,
    /// The states from which it can go on, the one of the fewest levels first.
    pub(super) chain: Vec<StateKey>,
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
    pub(super) from: Option<StateKey>,
    /// The states that it saves on its way.
    pub(super) makes: Vec<StateKey>,
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

/// What a cell uses, as measured.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    cells: u32,
    cores: f64,
    memory_mib: u64,
}

/// The cells of a run that wait, and what is known of what they need.
#[derive(Debug)]
pub(super) struct Schedule {
    waiting: Vec<Task>,
    running: Vec<Task>,
    states: BTreeMap<StateKey, Known>,
    measured: BTreeMap<Architecture, Measured>,
    budget: Budget,
}

impl Schedule {
    /// These cells, of whose states those are there that `saved` says.
    pub(super) fn new(tasks: Vec<Task>, budget: Budget, saved: impl Fn(&StateKey) -> bool) -> Self {
        let keys = tasks.iter().flat_map(|task| &task.chain).filter(|key| saved(key));
        let states = keys.map(|key| (key.clone(), Known::Saved)).collect();
        Self { waiting: tasks, running: Vec::new(), states, measured: BTreeMap::new(), budget }
    }

    /// The next cell to boot; none while there is no room, or while all that wait wait for a state.
    pub(super) fn next(&mut self) -> Option<Choice> {
        let ready = (0..self.waiting.len()).filter(|&index| self.is_ready(&self.waiting[index]));
        // Of equals the first in the plan.
        let best = ready.map(|index| (index, self.way(&self.waiting[index])));
        let (best, _) = best.reduce(|best, other| if other.1 > best.1 { other } else { best })?;
        if !self.fits(&self.waiting[best]) {
            return None;
        }
        let makes = self.would_make(&self.waiting[best]);
        let task = self.waiting.remove(best);
        let from = self.saved(&task).map(|depth| task.chain[depth].clone());
        for key in &makes {
            self.states.insert(key.clone(), Known::Making);
        }
        self.running.push(task.clone());
        Some(Choice { task, from, makes })
    }

    /// No cell is booted any more.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
    }

    /// A state is there.
    pub(super) fn is_saved(&mut self, key: &StateKey) {
        self.states.insert(key.clone(), Known::Saved);
    }

    /// A state that was there is not, or can't be used.
    pub(super) fn is_lost(&mut self, key: &StateKey) {
        self.states.remove(key);
    }

    /// A cell has ended that used this.
    pub(super) fn ended(&mut self, choice: &Choice, usage: Usage, seconds: f64) {
        self.running.retain(|task| task.index != choice.task.index);
        for key in &choice.makes {
            // Whoever comes next would come to the same end.
            if self.states.get(key) == Some(&Known::Making) {
                self.states.insert(key.clone(), Known::Given);
            }
        }
        if usage.peak_memory_mib > 0 && seconds > 0.0 {
            let measured = self.measured.entry(choice.task.architecture).or_default();
            let before = f64::from(measured.cells);
            measured.cores = (measured.cores * before + usage.cpu_seconds / seconds) / (before + 1.0);
            measured.cells += 1;
            measured.memory_mib = measured.memory_mib.max(usage.peak_memory_mib);
        }
    }

    /// The depth of the deepest state of a cell that is there.
    fn saved(&self, task: &Task) -> Option<usize> {
        task.chain.iter().rposition(|key| self.states.get(key) == Some(&Known::Saved))
    }

    fn is_ready(&self, task: &Task) -> bool {
        let first = self.saved(task).map_or(0, |depth| depth + 1);
        task.chain[first..].iter().all(|key| self.states.get(key) != Some(&Known::Making))
    }

    /// The states that a cell would save: the deepest, for this run and later ones, and others where cells part ways.
    fn would_make(&self, task: &Task) -> Vec<StateKey> {
        let first = self.saved(task).map_or(0, |depth| depth + 1);
        let last = task.chain.len().saturating_sub(1);
        let unknown =
            (first..task.chain.len()).filter(|&depth| !self.states.contains_key(&task.chain[depth]));
        let parts = |depth: usize| {
            self.waiting.iter().any(|other| {
                other.chain.contains(&task.chain[depth])
                    && other.chain.get(depth + 1) != task.chain.get(depth + 1)
            })
        };
        unknown
            .filter(|&depth| depth == last || parts(depth))
            .map(|depth| task.chain[depth].clone())
            .collect()
    }

    /// About how long it takes until a cell, or one of those who would wait for it, is through, in seconds.
    fn way(&self, task: &Task) -> f64 {
        let own = match self.saved(task) {
            Some(depth) if depth + 1 == task.chain.len() => task.seconds * LEFT,
            _ => task.seconds,
        };
        let makes = self.would_make(task);
        let waits =
            |other: &&Task| other.index != task.index && other.chain.iter().any(|key| makes.contains(key));
        let after = self.waiting.iter().filter(waits).map(|other| other.seconds * LEFT);
        own + after.fold(0.0, f64::max)
    }

    fn fits(&self, task: &Task) -> bool {
        if self.running.is_empty() {
            return true;
        }
        match self.budget {
            Budget::Jobs(jobs) => self.running.len() < jobs,
            Budget::Machine { cores, memory_mib } => {
                let all = || self.running.iter().chain([task]).map(|task| self.needs(task));
                let wanted: f64 = all().map(|(cores, _)| cores).sum();
                let memory: u64 = all().map(|(_, memory)| memory).sum();
                wanted <= cores + SLACK && memory <= memory_mib
            }
        }
    }

    /// Cores and memory in MiB that a cell takes.
    fn needs(&self, task: &Task) -> (f64, u64) {
        match self.measured.get(&task.architecture) {
            Some(measured) => (measured.cores, measured.memory_mib),
            None => (1.0, task.memory_mib),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::LevelNumber;
    use crate::stack::Inputs;

    fn key(name: &str) -> StateKey {
        StateKey::of(LevelNumber::ALL[0], &Inputs::from([("name".into(), name.into())]))
    }

    fn task(index: usize, chain: &[&str], seconds: f64) -> Task {
        let chain = chain.iter().map(|name| key(name)).collect();
        Task { index, architecture: Architecture::Amd, chain, seconds, memory_mib: 1000 }
    }

    fn schedule(tasks: Vec<Task>, jobs: usize) -> Schedule {
        Schedule::new(tasks, Budget::Jobs(jobs), |_| false)
    }

    fn used(cores: f64, memory_mib: u64) -> (Usage, f64) {
        (Usage { cpu_seconds: cores * 10.0, peak_memory_mib: memory_mib }, 10.0)
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
    fn a_state_that_does_not_come_holds_nobody_up_twice() {
        let tasks = vec![task(0, &["a"], 30.0), task(1, &["a"], 30.0), task(2, &["a"], 30.0)];
        let mut schedule = schedule(tasks, 3);
        let first = schedule.next().unwrap();
        assert_eq!(schedule.next(), None);
        let (usage, seconds) = used(1.0, 500);
        schedule.ended(&first, usage, seconds);
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
        let (usage, seconds) = used(1.0, 500);
        schedule.ended(&first, usage, seconds);
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
        let (usage, seconds) = used(0.5, 700);
        schedule.ended(&first, usage, seconds);
        assert!(schedule.next().is_some() && schedule.next().is_some(), "half a core each");
        assert_eq!(schedule.next(), None, "memory for three");
        let (usage, seconds) = used(4.0, 9000);
        schedule.ended(&second, usage, seconds);
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn what_is_too_large_runs_alone() {
        let budget = Budget::Machine { cores: 1.0, memory_mib: 10 };
        let mut schedule = Schedule::new(vec![task(0, &[], 1.0), task(1, &[], 1.0)], budget, |_| false);
        assert!(schedule.next().is_some());
        assert!(schedule.next().is_none());
    }
}
