//! A level that boots, with its present state in its type: a level that has not booted takes no commands, and one that has not
//! shown that it can host gets no guest.

use std::collections::BTreeMap;
use std::rc::Rc;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{Machine, Monitor};

use super::channels::ConsoleShell;
use super::machines::MachineId;
use crate::host::{Facts, Host, Relay};

/// A machine of a level, and its state.
#[derive(Clone)]
pub(super) struct Level<S> {
    pub(super) id: MachineId,
    /// The monitor of the QEMU that runs it. Bare machines that QEMU does not play have none, and neither has this machine.
    pub(super) monitor: Option<Monitor>,
    pub(super) state: S,
}

/// Its machine is started and is the requested one.
pub(super) struct Launched {
    pub(super) machine: Machine,
    /// How the channels of the levels inside it are reached, if they are not ports of the machine.
    pub(super) relay: Option<Relay>,
}

/// It has booted and takes commands, as a host does.
#[derive(Clone)]
pub(super) struct Up {
    pub(super) host: Rc<dyn Host>,
}

/// It has shown that it can run guests.
#[derive(Clone)]
pub(super) struct Hosting {
    pub(super) host: Rc<dyn Host>,
    /// What it reports about itself.
    pub(super) facts: Facts,
}

/// It is the innermost level, has reported, and takes commands through the shell on its console.
#[derive(Clone)]
pub(super) struct Reported {
    pub(super) shell: ConsoleShell,
}

/// How commands run in a level.
#[derive(Clone)]
pub(super) enum Guest {
    /// As on any host.
    Host(Rc<dyn Host>),
    /// In the shell on its console.
    Console(ConsoleShell),
}

/// The host that a level is started on.
#[derive(Clone)]
pub(super) struct StartedOn {
    pub(super) host: Rc<dyn Host>,
    /// Whether it is the second machine of its level.
    pub(super) second: bool,
}

impl<S> Level<S> {
    /// The same level in another state.
    pub(super) fn becomes<T>(&self, state: T) -> Level<T> {
        Level { id: self.id, monitor: self.monitor.clone(), state }
    }
}

impl Level<Up> {
    /// This machine, which is this level.
    pub(super) fn this_machine(level: LevelNumber, host: Rc<dyn Host>) -> Self {
        Self { id: level.into(), monitor: None, state: Up { host } }
    }

    /// The level as the host of another level in the same snapshot.
    pub(super) fn to_restore_on(&self) -> StartedOn {
        StartedOn { host: Rc::clone(&self.state.host), second: self.id.second }
    }
}

impl Level<Hosting> {
    /// The level as the host of the next one.
    pub(super) fn to_start_on(&self) -> StartedOn {
        StartedOn { host: Rc::clone(&self.state.host), second: self.id.second }
    }
}

/// The levels of a stack that take commands, without those of second machines. On native metal, this machine is one of them.
#[derive(Default)]
pub(super) struct Levels {
    /// In the order in which they came up.
    up: Vec<Level<Up>>,
    hosting: BTreeMap<LevelNumber, Level<Hosting>>,
    innermost: Option<Level<Reported>>,
}

impl Levels {
    /// Notes that a level takes commands.
    pub(super) fn add(&mut self, level: Level<Up>) {
        self.up.push(level);
    }

    /// Notes that a level can run guests.
    pub(super) fn add_hosting(&mut self, level: Level<Hosting>) {
        self.hosting.insert(level.id.level, level);
    }

    /// Notes that the innermost level takes commands.
    pub(super) fn add_innermost(&mut self, level: Level<Reported>) {
        self.innermost = Some(level);
    }

    /// Forgets the levels inside `level`, which ended when it was reset.
    pub(super) fn forget_inside(&mut self, level: LevelNumber) {
        self.up.retain(|up| up.id.level <= level);
        self.hosting.retain(|inside, _| *inside <= level);
        self.innermost = self.innermost.take().filter(|innermost| innermost.id.level <= level);
    }

    /// A level that takes commands as a host does.
    pub(super) fn up(&self, level: LevelNumber) -> Option<&Level<Up>> {
        self.up.iter().find(|up| up.id.level == level)
    }

    /// A level as a host, as soon as it takes commands.
    pub(super) fn host(&self, level: LevelNumber) -> Option<Rc<dyn Host>> {
        self.up(level).map(|up| Rc::clone(&up.state.host))
    }

    /// Every level that is a host, in the order in which they came up.
    pub(super) fn hosts(&self) -> Vec<(LevelNumber, Rc<dyn Host>)> {
        self.up.iter().map(|up| (up.id.level, Rc::clone(&up.state.host))).collect()
    }

    /// A level that can run guests.
    pub(super) fn hosting(&self, level: LevelNumber) -> Option<&Level<Hosting>> {
        self.hosting.get(&level)
    }

    /// What a level that can run guests reports about itself.
    pub(super) fn facts(&self, level: LevelNumber) -> Option<&Facts> {
        Some(&self.hosting(level)?.state.facts)
    }

    /// Replaces what a level reports about itself.
    pub(super) fn replace_facts(&mut self, level: LevelNumber, facts: Facts) {
        if let Some(hosting) = self.hosting.get_mut(&level) {
            hosting.state.facts = facts;
        }
    }

    /// The innermost level, once it has reported, if it takes commands.
    pub(super) fn innermost(&self) -> Option<&Level<Reported>> {
        self.innermost.as_ref()
    }

    /// How commands run in a level, once it takes any.
    pub(super) fn guest(&self, level: LevelNumber) -> Option<Guest> {
        let of_innermost = || {
            let innermost = self.innermost.as_ref().filter(|innermost| innermost.id.level == level)?;
            Some(Guest::Console(innermost.state.shell.clone()))
        };
        self.host(level).map(Guest::Host).or_else(of_innermost)
    }
}
