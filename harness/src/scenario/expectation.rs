//! What a scenario expects of its stacks, and what the harness does to a stack on purpose in order to try itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::level::LevelNumber;
use super::problem::InputProblem;
use super::stage::{Stage, StageKind};
use super::table::Table;
use super::word::{Word, word_traits};

/// What should come of a cell if its document is right.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Expectation {
    /// Every stage is reached.
    #[default]
    Works,
    /// The stack stops, as the document says that it does.
    Stops {
        /// The stage that is not completed.
        stage: Stage,
        /// Text that must occur in the symptom; without it any symptom at that stage will do.
        symptom: Option<String>,
    },
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works => f.write_str("works"),
            Self::Stops { stage, symptom: None } => write!(f, "stops at {stage}"),
            Self::Stops { stage, symptom: Some(symptom) } => write!(f, "stops at {stage} ({symptom})"),
        }
    }
}

#[derive(Clone, Copy)]
enum Outcome {
    Works,
    Stops,
}

impl Word for Outcome {
    const WHAT: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Works, Self::Stops];

    fn word(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Stops => "stops",
        }
    }
}

impl Expectation {
    /// Reads `[expect]` of a scenario whose stacks go from L0 to `innermost`.
    pub(super) fn read(table: &Table<'_>, innermost: LevelNumber) -> Option<Self> {
        match table.string("outcome")?.parse(Outcome::parse)? {
            Outcome::Works => {
                for key in ["stage", "symptom"] {
                    if let Some(text) = table.optional_string(key) {
                        text.report(InputProblem::NeedlessKey { key, wants: "outcome = \"stops\"" });
                    }
                }
                Some(Self::Works)
            }
            Outcome::Stops => {
                let symptom = table.optional_string("symptom").and_then(|text| text.parse(symptom));
                let stage = table.string("stage")?.parse(|text| stage_in_stack(text, innermost))?;
                Some(Self::Stops { stage, symptom })
            }
        }
    }
}

/// An empty text occurs in every symptom, so that it would say something and ask for nothing.
fn symptom(text: &str) -> Result<String, InputProblem> {
    if text.trim().is_empty() { Err(InputProblem::Empty { key: "symptom" }) } else { Ok(text.to_owned()) }
}

pub(super) fn stage_in_stack(text: &str, innermost: LevelNumber) -> Result<Stage, InputProblem> {
    let stages = Stage::of_stack(innermost);
    stages.iter().copied().find(|stage| stage.to_string() == text).ok_or_else(|| InputProblem::UnknownWord {
        what: "stage of this stack",
        given: text.to_owned(),
        known: stages.iter().map(Stage::to_string).collect(),
    })
}

/// What the harness can do to a level on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultAction {
    /// Kill the QEMU that runs the level.
    KillQemu,
    /// Close the QMP channel to the QEMU that runs the level.
    CloseQmp,
}

impl Word for FaultAction {
    const WHAT: &'static str = "fault";
    const ALL: &'static [Self] = &[Self::KillQemu, Self::CloseQmp];

    fn word(self) -> &'static str {
        match self {
            Self::KillQemu => "kill-qemu",
            Self::CloseQmp => "close-qmp",
        }
    }
}
word_traits!(FaultAction);

/// Something that the harness does to a stack in order to try itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fault {
    /// Done when this stage begins.
    pub at: Stage,
    /// What is done.
    #[serde(rename = "do")]
    pub action: FaultAction,
    /// The level to whose QEMU it is done.
    pub level: LevelNumber,
}

impl Fault {
    /// Reads one `[[fault]]` of a scenario whose stacks go from L0 to `innermost`.
    pub(super) fn read(table: &Table<'_>, innermost: LevelNumber) -> Option<Self> {
        let at = table.string("at").and_then(|text| text.parse(|text| stage_in_stack(text, innermost)));
        let action = table.string("do").and_then(|text| text.parse(FaultAction::parse));
        let level = table.string("level")?;
        let fault =
            Self { at: at?, action: action?, level: level.parse(|text| level_in_stack(text, innermost))? };
        let started = Stage::Level(fault.level, StageKind::Boot);
        if fault.at < started {
            level.report(InputProblem::FaultTooEarly { level: fault.level, at: fault.at, started });
            return None;
        }
        Some(fault)
    }
}

pub(super) fn level_in_stack(text: &str, innermost: LevelNumber) -> Result<LevelNumber, InputProblem> {
    LevelNumber::up_to(innermost).find(|level| level.word() == text).ok_or_else(|| {
        InputProblem::UnknownWord {
            what: "level of this stack",
            given: text.to_owned(),
            known: LevelNumber::up_to(innermost).map(|level| level.word().to_owned()).collect(),
        }
    })
}
