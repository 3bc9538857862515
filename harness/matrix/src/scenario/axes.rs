//! The axes of a scenario: the values that the architecture and each level take one after the other, and the claims that
//! a cell tries because of the values that it has.

use nestmatrix_model::{Architecture, LevelNumber, Word};

use super::level::LevelSettings;
use super::problem::InputProblem;
use super::system::{SystemRequirement, Systems};
use super::table::{Table, Text, TextOrTable};

/// The axes of a scenario. An axis that is missing or wrong has been reported, and has no values here.
pub(super) struct Axes {
    pub(super) architectures: Vec<AxisValue<Architecture>>,
    /// One axis for each level, outermost first.
    pub(super) levels: Vec<LevelAxis>,
}

impl Axes {
    /// An L0 that is an emulator, if there is one: nothing can be run in it.
    pub(super) fn emulator(&self) -> Option<&SystemRequirement> {
        let systems = self.levels.iter().flat_map(|axis| &axis.systems).map(|value| &value.value);
        systems.into_iter().find(|system| system.is_emulator())
    }
}

/// The systems that a level takes one after the other, and what holds for the level whichever it has.
pub(super) struct LevelAxis {
    pub(super) level: LevelNumber,
    pub(super) settings: LevelSettings,
    pub(super) systems: Vec<AxisValue<SystemRequirement>>,
}

/// One value of an axis.
pub(super) struct AxisValue<T> {
    pub(super) value: T,
    /// The claims that are tried by the cells with this value and by no others.
    pub(super) claims: Vec<String>,
    /// Why no machine can run the cells with this value, if none can.
    pub(super) no_machine: Option<String>,
}

/// The most cells that a scenario may have. Documents' tables have a few dozen. More is a mistake, and the product of a few long axes
/// would fill the memory.
const CELL_LIMIT: usize = 1024;

impl Axes {
    pub(super) const KEYS: &'static [&'static str] = &["architecture", "l0", "l1", "l2", "l3"];

    /// Reads the axes; `read_claims` makes claims of the texts that name them.
    pub(super) fn read(
        axes: &Table<'_>,
        settings: Vec<(LevelNumber, LevelSettings)>,
        systems: Option<&Systems>,
        read_claims: &dyn Fn(&[Text<'_>]) -> Vec<String>,
    ) -> Option<Self> {
        let keys = &["architecture", "claims", "no-machine"];
        let architecture = Axis { name: "architecture", key: "architecture", keys };
        let architectures =
            architecture.read(axes, |text| Ok(Architecture::parse(text)?), |_, _| None, read_claims);
        let systems = systems?;
        let level = |(level, settings): (LevelNumber, LevelSettings)| {
            let axis =
                Axis { name: level.word(), key: "system", keys: &["system", "claims", "try", "no-machine"] };
            let requirement = |text: &str| match systems.requirement(text)? {
                emulator if emulator.is_emulator() && level.below().is_some() => {
                    Err(InputProblem::EmulatorInside { system: emulator.system, level })
                }
                requirement => Ok(requirement),
            };
            let mut values = axis.read(axes, requirement, points, read_claims);
            for value in &mut values {
                value.no_machine = value.no_machine.take().or_else(|| systems.no_machine(&value.value));
            }
            LevelAxis { level, settings, systems: values }
        };
        let levels: Vec<LevelAxis> = settings.into_iter().map(level).collect();
        let lengths = levels.iter().map(|axis| axis.systems.len());
        let count = lengths.fold(architectures.len(), usize::saturating_mul);
        if count > CELL_LIMIT {
            axes.report(InputProblem::TooManyCells { count, limit: CELL_LIMIT });
            return None;
        }
        Some(Self { architectures, levels })
    }
}

/// How an axis is written: under which key it stands, and under which its values do where they are tables.
struct Axis {
    name: &'static str,
    key: &'static str,
    keys: &'static [&'static str],
}

impl Axis {
    /// The values of the axis. A duplicate value would make two cells of one name. `points` gives the values that a table names instead
    /// of its own, if it does.
    fn read<'t, T: PartialEq>(
        &self,
        axes: &Table<'t>,
        parse: impl Fn(&str) -> Result<T, InputProblem>,
        points: impl Fn(&Table<'t>, &T) -> Option<Vec<(Text<'t>, T)>>,
        read_claims: &dyn Fn(&[Text<'_>]) -> Vec<String>,
    ) -> Vec<AxisValue<T>> {
        let mut values: Vec<AxisValue<T>> = Vec::new();
        for entry in axes.texts_or_tables(self.name, self.keys) {
            let (text, table) = match entry {
                TextOrTable::Text(text) => (Some(text), None),
                TextOrTable::Table(table) => (table.string(self.key), Some(table)),
            };
            let claims = table.as_ref().and_then(|table| table.optional_strings("claims"));
            let claims = claims.map(|claims| read_claims(&claims)).unwrap_or_default();
            let no_machine = table.as_ref().and_then(|table| table.optional_prose("no-machine"));
            let Some(text) = text else { continue };
            let Some(value) = text.parse(&parse) else { continue };
            let points = table.as_ref().and_then(|table| points(table, &value));
            for (text, value) in points.unwrap_or_else(|| vec![(text, value)]) {
                if values.iter().any(|known| known.value == value) {
                    let value = text.as_str().to_owned();
                    text.report(InputProblem::DuplicateCell { axis: self.name, value });
                } else {
                    let (claims, no_machine) = (claims.clone(), no_machine.clone());
                    values.push(AxisValue { value, claims, no_machine });
                }
            }
        }
        values
    }
}

/// The single versions that a value which says "and later" is to be tried at, if it names any.
fn points<'t>(table: &Table<'t>, later: &SystemRequirement) -> Option<Vec<(Text<'t>, SystemRequirement)>> {
    let versions = table.optional_strings("try")?;
    let point = |text: Text<'t>| text.parse(|version| later.at(version)).map(|point| (text, point));
    Some(versions.into_iter().filter_map(point).collect())
}
