//! A step of a scenario: something that is done in a level once a stage is done, and what should come of it.
//!
//! Steps carry out what a document tells its reader to do (look at a parameter, unload a module, load it again), so that
//! its procedures are tried and not only their result.

use serde::{Deserialize, Serialize};

use crate::level::LevelNumber;
use crate::stage::{Stage, StageKind};
use crate::word::Word;
use crate::word_traits;

/// Something that is done in a level once a stage is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// What it is called in records and messages.
    pub name: String,
    /// Done when this stage is done and before the next one begins.
    pub after: Stage,
    /// The level in which it is done.
    pub on: LevelNumber,
    /// What is done.
    #[serde(flatten)]
    pub action: StepAction,
    /// Whether its author says that it only reads: it may then be done in an L0 that is this machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reads: bool,
    /// How long it may take, if that is not as long as any other stage of its level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<StepTimeout>,
}

/// How long a step may take, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepTimeout {
    /// By this machine's clock.
    Real(u32),
    /// By the clock of the level, which may go slower on emulated metal. What the step does besides waiting may take as long as
    /// any other stage.
    Guest(u32),
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StepAction {
    /// A command is run.
    Run(Command),
    /// The harness does something itself.
    Own {
        /// What.
        #[serde(rename = "do")]
        action: OwnAction,
    },
}

/// A command of a scenario's own, and what should come of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Command {
    /// What is run, by `/bin/sh -c`.
    pub run: String,
    /// Whether it should exit with a status other than 0.
    pub fails: bool,
    /// The very status with which it should exit, from 1 to 125: with 126 and 127 a shell says that it ran nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u8>,
    /// Text that must occur in what it prints, on either of its streams.
    pub output: Option<String>,
}

/// What the harness does itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OwnAction {
    /// Loops are timed, for the record.
    Measure,
    /// L0 is rebooted.
    Reboot,
    /// One more machine of the same make is booted beside the level's own.
    BootAnother,
    /// The level is migrated to a second QEMU on the same host, with all that runs in it.
    Migrate,
}

impl Word for OwnAction {
    const WHAT: &'static str = "action";
    const ALL: &'static [Self] = &[Self::Measure, Self::Reboot, Self::BootAnother, Self::Migrate];

    fn word(self) -> &'static str {
        match self {
            Self::Measure => "measure",
            Self::Reboot => "reboot",
            Self::BootAnother => "boot-another",
            Self::Migrate => "migrate",
        }
    }
}
word_traits!(OwnAction);

impl StepAction {
    /// What it is called in records: `run`, or the word for what the harness does itself.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Own { action } => action.word(),
        }
    }
}

impl Step {
    /// The level that it gives a second machine, if it does.
    pub fn second_machine(&self) -> Option<LevelNumber> {
        let second = [OwnAction::BootAnother, OwnAction::Migrate].map(|action| StepAction::Own { action });
        second.contains(&self.action).then_some(self.on)
    }

    /// Whether it starts a second machine of `level`. One that is booted beside another has a level of its own inside.
    pub fn starts_second(&self, level: LevelNumber) -> bool {
        match self.action {
            StepAction::Own { action: OwnAction::BootAnother } => {
                level == self.on || Some(level) == self.on.next()
            }
            StepAction::Own { action: OwnAction::Migrate } => level == self.on,
            StepAction::Own { action: OwnAction::Measure | OwnAction::Reboot } | StepAction::Run(_) => false,
        }
    }

    /// Whether it needs the innermost level to live on once it has given its evidence: also beside that of another machine, both of
    /// which must be alive at once.
    pub fn needs_innermost(&self, innermost: LevelNumber) -> bool {
        let beside = self.action == StepAction::Own { action: OwnAction::BootAnother };
        innermost.reports() && (beside || self.after >= Stage::Level(innermost, StageKind::Check))
    }
}
