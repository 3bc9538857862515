//! Why and where a stack stopped.

use nestmatrix_model::{LevelNumber, Stage, SymptomKind};
use serde::{Deserialize, Serialize};

use super::Symptom;

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
    /// What was seen.
    pub symptom: Symptom,
    /// Who is at fault.
    pub blame: Blame,
}

impl Stop {
    /// What is under test stopped.
    pub fn stack(stage: Stage, symptom: Symptom) -> Self {
        Self { stage, symptom, blame: Blame::Stack }
    }

    /// The harness or its machine stopped it.
    pub fn harness(stage: Stage, why: impl Into<String>) -> Self {
        let symptom = Symptom::Harness { level: None, why: why.into(), erratum: None };
        Self { stage, symptom, blame: Blame::Harness }
    }

    /// The user asked the harness to end.
    pub fn interrupted(stage: Stage) -> Self {
        Self { stage, symptom: Symptom::Interrupted, blame: Blame::Harness }
    }

    /// The same stop, if it is one of the harness, as one that is about `level`.
    pub fn about(mut self, level: LevelNumber) -> Self {
        if let Symptom::Harness { level: of, .. } = &mut self.symptom {
            *of = Some(level);
        }
        self
    }

    /// The same stop, if it is one of the harness, as one that comes of an erratum of the emulated metal.
    pub fn charged_to(mut self, erratum: &str) -> Self {
        if let Symptom::Harness { erratum: of, .. } = &mut self.symptom {
            *of = Some(erratum.to_owned());
        }
        self
    }

    /// The same stop, with the harness at fault: it says nothing of what is under test.
    pub fn not_its_fault(self) -> Self {
        Self { blame: Blame::Harness, ..self }
    }

    /// The same stop before what is under test was even begun: nothing can be said of it.
    pub fn before(self, what: &str) -> Self {
        if self.is_interrupted() {
            return self;
        }
        Self::harness(self.stage, format!("{what} could not be begun: {}", self.symptom))
    }

    /// The level that the symptom is about: its own, or that of the stage. None before any level runs.
    pub fn level(&self) -> Option<LevelNumber> {
        self.symptom.level().or(self.stage.level())
    }

    /// Whether the user asked the harness to end.
    pub fn is_interrupted(&self) -> bool {
        self.symptom.kind() == SymptomKind::Interrupted
    }

    /// Whether it stopped because a time limit was reached, and not because anything was seen.
    pub fn is_timeout(&self) -> bool {
        self.symptom.kind() == SymptomKind::Timeout
    }
}
