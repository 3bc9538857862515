//! A cell, the unit that runs and gets a verdict, and its name. The name is also a relative path: a run keeps each cell's
//! evidence in the folder of that name, so a name must never lead out of the run's folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use nestmatrix_model::{Architecture, Clock, Fault, Guest, Launch, LevelNumber, Stage, StageKind, Step};
use serde::{Deserialize, Serialize};

use super::document::Tier;
use super::expectation::Expectation;
use super::known_flaky::KnownFlaky;
use super::level::LevelSpec;
use super::mutation::ScenarioMutation;
use super::problem::ScenarioProblem;

/// The name of a cell: `SCENARIO/ARCHITECTURE/L0`, followed by L1, L2 and L3 if the stack has them. It is safe as a relative
/// path: each part matches `[a-z0-9][a-z0-9._+-]*` without `..` and is short enough for a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CellName(String);

impl CellName {
    /// The name of the cell at this point of a scenario's axes. The scenario's name and the systems' ids are checked
    /// where they are read.
    pub(super) fn new(scenario: &str, architecture: Architecture, levels: &[LevelSpec]) -> Self {
        let mut name = format!("{scenario}/{architecture}");
        for level in levels {
            name.push('/');
            name.push_str(&level.system.slug());
        }
        Self(name)
    }

    /// The name of a variant of the cell, next to it in the tree.
    ///
    /// # Errors
    /// The name would be too long, or `variant` can't be part of a name.
    pub fn variant(&self, variant: &str) -> Result<Self, ScenarioProblem> {
        format!("{}_{variant}", self.0).parse()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CellName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for CellName {
    type Err = ScenarioProblem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        if matches!(parts.len(), 3..=6) && parts.iter().all(|part| path_part("a cell name", part).is_ok()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ScenarioProblem::BadName {
                what: "a cell name",
                given: text.to_owned(),
                rule: "SCENARIO/ARCHITECTURE/L0, perhaps with /L1, /L2 and /L3, in small letters, digits, `.`, `_`, `+` and `-`",
            })
        }
    }
}

impl From<CellName> for String {
    fn from(name: CellName) -> Self {
        name.0
    }
}

impl TryFrom<String> for CellName {
    type Error = ScenarioProblem;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// That the authors of nestmatrix have not yet run these systems, if there are any: `not yet run by its authors: Windows`.
pub(crate) fn not_yet_run<'s>(untried: impl IntoIterator<Item = &'s str>) -> Option<String> {
    let names: BTreeSet<&str> = untried.into_iter().collect();
    let names: Vec<&str> = names.into_iter().collect();
    (!names.is_empty()).then(|| format!("{NOT_YET_RUN}: {}", names.join(", ")))
}

/// What is said of a system, and of a cell with such a system, until a record proves otherwise.
pub(crate) const NOT_YET_RUN: &str = "not yet run by its authors";

/// `text` as one part of a path. The limit leaves room for a system's id with the longest possible version, and is well below
/// the limit of file systems.
pub(super) fn path_part(what: &'static str, text: &str) -> Result<String, ScenarioProblem> {
    let rule = "at most 100 small letters, digits, `.`, `_`, `+` and `-`, with a letter or digit first and without `..`";
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = text.len() <= 100
        && text.starts_with(alphanumeric)
        && text.chars().all(|c| alphanumeric(c) || matches!(c, '.' | '_' | '+' | '-'))
        && !text.contains("..");
    if fits {
        Ok(text.to_owned())
    } else {
        Err(ScenarioProblem::BadName { what, given: text.to_owned(), rule })
    }
}

/// `text` as the name of an image: a system's id and a version, such as `centos-stream-9` or `almalinux-9.4`.
pub(super) fn image_name(text: &str) -> Result<String, ScenarioProblem> {
    let rule = "at most 64 small letters and digits, in words joined by single `-` or `.`";
    let word = |word: &str| !word.is_empty() && word.bytes().all(is_small_or_digit);
    let fits = text.len() <= 64 && text.split(['-', '.']).all(word);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(ScenarioProblem::BadName { what: "an image name", given: text.to_owned(), rule })
    }
}

fn is_small_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// `text` as an id in kebab-case.
pub(crate) fn kebab_case(what: &'static str, text: &str) -> Result<String, ScenarioProblem> {
    let rule = "at most 64 small letters and digits, in words joined by single `-`";
    let word = |word: &str| !word.is_empty() && word.bytes().all(is_small_or_digit);
    let fits = text.len() <= 64 && text.split('-').all(word);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(ScenarioProblem::BadName { what, given: text.to_owned(), rule })
    }
}

/// One point of a scenario's axes: a stack, and its expected result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cell {
    /// Its name, unique in the matrix.
    pub name: CellName,
    /// The name of its scenario.
    pub scenario: String,
    /// The title of its scenario.
    pub title: String,
    /// The id of its scenario's document.
    pub document: String,
    /// The claims that it tests: those of that document by their ids, others as `DOCUMENT/CLAIM`.
    pub claims: Vec<String>,
    /// The tier of its scenario's main claims.
    pub tier: Tier,
    /// The tier of each of its claims. Absent in the records of earlier versions.
    #[serde(default)]
    pub tiers: BTreeMap<String, Tier>,
    /// What other systems call its scenario, by the names of the properties that they read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ids: BTreeMap<String, String>,
    /// The architecture of all its levels.
    pub architecture: Architecture,
    /// Its levels, outermost first: L0, L1 and perhaps L2 and L3.
    pub levels: Vec<LevelSpec>,
    /// Why it uses no stand-ins, if so.
    pub deny_stand_ins: Option<String>,
    /// Why no machine can run it, whatever images there are, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_machine: Option<String>,
    /// How the clocks of its levels must run.
    #[serde(default)]
    pub clock: Clock,
    /// The ids of the emulators' errata that its stack depends on, as its scenario says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emulator_errata: Vec<String>,
    /// The expected result.
    pub expectation: Expectation,
    /// What is known about its flakiness, for each metal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_flaky: Vec<KnownFlaky>,
    /// The steps in its levels between stages.
    pub steps: Vec<Step>,
    /// The faults that the harness injects.
    pub faults: Vec<Fault>,
    /// The CPU model that its innermost level has instead of the scenario's, if it is of a sweep of CPU models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// What its scenario says about mutations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mutations: Vec<ScenarioMutation>,
}

impl Cell {
    /// The stages that its stack goes through, in order.
    pub fn stages(&self) -> Vec<Stage> {
        let waits = self.levels.last().filter(|spec| spec.settings.ready().is_some());
        let ready = waits.map(|spec| Stage::Level(spec.level, StageKind::Ready));
        Stage::of_stack(self.innermost()).into_iter().chain(ready).collect()
    }

    /// The guest of the user that its innermost level boots, if there is one.
    pub fn guest(&self) -> Option<&Guest> {
        self.levels.last()?.settings.guest.as_ref()
    }

    /// Where a stage or step comes in the order of its stack.
    pub fn place_of(&self, stage: Stage) -> (Stage, u8) {
        match stage {
            Stage::Step(number) => (self.step(number).map_or(stage, |step| step.after), number),
            other => (other, 0),
        }
    }

    /// Its step of this number, from 1.
    pub fn step(&self, number: u8) -> Option<&Step> {
        self.steps.get(usize::from(number).checked_sub(1)?)
    }

    /// Whether libvirt starts the machine of a level.
    pub fn is_launched_by_libvirt(&self, level: LevelNumber) -> bool {
        self.levels.iter().any(|spec| spec.level == level && spec.settings.launch() == Launch::Libvirt)
    }

    /// Whether libvirt has to be in a level, since it starts the next one.
    pub fn needs_libvirt(&self, level: LevelNumber) -> bool {
        level.next().is_some_and(|next| self.is_launched_by_libvirt(next))
    }

    /// Whether a level needs the programs of benchmarks, since a step measures it with them.
    pub fn needs_benchmarks(&self, level: LevelNumber) -> bool {
        let measures = |step: &Step| {
            step.measure().is_some_and(|measure| measure.benchmark.needs_addition())
                && step.measured_levels().any(|measured| measured == level)
        };
        self.steps.iter().any(measures)
    }

    /// Whether it expects a ratio of performance, which only native metal can show.
    pub fn expects_performance(&self) -> bool {
        self.steps.iter().filter_map(Step::measure).any(|measure| measure.expect.is_some())
    }

    /// The outermost level with Windows, if there is one.
    pub fn windows(&self) -> Option<LevelNumber> {
        self.levels.iter().find(|spec| spec.system.is_windows()).map(|spec| spec.level)
    }

    /// The systems of its levels that the authors of nestmatrix have not yet run, by their names.
    pub fn untried(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter(|spec| spec.system.untried).map(|spec| spec.system.name.as_str())
    }

    /// Its innermost level.
    pub fn innermost(&self) -> LevelNumber {
        // A scenario without levels is an error when it is read.
        self.levels.last().map_or(LevelNumber::ALL[0], |spec| spec.level)
    }
}
