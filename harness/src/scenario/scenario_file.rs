//! A scenario's file: claims of one document turned into the axes of a stack. Reading it checks all that it says against
//! the systems and documents there are.

use std::collections::BTreeMap;

use super::architecture::Architecture;
use super::cell::{Cell, path_part};
use super::document::{Claim, Document, Tier};
use super::documents::Documents;
use super::expand;
use super::expectation::{Expectation, Fault};
use super::level::{LevelNumber, LevelSettings};
use super::problem::InputProblem;
use super::system::{SystemRequirement, Systems};
use super::table::{Table, Text};
use super::word::Word;

/// What a scenario says of all its cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Its name, unique in the matrix: the first part of its cells' names.
    pub name: String,
    /// Its title, for people.
    pub title: String,
    /// The id of the document whose claims it tries first of all.
    pub document: String,
    /// Those claims, by their ids, and claims of other documents, as `DOCUMENT/CLAIM`.
    pub claims: Vec<String>,
    /// How far the vendor stands behind what it tries.
    pub tier: Tier,
    /// What a reader of its results should know, such as where it departs from the document.
    pub note: Option<String>,
    /// What should come of its cells.
    pub expectation: Expectation,
}

/// What a scenario may refer to.
pub(super) struct Context {
    /// The systems, unless their own file is wrong.
    pub(super) systems: Option<Systems>,
    pub(super) documents: Documents,
    /// Where the names of the scenarios read so far stand.
    pub(super) names: BTreeMap<String, String>,
}

/// The axes of a scenario. An axis that is missing or wrong has been reported, and lacks values here.
pub(super) struct Axes {
    pub(super) architectures: Vec<Architecture>,
    /// One axis for each level, outermost first.
    pub(super) levels: Vec<LevelAxis>,
}

/// The systems that a level takes one after the other, and what holds for the level whichever it has.
pub(super) struct LevelAxis {
    pub(super) level: LevelNumber,
    pub(super) settings: LevelSettings,
    pub(super) systems: Vec<SystemRequirement>,
}

/// The most cells that a scenario may have. Documents' tables have a few dozen; more is a slip, and the product of a few
/// long axes would fill the memory.
const CELL_LIMIT: usize = 1024;

impl Scenario {
    pub(super) const KEYS: &'static [&'static str] =
        &["name", "title", "document", "claims", "tier", "note", "axes", "levels", "expect", "fault"];

    /// Reads a scenario and expands it into its cells.
    pub(super) fn read(root: &Table<'_>, context: &mut Context) -> Option<(Self, Vec<Cell>)> {
        let name = read_name(root, &mut context.names);
        let title = root.prose("title");
        let document = root.string("document");
        let claims = root.strings("claims");
        let own = document.as_ref().and_then(|text| context.documents.document(text));
        let claims = claims.map(|claims| read_claims(&claims, own, &context.documents));
        let tier = root.string("tier").and_then(|text| text.parse(Tier::parse));
        let note = root.optional_prose("note");
        let axes = root.table("axes", &["architecture", "l0", "l1", "l2", "l3"]);
        let innermost = LevelNumber::innermost(axes.as_ref().is_some_and(|axes| axes.has("l3")));
        let settings = read_settings(root, innermost);
        let expectation = match root.optional_table("expect", &["outcome", "stage", "symptom"]) {
            Some(table) => Expectation::read(&table, innermost),
            None => Some(Expectation::Works),
        };
        let faults = root.tables("fault", &["at", "do", "level"]);
        let faults: Vec<Fault> = faults.iter().filter_map(|table| Fault::read(table, innermost)).collect();
        let axes = read_axes(&axes?, settings, context.systems.as_ref())?;
        let scenario = Self {
            name: name?,
            title: title?,
            document: document?.as_str().to_owned(),
            claims: claims?,
            tier: tier?,
            note,
            expectation: expectation?,
        };
        let cells = expand::cells(&scenario, &axes, &faults);
        Some((scenario, cells))
    }
}

fn read_name(root: &Table<'_>, names: &mut BTreeMap<String, String>) -> Option<String> {
    let text = root.string("name")?;
    let name = text.parse(|name| path_part("a scenario name", name))?;
    if let Some(first) = names.get(&name) {
        text.report(InputProblem::Duplicate { what: "scenario", name, first: first.clone() });
        return None;
    }
    names.insert(name.clone(), text.location());
    Some(name)
}

/// The claims of a list, as the scenario's cells have them: those of its own document by their ids alone.
fn read_claims(claims: &[Text<'_>], own: Option<&Document>, documents: &Documents) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let mut read = Vec::new();
    for text in claims {
        let own_prefix = own.and_then(|own| text.as_str().strip_prefix(&own.id)?.strip_prefix('/'));
        let claim = own_prefix.unwrap_or(text.as_str()).to_owned();
        if let Some(first) = seen.insert(claim.clone(), text.location()) {
            text.report(InputProblem::Duplicate { what: "claim", name: claim, first });
            continue;
        }
        text.parse(|_| match documents.claim(&claim, own)? {
            Some(Claim { untestable: Some(_), .. }) => {
                Err(InputProblem::Untestable { claim: text.as_str().to_owned() })
            }
            _ => Ok(()),
        });
        read.push(claim);
    }
    read
}

/// What `[levels]` says of each level, outermost first.
fn read_settings(root: &Table<'_>, innermost: LevelNumber) -> Vec<(LevelNumber, LevelSettings)> {
    let levels = root.optional_table("levels", LevelNumber::keys(innermost));
    let settings = |level: LevelNumber| {
        let table = levels.as_ref()?.optional_table(level.word(), LevelSettings::KEYS)?;
        Some(LevelSettings::read(&table))
    };
    LevelNumber::up_to(innermost).map(|level| (level, settings(level).unwrap_or_default())).collect()
}

fn read_axes(
    axes: &Table<'_>,
    settings: Vec<(LevelNumber, LevelSettings)>,
    systems: Option<&Systems>,
) -> Option<Axes> {
    let architectures = read_axis(axes, "architecture", Architecture::parse);
    let systems = systems?;
    let level = |(level, settings): (LevelNumber, LevelSettings)| {
        let systems = read_axis(axes, level.word(), |text| systems.requirement(text));
        LevelAxis { level, settings, systems }
    };
    let levels: Vec<LevelAxis> = settings.into_iter().map(level).collect();
    let lengths = levels.iter().map(|axis| axis.systems.len());
    let count = lengths.fold(architectures.len(), usize::saturating_mul);
    if count > CELL_LIMIT {
        axes.report(InputProblem::TooManyCells { count, limit: CELL_LIMIT });
        return None;
    }
    Some(Axes { architectures, levels })
}

/// The values of one axis. A value that is there twice would make two cells of one name.
fn read_axis<T: PartialEq>(
    axes: &Table<'_>,
    axis: &'static str,
    parse: impl Fn(&str) -> Result<T, InputProblem>,
) -> Vec<T> {
    let mut values = Vec::new();
    for text in axes.strings(axis).unwrap_or_default() {
        let Some(value) = text.parse(&parse) else { continue };
        if values.contains(&value) {
            text.report(InputProblem::DuplicateCell { axis, value: text.as_str().to_owned() });
        } else {
            values.push(value);
        }
    }
    values
}
