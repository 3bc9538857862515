//! The axes of a scenario: the values of the architecture and of each level, and the claims that a cell tests because of its
//! values.

use nestmatrix_model::{Architecture, Launch, LevelNumber, Step, Word};

use super::input::{Table, Text, TextOrTable};
use super::level::LevelSettings;
use super::problem::ScenarioProblem;
use super::system::{SystemRequirement, Systems};

/// The axes of a scenario. A missing or wrong axis has already been reported, and has no values here.
pub(super) struct Axes {
    pub(super) architectures: Vec<AxisValue<Architecture>>,
    /// One axis for each level, outermost first.
    pub(super) levels: Vec<LevelAxis>,
}

impl Axes {
    /// What a scenario with these steps asks of libvirt that it can't do: an emulator has no libvirt, a second machine of a level is
    /// launched by QEMU's command line, and only the harness itself starts swtpm.
    pub(super) fn against_libvirt(&self, steps: &[Step]) -> Vec<ScenarioProblem> {
        let second = steps.iter().filter(|step| step.second_machine().is_some() || step.is_lifecycle());
        let second = second.map(|step| step.on).min();
        let by_libvirt = self.levels.iter().filter(|axis| axis.settings.launch() == Launch::Libvirt);
        let mut problems = Vec::new();
        for LevelAxis { level, settings, .. } in by_libvirt {
            if settings.has_tpm() {
                problems.push(ScenarioProblem::TpmByLibvirt { level: *level });
            }
            if second.is_some_and(|second| *level >= second) {
                problems.push(ScenarioProblem::SecondMachineByLibvirt { level: *level });
            }
            if let (Some(emulator), true) = (self.emulator(), *level == LevelNumber::ALL[1]) {
                problems.push(ScenarioProblem::LibvirtInEmulator { system: emulator.system.clone() });
            }
        }
        problems
    }

    /// What these steps and the keys `other-qemu` don't have of each other.
    pub(super) fn against_other_qemu(&self, steps: &[Step]) -> Vec<ScenarioProblem> {
        let uses = |level: LevelNumber| {
            let mut of_level = steps.iter().filter(|step| step.on == level);
            of_level.any(|step| step.action.actions().iter().any(|action| action.needs_other_qemu()))
        };
        let problem = |axis: &LevelAxis| match (uses(axis.level), axis.settings.has_other_qemu()) {
            (true, false) => Some(ScenarioProblem::NoOtherQemu { level: axis.level }),
            (false, true) => Some(ScenarioProblem::NeedlessOtherQemu { level: axis.level }),
            (true, true) | (false, false) => None,
        };
        self.levels.iter().filter_map(problem).collect()
    }

    /// A crash kernel of the innermost level, if it has one. Its image is a minimal one.
    pub(super) fn against_kdump(&self) -> Option<ScenarioProblem> {
        let innermost = self.levels.last().filter(|axis| axis.level.below().is_some())?;
        innermost.settings.has_kdump().then_some(ScenarioProblem::InnermostKdump { level: innermost.level })
    }

    /// An L0 that is an emulator, if there is one: nothing can be run in it.
    pub(super) fn emulator(&self) -> Option<&SystemRequirement> {
        let systems = self.levels.iter().flat_map(|axis| &axis.systems).map(|value| &value.value);
        systems.into_iter().find(|system| system.is_emulator())
    }
}

/// The systems of a level, one per cell, and the settings of the level for all of them.
pub(super) struct LevelAxis {
    pub(super) level: LevelNumber,
    pub(super) settings: LevelSettings,
    pub(super) systems: Vec<AxisValue<SystemRequirement>>,
}

/// One value of an axis.
pub(super) struct AxisValue<T> {
    pub(super) value: T,
    /// The claims that only the cells with this value test.
    pub(super) claims: Vec<String>,
    /// Why no machine can run the cells with this value, if so.
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
                    Err(ScenarioProblem::EmulatorInside { system: emulator.system, level })
                }
                around if around.around && level.below().is_some() => {
                    Err(ScenarioProblem::SurroundingsInside { system: around.system, level })
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
            axes.report(ScenarioProblem::TooManyCells { count, limit: CELL_LIMIT });
            return None;
        }
        Some(Self { architectures, levels })
    }
}

/// How an axis is written: the key of its values, and the key of a value that is a table.
struct Axis {
    name: &'static str,
    key: &'static str,
    keys: &'static [&'static str],
}

impl Axis {
    /// The values of the axis. A duplicate value would make two cells of one name. `points` returns the single versions that a
    /// table names, if it does.
    fn read<'t, T: PartialEq>(
        &self,
        axes: &Table<'t>,
        parse: impl Fn(&str) -> Result<T, ScenarioProblem>,
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
                    text.report(ScenarioProblem::DuplicateCell { axis: self.name, value });
                } else {
                    let (claims, no_machine) = (claims.clone(), no_machine.clone());
                    values.push(AxisValue { value, claims, no_machine });
                }
            }
        }
        values
    }
}

/// The single versions at which a value with "and later" is tested, if it names any.
fn points<'t>(table: &Table<'t>, later: &SystemRequirement) -> Option<Vec<(Text<'t>, SystemRequirement)>> {
    let versions = table.optional_strings("try")?;
    let point = |text: Text<'t>| text.parse(|version| later.at(version)).map(|point| (text, point));
    Some(versions.into_iter().filter_map(point).collect())
}
