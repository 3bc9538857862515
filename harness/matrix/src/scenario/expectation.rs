//! The expected result of a scenario's stacks, and the faults that the harness injects to test itself.

use std::fmt;

use nestmatrix_model::{LevelNumber, Stage, SymptomKind, UnknownWord, Word};
use serde::{Deserialize, Serialize};

use super::input::Table;
use super::known::{KnownStale, KnownWrong};
use super::problem::ScenarioProblem;
use super::symptom_texts::SymptomTexts;

/// The expected result of a cell if its document is right.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Expectation {
    /// Every stage is reached.
    Works {
        /// What is known about the claim, if it has been seen wrong.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known_wrong: Option<Box<KnownWrong>>,
    },
    /// The stack stops, as the document says.
    Stops {
        /// How it stops.
        #[serde(flatten)]
        limitation: Limitation,
        /// What is known about the end of the limitation, if it has been seen gone.
        known_stale: Option<KnownStale>,
    },
    /// The document promises neither: the stack may work, or it may stop in this way.
    MayStop(Limitation),
}

/// A stop as a document describes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limitation {
    /// The stage that is not completed.
    #[serde(flatten)]
    pub stop: StopStage,
    /// One of these texts must occur in the symptom; without them any symptom matches.
    pub symptom: Option<SymptomTexts>,
    /// The kind of symptom, if one is named: a stop of another kind is another stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SymptomKind>,
    /// If the kind is a timeout: the scenario without the limitation, whose stacks do not time out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// Why there is no such text, if there is none. Absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_symptom: Option<String>,
}

/// How exactly a document says where a stack stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopStage {
    /// At this stage.
    #[serde(rename = "stage")]
    At(Stage),
    /// At this stage or a later one.
    #[serde(rename = "from")]
    From(Stage),
}

impl Default for Expectation {
    fn default() -> Self {
        Self::WORKS
    }
}

impl Expectation {
    /// Every stage is reached, and nothing else is known.
    pub const WORKS: Self = Self::Works { known_wrong: None };

    /// The stop that is expected or allowed, if there is one.
    pub fn limitation(&self) -> Option<&Limitation> {
        match self {
            Self::Stops { limitation, .. } | Self::MayStop(limitation) => Some(limitation),
            Self::Works { .. } => None,
        }
    }

    /// What is known about the claim that is expected to be right, if it has been seen wrong.
    pub fn known_wrong(&self) -> Option<&KnownWrong> {
        match self {
            Self::Works { known_wrong } => known_wrong.as_deref(),
            Self::Stops { .. } | Self::MayStop(_) => None,
        }
    }

    /// What is known about the end of the expected limitation, if it has been seen gone.
    pub fn known_stale(&self) -> Option<&KnownStale> {
        match self {
            Self::Stops { known_stale, .. } => known_stale.as_ref(),
            Self::Works { .. } | Self::MayStop(_) => None,
        }
    }
}

impl Limitation {
    /// A stop like this, whose symptom contains one of these texts, or any text.
    pub fn new(stop: StopStage, symptom: Option<SymptomTexts>) -> Self {
        Self { stop, symptom, kind: None, control: None, no_symptom: None }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Works { .. } => f.write_str("works"),
            Self::Stops { limitation, .. } => write!(f, "stops {limitation}"),
            Self::MayStop(limitation) => write!(f, "may stop {limitation}"),
        }
    }
}

impl fmt::Display for Limitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stop {
            StopStage::At(stage) => write!(f, "at {stage}")?,
            StopStage::From(stage) => write!(f, "at {stage} or later")?,
        }
        match (self.kind, &self.symptom) {
            (Some(kind), Some(symptom)) => write!(f, " ({kind}: {symptom})"),
            (Some(kind), None) => write!(f, " ({kind})"),
            (None, Some(symptom)) => write!(f, " ({symptom})"),
            (None, None) => Ok(()),
        }
    }
}

#[derive(Clone, Copy)]
enum Outcome {
    Works,
    Stops,
    MayStop,
}

impl Word for Outcome {
    const WHAT: &'static str = "outcome";
    const ALL: &'static [Self] = &[Self::Works, Self::Stops, Self::MayStop];

    fn word(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Stops => "stops",
            Self::MayStop => "may-stop",
        }
    }
}

impl Expectation {
    pub(super) const KEYS: &'static [&'static str] = &[
        "outcome",
        "stage",
        "from",
        "symptom",
        "symptom-kind",
        "control",
        "no-symptom",
        "known-stale",
        "known-wrong",
    ];

    /// Reads `[expect]` of a scenario whose stacks go through these stages.
    pub(super) fn read(table: &Table<'_>, stages: &[Stage]) -> Option<Self> {
        let outcome = table.string("outcome")?.parse(Outcome::parse)?;
        let known_stale = table.optional_table("known-stale", KnownStale::KEYS);
        if let (Outcome::Works | Outcome::MayStop, Some(known_stale)) = (outcome, &known_stale) {
            known_stale.report(needless("known-stale"));
        }
        let known_wrong = table.optional_table("known-wrong", KnownWrong::KEYS);
        if let (Outcome::Stops | Outcome::MayStop, Some(known_wrong)) = (outcome, &known_wrong) {
            let wants = "outcome = \"works\"";
            known_wrong.report(ScenarioProblem::NeedlessKey { key: "known-wrong", wants });
        }
        match outcome {
            Outcome::Works => {
                for key in ["stage", "from", "symptom-kind", "control", "no-symptom"] {
                    if let Some(text) = table.optional_string(key) {
                        text.report(needless(key));
                    }
                }
                if let Some(texts) = table.optional_string_or_strings("symptom") {
                    texts.iter().take(1).for_each(|text| text.report(needless("symptom")));
                }
                let known_wrong = known_wrong.and_then(|table| KnownWrong::read(&table, stages));
                Some(Self::Works { known_wrong: known_wrong.map(Box::new) })
            }
            Outcome::Stops => {
                let known_stale = known_stale.map(|table| KnownStale::read(&table));
                let limitation = Limitation::read(table, stages)?;
                // A wrong value has already been reported.
                Some(Self::Stops { limitation, known_stale: known_stale.flatten() })
            }
            Outcome::MayStop => Limitation::read(table, stages).map(Self::MayStop),
        }
    }
}

fn needless(key: &'static str) -> ScenarioProblem {
    ScenarioProblem::NeedlessKey { key, wants: "outcome = \"stops\"" }
}

impl Limitation {
    pub(super) fn read(table: &Table<'_>, stages: &[Stage]) -> Option<Self> {
        let symptom = SymptomTexts::read(table);
        let kind = table.optional_string("symptom-kind");
        let kind = kind.and_then(|text| text.parse(documentable));
        let control = table.optional_prose("control");
        if (kind == Some(SymptomKind::Timeout)) != control.is_some() {
            table.report(ScenarioProblem::TimeoutWithoutControl);
        }
        let no_symptom = table.optional_prose("no-symptom");
        match ["symptom", "symptom-kind", "no-symptom"].map(|key| table.has(key)) {
            [true, _, true] => table.report(ScenarioProblem::BothKeys { keys: ["symptom", "no-symptom"] }),
            [_, true, true] => {
                table.report(ScenarioProblem::BothKeys { keys: ["symptom-kind", "no-symptom"] })
            }
            [false, false, false] => table.report(ScenarioProblem::NoSymptom),
            _ => {}
        }
        let stop = StopStage::read(table, stages)?;
        Some(Self { stop, symptom, kind, control, no_symptom })
    }
}

/// A kind that a document can be about.
fn documentable(text: &str) -> Result<SymptomKind, UnknownWord> {
    let kind = SymptomKind::parse(text);
    kind.ok().filter(|kind| kind.is_documentable()).ok_or_else(|| {
        let all = SymptomKind::ALL.iter().filter(|kind| kind.is_documentable());
        let known = all.map(ToString::to_string).collect();
        UnknownWord { what: SymptomKind::WHAT, given: text.to_owned(), known }
    })
}

impl StopStage {
    fn read(table: &Table<'_>, stages: &[Stage]) -> Option<Self> {
        let keys = ["stage", "from"];
        let [at, from] = keys.map(|key| {
            let text = table.optional_string(key)?;
            let stage = text.parse(|text| stage_among(text, stages));
            Some((text, stage))
        });
        match (at, from) {
            (Some(_), Some((from, _))) => {
                from.report(ScenarioProblem::BothKeys { keys });
                None
            }
            (Some((_, at)), None) => at.map(Self::At),
            (None, Some((_, from))) => from.map(Self::From),
            (None, None) => {
                // A value that is not text has already been reported.
                if !keys.iter().any(|key| table.has(key)) {
                    table.report(ScenarioProblem::NeitherKey { keys });
                }
                None
            }
        }
    }
}

pub(super) fn stage_in_stack(text: &str, innermost: LevelNumber) -> Result<Stage, UnknownWord> {
    stage_among(text, &Stage::of_stack(innermost))
}

fn stage_among(text: &str, stages: &[Stage]) -> Result<Stage, UnknownWord> {
    stages.iter().copied().find(|stage| stage.to_string() == text).ok_or_else(|| UnknownWord {
        what: "stage of this stack",
        given: text.to_owned(),
        known: stages.iter().map(Stage::to_string).collect(),
    })
}

pub(super) fn level_in_stack(text: &str, innermost: LevelNumber) -> Result<LevelNumber, UnknownWord> {
    LevelNumber::up_to(innermost).find(|level| level.word() == text).ok_or_else(|| UnknownWord {
        what: "level of this stack",
        given: text.to_owned(),
        known: LevelNumber::up_to(innermost).map(|level| level.word().to_owned()).collect(),
    })
}
