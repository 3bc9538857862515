//! Runs a benchmark in several levels of a stack, in rounds, and judges the ratio between the levels.

mod figures;
mod judgement;
mod script;

use std::collections::BTreeMap;
use std::time::Instant;

use nestmatrix_model::{
    Benchmark, BenchmarkTool, FigurePlace, LevelNumber, Measure, Step, StepAction, Suite,
};
use nestmatrix_vmm::guest::ExecOutput;

pub use figures::{BenchmarkRecord, LevelFigures, Ratio};
pub use judgement::{Judged, Judgement};

use super::measure::hundredths;
use super::stack::Stack;
use super::steps::{StepRecord, text_of};
use super::{Stop, Symptom};

/// What a round says of a level.
struct Round {
    figure: f64,
    /// Seconds that passed by this machine's clock, and by the level's.
    passed: Option<(f64, f64)>,
}

impl Stack<'_> {
    /// Measures the levels of a step, and judges them.
    pub(super) async fn run_benchmark(
        &mut self,
        record: &mut StepRecord,
        step: &Step,
        measure: &Measure,
    ) -> Result<(), Stop> {
        let metal = self.request.plan.metal;
        let of_step = record.benchmark.insert(BenchmarkRecord::new(measure.benchmark));
        let measured = self.measure_levels(of_step, step, measure).await;
        of_step.compare(step.on, &measure.against);
        if measured.is_ok() {
            of_step.judgement = judgement::judge(of_step, step.on, measure.expect.as_ref(), metal);
        }
        record.output = of_step.summary(step.on);
        measured?;
        let Judgement { result, why, .. } = &of_step.judgement;
        let why = why.clone().unwrap_or_default();
        match result {
            Judged::NotJudged | Judged::RecordedOnly | Judged::Met => Ok(()),
            Judged::NotMet => {
                let seen = format!("{}: {why}", step.name);
                let symptom = Symptom::WrongRatio { level: step.on, seen };
                Err(Stop::stack(self.stage, symptom))
            }
            Judged::Undecided => {
                let symptom = Symptom::MissingEvidence { what: format!("{}: {why}", step.name) };
                Err(Stop::stack(self.stage, symptom).not_its_fault())
            }
        }
    }

    /// Takes all rounds. Every other round goes through the levels in the other direction, so that a drift of the machine favours none.
    async fn measure_levels(
        &mut self,
        record: &mut BenchmarkRecord,
        step: &Step,
        measure: &Measure,
    ) -> Result<(), Stop> {
        let mut levels: Vec<LevelNumber> = step.measured_levels().collect();
        for level in &levels {
            let tool = self.tool_of(step, *level, measure.benchmark).await?;
            let of_level = record.levels.entry(*level).or_default();
            match tool {
                Ok(tool) => of_level.tool = tool,
                Err(why) => of_level.missing = Some(why),
            }
        }
        levels.retain(|level| record.levels.get(level).is_some_and(|figures| figures.missing.is_none()));
        let mut passed = BTreeMap::<LevelNumber, (f64, f64)>::new();
        for _ in 0..measure.times {
            for level in &levels {
                let round = self.measure_once(step, *level, measure.benchmark).await?;
                let of_level = record.levels.entry(*level).or_default();
                of_level.add(round.figure);
                if let Some((here, there)) = round.passed {
                    let (all_here, all_there) = passed.entry(*level).or_default();
                    (*all_here, *all_there) = (*all_here + here, *all_there + there);
                    of_level.clock_slowdown = Some(hundredths(*all_here / *all_there));
                }
            }
            levels.reverse();
        }
        Ok(())
    }

    /// The tool that measures `level`, with its version if it reports one. On native metal, L0 is this machine, which has the tool or
    /// has not: the inner reason says what is missing.
    async fn tool_of(
        &mut self,
        step: &Step,
        level: LevelNumber,
        benchmark: Benchmark,
    ) -> Result<Result<Option<String>, String>, Stop> {
        let is_this_machine = self.is_this_machine(level);
        match benchmark.info().tool {
            BenchmarkTool::Program { name, version, prepare, prepare_around, .. } => {
                if let (Some(prepare), Some(around)) = (prepare_around, level.below())
                    && !self.is_this_machine(around)
                {
                    self.run(around, prepare).await?;
                }
                let prepare = prepare.map_or(String::new(), |prepare| format!("{prepare}; "));
                let asked = self.run(level, &format!("{prepare}{version} 2>&1")).await?;
                let said = text_of(&asked);
                if asked.status != Some(0) {
                    let why = format!("{name} does not run in {level}; it printed {said:?}");
                    let hint = format!("this machine is {level}, and its programs are used");
                    return match is_this_machine {
                        true => Ok(Err(format!("{why} ({hint})"))),
                        false => Err(self.not_measured(step, level, why)),
                    };
                }
                Ok(Ok(Some(script::version_in(name, &said))))
            }
            BenchmarkTool::ExitLoop if self.request.plan.profile.exit_loop.is_none() => {
                let why = format!("no instruction is known that exits on {}", self.request.plan.profile.name);
                Err(self.not_measured(step, level, why))
            }
            BenchmarkTool::ExitLoop if is_this_machine => Ok(Err(match level.below() {
                None => format!("this machine is {level}, which has no hypervisor to exit to"),
                Some(_) => format!("this machine is {level}, and nothing provokes exits on it"),
            })),
            BenchmarkTool::Test { .. } if is_this_machine => {
                Ok(Err(format!("this machine is {level}, and no test runs in it")))
            }
            BenchmarkTool::ExitLoop | BenchmarkTool::Test { .. } => Ok(Ok(None)),
        }
    }

    /// Whether `level` is this machine.
    pub(crate) fn is_this_machine(&self, level: LevelNumber) -> bool {
        self.request.plan.is_this_machine(level)
    }

    /// Measures a level once.
    async fn measure_once(
        &mut self,
        step: &Step,
        level: LevelNumber,
        benchmark: Benchmark,
    ) -> Result<Round, Stop> {
        let began = Instant::now();
        let (ended, figure) = match benchmark.info().tool {
            BenchmarkTool::Program { command, figure, .. } => {
                let ended = self.run(level, &script::of_program(command, figure)).await?;
                let read = figure.figure_in(&String::from_utf8_lossy(&ended.stdout));
                (ended, read)
            }
            BenchmarkTool::ExitLoop => {
                let exit_loop = self.request.plan.profile.exit_loop.unwrap_or("false");
                let ended = self.run(level, &script::of_loop(exit_loop)).await?;
                let read = FigurePlace::Rate.figure_in(&String::from_utf8_lossy(&ended.stdout));
                (ended, read)
            }
            BenchmarkTool::Test { suite, test, figure } => {
                let of_test = Suite {
                    kind: suite,
                    tests: vec![test.to_owned()],
                    append: None,
                    memory_mib: None,
                    known_failures: Vec::new(),
                };
                let of_level = Step { on: level, action: StepAction::Suite(of_test.clone()), ..step.clone() };
                let ended = self.run_single_test(&of_level, &of_test).await?;
                let read = script::after_word(figure, &String::from_utf8_lossy(&ended.stdout));
                (ended, read)
            }
        };
        let here = began.elapsed().as_secs_f64();
        let is_test = benchmark.suite().is_some();
        // A test has a status of its own, and its figure is its success.
        match figure.filter(|_| is_test || ended.status == Some(0)) {
            Some(figure) => {
                let there = script::passed_in(&String::from_utf8_lossy(&ended.stdout));
                Ok(Round { figure, passed: there.map(|there| (here, there)) })
            }
            None => Err(self.no_figure(step, level, &ended)),
        }
    }

    fn no_figure(&self, step: &Step, level: LevelNumber, ended: &ExecOutput) -> Stop {
        let status = ended.status.map_or("a signal".to_owned(), |status| format!("status {status}"));
        self.not_measured(step, level, format!("no figure, {status}; it printed {:?}", text_of(ended)))
    }

    fn not_measured(&self, step: &Step, level: LevelNumber, why: String) -> Stop {
        let symptom = Symptom::NotStarted { level, why: format!("{}: {why}", step.name) };
        Stop::stack(self.stage, symptom).not_its_fault()
    }
}
