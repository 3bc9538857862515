//! Why and where a stack stopped.

use serde::{Deserialize, Serialize};

use crate::scenario::{LevelNumber, Stage};

/// Who is at fault when a stack stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The stack: what is under test did not work.
    Stack,
    /// The harness, or the machine that it runs on: nothing can be said of the stack.
    Harness,
}

/// The end of a stack that did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The stage in which it stopped.
    pub stage: Stage,
    /// The level that the symptom is about: that of the stage, or one further out. None before any level runs.
    pub level: Option<LevelNumber>,
    /// What was seen.
    pub symptom: String,
    /// Who is at fault.
    pub blame: Blame,
    /// Whether it stopped because somebody asked the harness to end.
    pub interrupted: bool,
    /// Whether it stopped because a time limit was reached, and not because anything was seen.
    pub by_limit: bool,
}

impl Stop {
    /// What is under test stopped.
    pub fn stack(stage: Stage, symptom: impl Into<String>) -> Self {
        Self {
            stage,
            level: stage.level(),
            symptom: symptom.into(),
            blame: Blame::Stack,
            interrupted: false,
            by_limit: false,
        }
    }

    /// The harness or its machine stopped it.
    pub fn harness(stage: Stage, symptom: impl Into<String>) -> Self {
        Self { blame: Blame::Harness, ..Self::stack(stage, symptom) }
    }

    /// The same stop, with a symptom that is about this level.
    pub fn about(self, level: LevelNumber) -> Self {
        Self { level: Some(level), ..self }
    }

    /// The same stop before what is under test was even begun: nothing can be said of it.
    pub fn before(self, what: &str) -> Self {
        let symptom = format!("{what} could not be begun: {}", self.symptom);
        Self { symptom, blame: Blame::Harness, ..self }
    }

    /// Somebody asked the harness to end.
    pub fn interrupted(stage: Stage) -> Self {
        Self { interrupted: true, ..Self::harness(stage, "interrupted") }
    }
}
