//! A step of a scenario: an action in a level after a stage, with the expected result.
//!
//! Steps carry out the procedures of a document, such as reading a parameter or reloading a module, so that not only their result
//! is tested.

use serde::{Deserialize, Serialize};

use crate::level::LevelNumber;
use crate::measure::Measure;
use crate::stage::{Stage, StageKind};
use crate::suite::{Payload, Suite, SuiteKind};
use crate::word::Word;
use crate::word_traits;

/// An action in a level after a stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// Its name in records and messages.
    pub name: String,
    /// The stage after which it runs, before the next stage.
    pub after: Stage,
    /// The level in which it runs.
    pub on: LevelNumber,
    /// Its action.
    #[serde(flatten)]
    pub action: StepAction,
    /// Whether its author says that it only reads. Then it may run in an L0 that is this machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads: bool,
    /// How many times it is taken.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub repeat: u32,
    /// Its timeout, if it is not that of the level's other stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<StepTimeout>,
}

fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_once(repeat: &u32) -> bool {
    *repeat == 1
}

/// The timeout of a step, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepTimeout {
    /// On this machine's clock.
    Real(u32),
    /// On the clock of the level, which may be slower on emulated metal. The rest of the step has the timeout of any other stage.
    Guest(u32),
}

/// The action of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StepAction {
    /// Runs a command.
    Run(Command),
    /// The harness itself does something.
    Own {
        /// Its action.
        #[serde(rename = "do")]
        action: OwnAction,
    },
    /// The harness does several things, one after another.
    Chain {
        /// Its actions.
        chain: Vec<OwnAction>,
    },
    /// Runs tests of a suite.
    Suite(Suite),
    /// Runs a program of the user.
    Payload(Payload),
    /// Runs a benchmark in several levels.
    Measure(Measure),
}

/// A command of a scenario, with its expected result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Command {
    /// The command, for `/bin/sh -c`.
    pub run: String,
    /// Whether its exit status should not be 0.
    pub fails: bool,
    /// Its expected exit status, from 1 to 125. A shell exits with 126 or 127 if it could not run the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u8>,
    /// Text that must occur in its standard output or standard error.
    pub output: Option<String>,
}

/// Actions of the harness itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnAction {
    /// Times some loops, for the record.
    Measure,
    /// Reboots L0.
    Reboot,
    /// Boots another machine with the same configuration beside the level's first one.
    BootAnother,
    /// Migrates the level, with everything in it, to a second QEMU on the same host.
    Migrate,
    /// Migrates the level to another version of QEMU on the same host.
    MigrateToOther,
    /// Migrates the level from another version of QEMU back to that of its host.
    MigrateBack,
    /// Stops the level for a while, and lets it continue.
    Pause,
    /// Saves the level, with everything in it, to a file on its host, ends its QEMU, and restores it in a new one.
    SaveRestore,
    /// Resets the level's machine. The levels inside are launched again.
    Reset,
    /// Powers the level off in an orderly way, ends its QEMU, and starts it again in a new one, with the levels inside.
    PowerOff,
    /// Makes the level's kernel panic, and resets its machine. The levels inside are launched again.
    Crash,
    /// Adds a CPU to the level.
    HotplugCpu,
    /// Adds memory to the level.
    HotplugMemory,
    /// Adds a disk to the level, uses it, and removes it.
    HotplugDisk,
    /// Adds a network card to the level, and removes it.
    HotplugNetwork,
}

impl Word for OwnAction {
    const WHAT: &'static str = "action";
    const ALL: &'static [Self] = &[
        Self::Measure,
        Self::Reboot,
        Self::BootAnother,
        Self::Migrate,
        Self::MigrateToOther,
        Self::MigrateBack,
        Self::Pause,
        Self::SaveRestore,
        Self::Reset,
        Self::PowerOff,
        Self::Crash,
        Self::HotplugCpu,
        Self::HotplugMemory,
        Self::HotplugDisk,
        Self::HotplugNetwork,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Measure => "measure",
            Self::Reboot => "reboot",
            Self::BootAnother => "boot-another",
            Self::Migrate => "migrate",
            Self::MigrateToOther => "migrate-to-other",
            Self::MigrateBack => "migrate-back",
            Self::Pause => "pause",
            Self::SaveRestore => "save-restore",
            Self::Reset => "reset",
            Self::PowerOff => "power-off",
            Self::Crash => "crash",
            Self::HotplugCpu => "hotplug-cpu",
            Self::HotplugMemory => "hotplug-memory",
            Self::HotplugDisk => "hotplug-disk",
            Self::HotplugNetwork => "hotplug-network",
        }
    }
}
word_traits!(OwnAction);

impl OwnAction {
    /// Whether it is an event in the life of a level: the level and everything in it must live on.
    pub fn is_lifecycle(self) -> bool {
        match self {
            Self::Migrate
            | Self::MigrateToOther
            | Self::MigrateBack
            | Self::Pause
            | Self::SaveRestore
            | Self::Reset
            | Self::PowerOff
            | Self::Crash
            | Self::HotplugCpu
            | Self::HotplugMemory
            | Self::HotplugDisk
            | Self::HotplugNetwork => true,
            Self::Measure | Self::Reboot | Self::BootAnother => false,
        }
    }

    /// Whether the level boots again, and the levels inside with it.
    pub fn boots_again(self) -> bool {
        matches!(self, Self::Reset | Self::PowerOff | Self::Crash)
    }

    /// Whether a device is plugged in that its machine must have a slot for.
    pub fn plugs_device(self) -> bool {
        matches!(self, Self::HotplugDisk | Self::HotplugNetwork)
    }

    /// Whether it migrates the level to another QEMU.
    pub fn is_migration(self) -> bool {
        matches!(self, Self::Migrate | Self::MigrateToOther | Self::MigrateBack)
    }

    /// Whether it needs another version of QEMU on the level's host.
    pub fn needs_other_qemu(self) -> bool {
        matches!(self, Self::MigrateToOther | Self::MigrateBack)
    }
}

impl StepAction {
    /// Its word in records: `run`, `suite`, `payload`, `chain`, `benchmark`, or that of the harness's action.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Own { action } => action.word(),
            Self::Suite(_) => "suite",
            Self::Payload(_) => "payload",
            // `measure` is an action of the harness.
            Self::Measure(_) => "benchmark",
            Self::Chain { .. } => "chain",
        }
    }

    /// The actions of the harness in it, in order.
    pub fn actions(&self) -> &[OwnAction] {
        match self {
            Self::Run(_) | Self::Suite(_) | Self::Payload(_) | Self::Measure(_) => &[],
            Self::Own { action } => std::slice::from_ref(action),
            Self::Chain { chain } => chain,
        }
    }
}

impl Step {
    /// The level that gets a second machine from it, if any.
    pub fn second_machine(&self) -> Option<LevelNumber> {
        let is_second = |action: &OwnAction| *action == OwnAction::BootAnother || action.is_migration();
        self.action.actions().iter().any(is_second).then_some(self.on)
    }

    /// Whether it boots a second machine beside the first one of its level.
    pub fn boots_another(&self) -> bool {
        self.action.actions().contains(&OwnAction::BootAnother)
    }

    /// The level whose memory its host must hold a second time, because the step saves it to a file, if any.
    pub fn saved_level(&self) -> Option<LevelNumber> {
        self.action.actions().contains(&OwnAction::SaveRestore).then_some(self.on)
    }

    /// The level whose machine must have a slot for a device that is plugged in, if any.
    pub fn plugged_level(&self) -> Option<LevelNumber> {
        self.action.actions().iter().any(|action| action.plugs_device()).then_some(self.on)
    }

    /// Whether it is an event in the life of a level, or several.
    pub fn is_lifecycle(&self) -> bool {
        self.action.actions().iter().any(|action| action.is_lifecycle())
    }

    /// Whether it starts a second machine of `level`. A machine that is booted beside another one has its own level inside.
    pub fn starts_second(&self, level: LevelNumber) -> bool {
        self.action.actions().iter().any(|action| match action {
            OwnAction::BootAnother => level == self.on || Some(level) == self.on.next(),
            OwnAction::Migrate | OwnAction::MigrateToOther | OwnAction::MigrateBack => level == self.on,
            OwnAction::Measure
            | OwnAction::Reboot
            | OwnAction::Pause
            | OwnAction::SaveRestore
            | OwnAction::Reset
            | OwnAction::PowerOff
            | OwnAction::Crash
            | OwnAction::HotplugCpu
            | OwnAction::HotplugMemory
            | OwnAction::HotplugDisk
            | OwnAction::HotplugNetwork => false,
        })
    }

    /// The test suite that it runs, if it runs one.
    pub fn suite(&self) -> Option<&Suite> {
        match &self.action {
            StepAction::Suite(suite) => Some(suite),
            StepAction::Run(_)
            | StepAction::Own { .. }
            | StepAction::Chain { .. }
            | StepAction::Payload(_)
            | StepAction::Measure(_) => None,
        }
    }

    /// The program of the user that it runs, if it runs one.
    pub fn payload(&self) -> Option<&Payload> {
        match &self.action {
            StepAction::Payload(payload) => Some(payload),
            StepAction::Run(_)
            | StepAction::Own { .. }
            | StepAction::Chain { .. }
            | StepAction::Suite(_)
            | StepAction::Measure(_) => None,
        }
    }

    /// The kind of suite that it needs, if it needs one: to run its tests, or to measure with one.
    pub fn suite_kind(&self) -> Option<SuiteKind> {
        let measured = || self.measure().and_then(|measure| measure.benchmark.suite());
        self.suite().map(|suite| suite.kind).or_else(measured)
    }

    /// The benchmark that it runs, if it runs one.
    pub fn measure(&self) -> Option<&Measure> {
        match &self.action {
            StepAction::Measure(measure) => Some(measure),
            StepAction::Run(_)
            | StepAction::Own { .. }
            | StepAction::Chain { .. }
            | StepAction::Suite(_)
            | StepAction::Payload(_) => None,
        }
    }

    /// The levels that it measures, its own first; none if it runs no benchmark.
    pub fn measured_levels(&self) -> impl Iterator<Item = LevelNumber> {
        self.measure()
            .into_iter()
            .flat_map(|measure| std::iter::once(self.on).chain(measure.against.iter().copied()))
    }

    /// Whether the innermost level must keep running after its evidence. A second machine also needs that, since both innermost
    /// levels must run at the same time.
    pub fn needs_innermost(&self, innermost: LevelNumber) -> bool {
        let beside = self.action.actions().contains(&OwnAction::BootAnother);
        innermost.reports() && (beside || self.after >= Stage::Level(innermost, StageKind::Check))
    }
}
