//! A step of a scenario: something that is done in a level once a stage is done, and what should come of it.
//!
//! Steps carry out what a document tells its reader to do (look at a parameter, unload a module, load it again), so that
//! its procedures are tried and not only their result.

use serde::{Deserialize, Serialize};

use super::expectation::{level_in_stack, stage_in_stack};
use super::level::LevelNumber;
use super::problem::InputProblem;
use super::stage::{Stage, StageKind};
use super::table::{Table, Text};
use super::word::Word;

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
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum StepAction {
    /// A command is run.
    Run {
        /// What is run, by `/bin/sh -c`.
        run: String,
        /// Whether it should exit with a status other than 0.
        fails: bool,
        /// Text that must occur in what it prints, on either of its streams.
        output: Option<String>,
    },
    /// Loops are timed, for the record.
    Measure,
}

/// The words for what the harness does itself; a command has none, it is there as `run`.
#[derive(Clone, Copy)]
enum ActionWord {
    Measure,
}

impl Word for ActionWord {
    const WHAT: &'static str = "action";
    const ALL: &'static [Self] = &[Self::Measure];

    fn word(self) -> &'static str {
        match self {
            Self::Measure => "measure",
        }
    }
}

impl StepAction {
    /// What it is called in records: `run`, or the word for what the harness does itself.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Run { .. } => "run",
            Self::Measure => ActionWord::Measure.word(),
        }
    }
}

impl Step {
    pub(super) const KEYS: &'static [&'static str] = &["name", "after", "on", "do", "run", "fails", "output"];

    /// Reads one `[[step]]` of a scenario whose stacks go from L0 to `innermost`.
    pub(super) fn read(table: &Table<'_>, innermost: LevelNumber) -> Option<Self> {
        let name = table.prose("name");
        let after = table.string("after").and_then(|text| text.parse(|text| stage_in_stack(text, innermost)));
        let action = match table.optional_string("do") {
            Some(word) => read_action(table, &word),
            None => read_run(table),
        };
        let on = table.string("on")?;
        let level = on.parse(|text| level_in_stack(text, innermost))?;
        let (name, after, action) = (name?, after?, action?);
        is_up(&on, level, after, innermost)?;
        Some(Self { name, after, on: level, action })
    }

    /// Whether it needs the innermost level to live on once it has given its evidence.
    pub fn needs_innermost(&self, innermost: LevelNumber) -> bool {
        self.after >= Stage::Level(innermost, StageKind::Check)
    }
}

fn read_run(table: &Table<'_>) -> Option<StepAction> {
    let fails = table.optional_boolean("fails").unwrap_or(false);
    let output = table.optional_prose("output");
    Some(StepAction::Run { run: table.prose("run")?, fails, output })
}

fn read_action(table: &Table<'_>, word: &Text<'_>) -> Option<StepAction> {
    for key in ["run", "fails", "output"].into_iter().filter(|key| table.has(key)) {
        word.report(InputProblem::NeedlessKey { key, wants: "run = \"...\" in place of do" });
    }
    match word.parse(ActionWord::parse)? {
        ActionWord::Measure => Some(StepAction::Measure),
    }
}

/// Whether `level` takes commands once the stage `after` is done. The innermost level has no agent, but a shell on its
/// console once it has given its evidence.
fn is_up(on: &Text<'_>, level: LevelNumber, after: Stage, innermost: LevelNumber) -> Option<()> {
    let kind = if level == innermost { StageKind::Check } else { StageKind::Boot };
    let up = Stage::Level(level, kind);
    if after < up {
        on.report(InputProblem::StepTooEarly { level, after, up });
        return None;
    }
    Some(())
}
