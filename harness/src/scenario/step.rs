//! A step of a scenario: a command that is run in a level once a stage is done, and what should come of it.
//!
//! Steps carry out what a document tells its reader to type (look at a parameter, unload a module, load it again), so that
//! its procedures are tried and not only their result.

use serde::{Deserialize, Serialize};

use super::expectation::{level_in_stack, stage_in_stack};
use super::level::LevelNumber;
use super::problem::InputProblem;
use super::stage::{Stage, StageKind};
use super::table::Table;

/// A command that is run in a level once a stage is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// What it is called in records and messages.
    pub name: String,
    /// Run when this stage is done and before the next one begins.
    pub after: Stage,
    /// The level in which it is run; one with a guest agent.
    pub on: LevelNumber,
    /// What is run, by `/bin/sh -c`.
    pub run: String,
    /// Whether it should exit with a status other than 0.
    pub fails: bool,
    /// Text that must occur in what it prints, on either of its streams.
    pub output: Option<String>,
}

impl Step {
    pub(super) const KEYS: &'static [&'static str] = &["name", "after", "on", "run", "fails", "output"];

    /// Reads one `[[step]]` of a scenario whose stacks go from L0 to `innermost`.
    pub(super) fn read(table: &Table<'_>, innermost: LevelNumber) -> Option<Self> {
        let name = table.prose("name");
        let after = table.string("after").and_then(|text| text.parse(|text| stage_in_stack(text, innermost)));
        let run = table.prose("run");
        let fails = table.optional_boolean("fails").unwrap_or(false);
        let output = table.optional_prose("output");
        let on = table.string("on")?;
        let level = on.parse(|text| level_in_stack(text, innermost))?;
        let (name, after, run) = (name?, after?, run?);
        let booted = Stage::Level(level, StageKind::Boot);
        if level == innermost {
            on.report(InputProblem::StepWithoutAgent { level });
            return None;
        }
        if after < booted {
            on.report(InputProblem::StepTooEarly { level, after, booted });
            return None;
        }
        Some(Self { name, after, on: level, run, fails, output })
    }
}
