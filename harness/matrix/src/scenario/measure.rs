//! Reads the part of a `[[step]]` that measures levels.

use nestmatrix_model::{
    Benchmark, ExpectedRatio, LevelNumber, Measure, Stage, StageKind, Step, StepAction, UnknownWord, Word,
};

use super::axes::Axes;
use super::expectation::level_in_stack;
use super::input::{Table, Text};
use super::problem::ScenarioProblem;
use super::step::is_up;

/// The keys of a step that only a measurement has, besides `measure`.
pub(super) const KEYS: [&str; 3] = ["against", "times", "expect"];

/// More rounds are a mistake.
const MOST_ROUNDS: u32 = 100;

/// A larger ratio is a mistake, in percent.
const MOST_PERCENT: u32 = 100_000;

const BOUNDS: [&str; 2] = ["at-least-percent", "at-most-percent"];

/// Reads the measurement with the benchmark `word` of a step.
pub(super) fn read(table: &Table<'_>, word: &Text<'_>, innermost: LevelNumber) -> Option<StepAction> {
    let others = ["run", "do", "chain", "suite", "fails", "status", "output", "reads", "repeat"];
    for key in others.into_iter().filter(|key| table.has(key)) {
        word.report(ScenarioProblem::NeedlessKey { key, wants: "run = \"...\" instead of measure" });
    }
    let benchmark = word.parse(Benchmark::parse);
    let times = table.optional_integer("times", 1, MOST_ROUNDS).unwrap_or(Measure::FEWEST_JUDGED);
    let against = table.strings("against")?;
    let against: Option<Vec<LevelNumber>> =
        against.iter().map(|text| text.parse(|text| level_in_stack(text, innermost))).collect();
    let against = against?;
    let expect = match table.optional_table("expect", &["of", BOUNDS[0], BOUNDS[1], "reference"]) {
        Some(of_step) => {
            if times < Measure::FEWEST_JUDGED {
                let least = Measure::FEWEST_JUDGED;
                table.report(ScenarioProblem::TooFewRounds { times, least });
            }
            Some(read_expected(&of_step, &against)?)
        }
        // A wrong value has already been reported.
        None if table.has("expect") => return None,
        None => None,
    };
    Some(StepAction::Measure(Measure { benchmark: benchmark?, against, times, expect }))
}

fn read_expected(table: &Table<'_>, against: &[LevelNumber]) -> Option<ExpectedRatio> {
    let of = table.string("of");
    let of = of.and_then(|text| {
        text.parse(|word| {
            let known = || against.iter().map(|level| level.word().to_owned()).collect();
            against.iter().copied().find(|level| level.word() == word).ok_or_else(|| UnknownWord {
                what: "level of `against`",
                given: word.to_owned(),
                known: known(),
            })
        })
    });
    let [at_least_percent, at_most_percent] = BOUNDS.map(|key| table.optional_integer(key, 1, MOST_PERCENT));
    let reference = table.prose("reference");
    if !BOUNDS.iter().any(|key| table.has(key)) {
        table.report(ScenarioProblem::NeitherKey { keys: BOUNDS });
        return None;
    }
    if let (Some(least), Some(most)) = (at_least_percent, at_most_percent)
        && least > most
    {
        table.report(ScenarioProblem::EmptyRange { least, most });
    }
    Some(ExpectedRatio { of: of?, at_least_percent, at_most_percent, reference: reference? })
}

/// Whether all measured levels take commands after the stage `after`, and each is measured once.
pub(super) fn suits(
    table: &Table<'_>,
    on: &Text<'_>,
    level: LevelNumber,
    after: Stage,
    innermost: LevelNumber,
    measure: &Measure,
) -> Option<()> {
    let levels = || std::iter::once(level).chain(measure.against.iter().copied());
    for (place, of_list) in levels().enumerate() {
        if levels().take(place).any(|earlier| earlier == of_list) {
            let (what, name) = ("measured level", of_list.word().to_owned());
            table.report(ScenarioProblem::Duplicate { what, name, first: on.location() });
            return None;
        }
        is_up(on, of_list, after, innermost)?;
        if measure.benchmark.suite().is_some() {
            // The test is a guest of the level, and needs its agent, its QEMU and its KVM.
            if of_list == innermost && innermost.reports() {
                let action = measure.benchmark.word();
                on.report(ScenarioProblem::StepOnWrongLevel { level: of_list, action });
                return None;
            }
            let up = Stage::Level(of_list, StageKind::Kvm);
            if after < up {
                on.report(ScenarioProblem::StepTooEarly { level: of_list, after, up });
                return None;
            }
        }
    }
    Some(())
}

impl Axes {
    /// What a scenario with these steps measures and its levels don't have: a device, or a shell.
    pub(super) fn against_benchmarks(&self, steps: &[Step]) -> Vec<ScenarioProblem> {
        let measured = steps.iter().filter_map(|step| Some((step, step.measure()?.benchmark)));
        let mut problems = Vec::new();
        for (step, benchmark) in measured {
            let axes = self.levels.iter().filter(|axis| step.measured_levels().any(|one| one == axis.level));
            for axis in axes {
                let is_emulator = axis.systems.iter().any(|value| value.value.is_emulator());
                if let Some(emulator) = self.emulator().filter(|_| is_emulator && step.on != axis.level) {
                    let (step, system) = (step.name.clone(), emulator.system.clone());
                    problems.push(ScenarioProblem::StepInEmulator { step, system });
                }
                if let Some(device) =
                    benchmark.info().device.filter(|device| !axis.settings.has_device(*device))
                {
                    problems.push(ScenarioProblem::NoDevice { level: axis.level, benchmark, device });
                }
            }
        }
        problems
    }
}
