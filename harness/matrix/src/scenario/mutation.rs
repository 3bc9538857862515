//! The mutations in a scenario: the damage that only its author can think of, and the damage that may go unnoticed. The module
//! `mutation` makes the generic mutations, which every cell gets.

use std::collections::BTreeMap;

use globset::Glob;
use nestmatrix_model::{Architecture, LevelNumber, Word};
use serde::{Deserialize, Serialize};

use super::cell::kebab_case;
use super::expectation::level_in_stack;
use super::input::{Table, Text};
use super::level::kernel_parameter;
use super::problem::ScenarioProblem;
use super::step::script;

/// A `[[mutation]]` of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScenarioMutation {
    /// The name of the mutation. If it changes nothing, the name of a generic mutation, in which `*` matches any text.
    pub name: String,
    /// The change. Without it, a generic mutation is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<MutationChange>,
    /// The architectures of its cells; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<Architecture>,
    /// Why the mutation may survive, if it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<String>,
}

/// What a mutation of a scenario changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MutationChange {
    /// The step of this number, from 1, does nothing.
    Drop {
        /// The step.
        step: u8,
    },
    /// The step of this number runs another command. Its expected result stays.
    Run {
        /// The step.
        step: u8,
        /// The command.
        run: String,
    },
    /// A level's kernel gets more parameters.
    KernelParameters {
        /// The level.
        level: LevelNumber,
        /// The parameters, after all others.
        parameters: Vec<String>,
    },
}

impl ScenarioMutation {
    const KEYS: &'static [&'static str] =
        &["name", "step", "run", "drop", "level", "kernel-parameters", "architectures", "accept"];

    /// Reads every `[[mutation]]` of a scenario with this many steps, whose stacks go from L0 to `innermost`. If `may_stop`,
    /// the scenario may accept all generic mutations at once: a stack that may stop or not is only observed.
    pub(super) fn read_all(
        root: &Table<'_>,
        steps: usize,
        innermost: LevelNumber,
        may_stop: bool,
    ) -> Vec<Self> {
        let mut names = BTreeMap::new();
        let tables = root.tables("mutation", Self::KEYS);
        let read = |table: &Table<'_>| {
            let read = Self::read(table, steps, innermost, &mut names)?;
            if read.change.is_none() && !may_stop && read.name.chars().all(|c| c == '*') {
                table.report(ScenarioProblem::AcceptsAllMutants);
                return None;
            }
            Some(read)
        };
        tables.iter().filter_map(read).collect()
    }

    fn read(
        table: &Table<'_>,
        steps: usize,
        innermost: LevelNumber,
        names: &mut BTreeMap<String, String>,
    ) -> Option<Self> {
        let accept = table.optional_prose("accept");
        let architectures = table.optional_strings("architectures");
        let architectures = architectures.iter().flatten();
        let architectures: Option<Vec<Architecture>> =
            architectures.map(|text| text.parse(Architecture::parse)).collect();
        let changes = ["step", "level"].map(|key| table.has(key));
        let change = match changes {
            [true, true] => {
                table.report(ScenarioProblem::BothKeys { keys: ["step", "level"] });
                None
            }
            [true, false] => change_of_step(table, steps),
            [false, true] => change_of_level(table, innermost),
            [false, false] => None,
        };
        needless(table, &["run", "drop"], changes[0], "step = NUMBER");
        needless(table, &["kernel-parameters"], changes[1], "level = \"LEVEL\"");
        let is_change = changes != [false; 2];
        if !is_change && !table.has("accept") {
            table.report(ScenarioProblem::NeitherKey { keys: ["step", "level"] });
        }
        let text = table.string("name")?;
        let parse = if is_change { own_name } else { generic_name };
        let name = text.parse(parse)?;
        if let Some(first) = names.insert(name.clone(), text.location()) {
            text.report(ScenarioProblem::Duplicate { what: "mutation", name, first });
            return None;
        }
        // A wrong change has already been reported.
        let architectures = architectures?;
        (is_change == change.is_some()).then_some(Self { name, change, architectures, accept })
    }

    /// Whether it is for the cells of this architecture.
    pub fn is_for(&self, architecture: Architecture) -> bool {
        self.architectures.is_empty() || self.architectures.contains(&architecture)
    }

    /// Whether it accepts that the generic mutation of this name survives.
    pub fn accepts(&self, name: &str) -> bool {
        // The name has already been read as a glob.
        let glob = || Glob::new(&self.name).is_ok_and(|glob| glob.compile_matcher().is_match(name));
        self.accept.is_some() && self.change.is_none() && glob()
    }
}

fn own_name(text: &str) -> Result<String, ScenarioProblem> {
    kebab_case("a name of a mutation", text)
}

/// The name of a generic mutation. Which ones exist is unknown until the cell has been run.
fn generic_name(text: &str) -> Result<String, ScenarioProblem> {
    let letters: String = text.chars().filter(|c| *c != '*').collect();
    let stands = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.len() <= 64 && !text.is_empty() && letters.chars().all(stands) {
        Ok(text.to_owned())
    } else {
        Err(ScenarioProblem::BadName {
            what: "a name of generic mutations",
            given: text.to_owned(),
            rule: "at most 64 small letters, digits and `-`, and `*` for any text",
        })
    }
}

fn needless(table: &Table<'_>, keys: &[&'static str], wanted: bool, wants: &'static str) {
    for key in keys.iter().filter(|key| !wanted && table.has(key)) {
        table.report(ScenarioProblem::NeedlessKey { key, wants });
    }
}

fn change_of_step(table: &Table<'_>, steps: usize) -> Option<MutationChange> {
    let number = table.optional_integer("step", 1, u8::MAX.into());
    if let Some(step) = number.filter(|step| usize::try_from(*step).is_ok_and(|step| step > steps)) {
        table.report(ScenarioProblem::NoSuchStep { step, steps });
        return None;
    }
    let drop = table.optional_boolean("drop");
    let run = table.optional_string("run");
    let keys = ["run", "drop"];
    match keys.map(|key| table.has(key)) {
        [true, true] => table.report(ScenarioProblem::BothKeys { keys }),
        [false, false] => table.report(ScenarioProblem::NeitherKey { keys }),
        _ if drop == Some(false) => {
            table.report(ScenarioProblem::NeedlessKey { key: "drop", wants: "drop = true" });
        }
        _ => {}
    }
    let step = u8::try_from(number?).ok()?;
    match (run.and_then(|text| text.parse(script)), drop) {
        (Some(run), None) => Some(MutationChange::Run { step, run }),
        (None, Some(true)) => Some(MutationChange::Drop { step }),
        _ => None,
    }
}

fn change_of_level(table: &Table<'_>, innermost: LevelNumber) -> Option<MutationChange> {
    let level = table.string("level")?.parse(|text| level_in_stack(text, innermost));
    let parameters = table.strings("kernel-parameters")?;
    let read = |text: &Text<'_>| text.parse(kernel_parameter);
    let parameters: Option<Vec<String>> = parameters.iter().map(read).collect();
    Some(MutationChange::KernelParameters { level: level?, parameters: parameters? })
}
