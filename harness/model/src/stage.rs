//! The stages of a stack, in the order of a run. They say how far a stack got before it stopped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::level::LevelNumber;
use crate::word::{UnknownWord, Word};

/// How records before format 3 write [`Stage::Restore`].
const RESTORE_BEFORE_FORMAT_3: &str = "continue";

/// The stages of one level, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageKind {
    /// The level below starts this level's QEMU.
    Launch,
    /// The level boots to its own userspace.
    Boot,
    /// The level shows that its KVM works, so that it can be a hypervisor. The innermost level does not have this stage.
    Kvm,
    /// The level shows that it ran under KVM. Only the innermost level has this stage.
    Check,
    /// The user's guest in the level says that it works. Only an innermost level that waits for this has this stage.
    Ready,
}

impl Word for StageKind {
    const WHAT: &'static str = "stage";
    const ALL: &'static [Self] = &[Self::Launch, Self::Boot, Self::Kvm, Self::Check, Self::Ready];

    fn word(self) -> &'static str {
        match self {
            Self::Launch => "launch",
            Self::Boot => "boot",
            Self::Kvm => "kvm",
            Self::Check => "check",
            Self::Ready => "ready",
        }
    }
}

/// A stage of a stack, written `provision`, `l0-boot`, `l1-launch` and so on. Stages are ordered as in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Stage {
    /// Images and channels are prepared. No level runs yet.
    Provision,
    /// The stack is restored from a snapshot, with levels that were booted before. No scenario names it.
    Restore,
    /// A stage of one level.
    Level(LevelNumber, StageKind),
    /// A step of the scenario runs, by its number from 1. It may come between any other two stages.
    Step(u8),
}

impl Stage {
    /// Every stage of a stack that has L0 to `innermost`, in order. A stack with a guest of the user has [`StageKind::Ready`] after
    /// them.
    pub fn of_stack(innermost: LevelNumber) -> Vec<Self> {
        let mut stages = vec![Self::Provision];
        for level in LevelNumber::up_to(innermost) {
            let reports = level == innermost && innermost.reports();
            let last = if reports { StageKind::Check } else { StageKind::Kvm };
            stages.extend([StageKind::Launch, StageKind::Boot, last].map(|kind| Self::Level(level, kind)));
        }
        stages
    }

    /// The level of the stage, if it has one.
    pub fn level(self) -> Option<LevelNumber> {
        match self {
            Self::Provision | Self::Restore | Self::Step(_) => None,
            Self::Level(level, _) => Some(level),
        }
    }

    /// Every stage that some stack has.
    fn all() -> Vec<Self> {
        let mut stages: Vec<Self> = LevelNumber::ALL.into_iter().flat_map(Self::of_stack).collect();
        let innermost = LevelNumber::ALL.into_iter().filter(|level| level.reports());
        stages.extend(innermost.map(|level| Self::Level(level, StageKind::Ready)));
        stages.sort();
        stages.dedup();
        stages
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provision => f.pad("provision"),
            Self::Restore => f.pad("restore"),
            Self::Level(level, kind) => f.pad(&format!("{}-{}", level.word(), kind.word())),
            Self::Step(number) => f.pad(&format!("step-{number}")),
        }
    }
}

impl FromStr for Stage {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(number) = text.strip_prefix("step-").and_then(|number| number.parse().ok()) {
            return Ok(Self::Step(number));
        }
        let stages = Self::all();
        stages.iter().copied().find(|stage| stage.to_string() == text).ok_or_else(|| UnknownWord {
            what: "stage",
            given: text.to_owned(),
            known: stages.iter().map(Self::to_string).collect(),
        })
    }
}

impl From<Stage> for String {
    fn from(stage: Stage) -> Self {
        stage.to_string()
    }
}

impl TryFrom<String> for Stage {
    type Error = UnknownWord;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // It is allowed in records, but not in scenarios.
        if text == Self::Restore.to_string() || text == RESTORE_BEFORE_FORMAT_3 {
            Ok(Self::Restore)
        } else {
            text.parse()
        }
    }
}
