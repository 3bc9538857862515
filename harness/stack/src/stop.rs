//! Why and where a stack stopped.

use nestmatrix_model::{LevelNumber, Stage, SymptomKind};
use serde::{Deserialize, Serialize};

use super::Symptom;

/// Who is at fault when a stack stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// The stack: the tested part did not work.
    Stack,
    /// The harness, or its machine: the stop says nothing about the stack.
    Harness,
}

/// The stop of a stack before its end.
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
    /// The tested part stopped.
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

    /// The same stop, about `level` if it is a stop of the harness.
    pub fn about(mut self, level: LevelNumber) -> Self {
        if let Symptom::Harness { level: of, .. } = &mut self.symptom {
            *of = Some(level);
        }
        self
    }

    /// The same stop, caused by an erratum of the emulated metal if it is a stop of the harness.
    pub fn charged_to(mut self, erratum: &str) -> Self {
        if let Symptom::Harness { erratum: of, .. } = &mut self.symptom {
            *of = Some(erratum.to_owned());
        }
        self
    }

    /// The same stop, with the harness at fault: it says nothing about the tested part.
    pub fn not_its_fault(self) -> Self {
        Self { blame: Blame::Harness, ..self }
    }

    /// The same stop, before the tested part began: it says nothing about that.
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

    /// Whether it stopped because of a time limit, and not because of an event.
    pub fn is_timeout(&self) -> bool {
        self.symptom.kind() == SymptomKind::Timeout
    }
}
