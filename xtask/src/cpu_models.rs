//! `cpu-models`: boots a cell with each CPU model that its innermost level can have.

mod resume;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use nestmatrix::records::{
    CellRecord, CpuModels, CutOff, Outcome, Purpose, Resumed, VerdictWord, in_one_line, read_cpu_models,
};
use nestmatrix::report;
use nestmatrix::run::{PlanOptions, RunPlan, Setting, execute};
use nestmatrix::scenario::{Cell, Matrix, Problem as _};
use nestmatrix::trials::{ModelFilter, cpu_sweep, why_no_cpu_sweep};
use nestmatrix_images::{Catalog, Store};
use nestmatrix_stack::host::Emulator;
use serde_json::json;

use crate::cli::{Format, ImageSource, MetalArgument, Pace, Results, Selection};
use crate::exit::{ERROR, Failure};
use crate::native_metal::NativeTrial;
use crate::output::write_junit;
use crate::progress::{BuildProgress, CellProgress};
use crate::settings::metal;
use crate::signals::Signals;
use crate::terminal::{note, print, style_of};
use crate::{input, parent_death, runtime, settings, snapshots};

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(flatten)]
    pub selection: Selection,
    /// Boot only models that match GLOB, such as `EPYC*`; aliases count, case does not
    ///
    /// If QEMU does not report which models are usable, as on Arm and POWER, this also selects among those; otherwise only `host`
    /// and `max` of them are booted.
    #[arg(long, value_name = "GLOB")]
    pub models: Vec<String>,
    /// Boot the cell once, and list its models without booting them
    #[arg(long)]
    pub list: bool,
    /// Resume an interrupted sweep: its folder, or its name in the folder of runs
    ///
    /// Models keep their verdicts, and the sweep keeps its arguments. `--jobs` and `--timeout-scale` override the earlier values.
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "filter", "scenarios", "deny_rebuilds", "deny_stand_ins", "models", "list", "offline", "recipes", "metal", "cold",
    ])]
    pub resume: Option<PathBuf>,
    #[command(flatten)]
    pub source: ImageSource,
    /// Choose what L0 runs on
    #[arg(long, value_enum, default_value = "auto")]
    pub metal: MetalArgument,
    #[command(flatten)]
    pub pace: Pace,
    /// Ignore snapshots, boot every level for each model, and save no snapshots
    #[arg(long)]
    pub cold: bool,
    #[command(flatten)]
    pub results: Results,
    /// Print verdicts and models in this format
    ///
    /// The last line of `json` is an object with all models.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    the innermost level works with every model that was booted; with --list, there is a list
  1    it does not work with a model that QEMU calls usable
  2    bad usage or bad input
  3    the harness or its machine failed; or the stack stops before QEMU can list its models
  4    no cell matched or it was skipped; or no model was booted
  130  interrupted (Ctrl-C); 129 and 143 for SIGHUP and SIGTERM";

/// The end of a sweep that booted no model.
const NOTHING_BOOTED: u8 = 4;

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.resume {
        Some(run) => resume::run(arguments, run),
        None => start(arguments, None),
    }
}

/// Sweeps the models of the cell that `arguments` select; of an `interrupted` sweep, those without a verdict.
fn start(arguments: &Arguments, interrupted: Option<CutOff>) -> Result<ExitCode, Failure> {
    let bad_models = |e| Failure::bad_input(miette::miette!("--models: {e}"));
    let models = ModelFilter::parse(&arguments.models).map_err(bad_models)?;
    let (matrix, filter) = input::scenarios(&arguments.selection)?;
    let Some(cell) = input::one_cell(&matrix, &filter, "a sweep of CPU models needs")?.cloned() else {
        return Ok(input::no_cell());
    };
    if let Some(why) = why_no_cpu_sweep(&cell) {
        return Err(Failure::bad_input(miette::miette!("{}: {why}", cell.name)));
    }
    let catalog = input::recipes(&arguments.source.folder)?;
    let store = Arc::new(input::store(&arguments.source)?);
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let builds = Arc::new(BuildProgress::new());
        let sweep = Sweep { arguments, matrix: &matrix, cell, models, catalog, store, builds, signals };
        sweep.run(interrupted).await
    })
}

/// Everything that a sweep needs.
struct Sweep<'a> {
    arguments: &'a Arguments,
    matrix: &'a Matrix,
    cell: Cell,
    models: ModelFilter,
    catalog: Catalog,
    store: Arc<Store>,
    builds: Arc<BuildProgress>,
    signals: Signals,
}

/// A plan of any of the sweep's cells, and the QEMU that is installed on this machine.
struct Planner<'a> {
    plan: Box<dyn Fn(Vec<Cell>) -> RunPlan + 'a>,
    native_qemu: Option<Emulator>,
}

impl Sweep<'_> {
    async fn run(&self, interrupted: Option<CutOff>) -> Result<ExitCode, Failure> {
        let planner = self.planner().await?;
        if let Some(code) = self.signals.exit_code() {
            note!("interrupted before a cell was planned; nothing is recorded");
            return Ok(ExitCode::from(code));
        }
        let plan = (planner.plan)(vec![self.cell.clone()]);
        if let Some((cell, reasons)) = plan.skipped().next() {
            note!("skipped: {}: {}", cell.name, in_one_line(reasons));
            return Ok(ExitCode::from(NOTHING_BOOTED));
        }
        let folder = match interrupted {
            // The cell has been booted, and its QEMU has listed its models.
            Some(interrupted) if self.is_asked(&interrupted)? => {
                return self.sweep(interrupted, &planner, CutOff::go_on).await;
            }
            Some(interrupted) => {
                let (resumed, left) = interrupted.go_on(vec![self.cell.clone()]);
                crate::resume::print_resumed(&resumed);
                self.boot(&planner, left, Some(resumed)).await?.folder
            }
            None => {
                note!(
                    "booting {} to ask the QEMU of {} for its models",
                    self.cell.name,
                    self.cell.innermost()
                );
                self.boot(&planner, vec![self.cell.clone()], None).await?.folder
            }
        };
        if let Some(code) = self.signals.exit_code() {
            note!(
                "interrupted before a model was booted; resume the sweep with --resume {}",
                folder.display()
            );
            return Ok(ExitCode::from(code));
        }
        self.sweep(crate::resume::open(&folder)?, &planner, CutOff::extend).await
    }

    /// Plans cells on the metal that the user chose.
    async fn planner(&self) -> Result<Planner<'_>, Failure> {
        let choice = metal(self.arguments.metal);
        let trial = NativeTrial {
            choice,
            disposable_host: false,
            resumed: None,
            catalog: &self.catalog,
            store: &self.store,
            builds: &self.builds,
            timeout_scale: self.arguments.pace.timeouts.scale(),
            signals: &self.signals,
        };
        let (natives, native_qemu) = trial.run([self.cell.architecture].into()).await?;
        let options = PlanOptions {
            metal: choice,
            denied: self.arguments.selection.denied(),
            ..PlanOptions::default()
        };
        let plan = move |cells| RunPlan::new(cells, self.matrix, &self.catalog, &natives, &options);
        Ok(Planner { plan: Box::new(plan), native_qemu })
    }

    /// Whether the cell itself has a verdict and the models are known.
    fn is_asked(&self, interrupted: &CutOff) -> Result<bool, Failure> {
        let booted = interrupted.past().cells.iter().any(|record| record.cell == self.cell.name);
        Ok(booted && models_of(&interrupted.past().folder)?.is_some())
    }

    /// Boots the models that have no verdict in this run, and prints the result. `resume` adds their cells to the run.
    async fn sweep(
        &self,
        run: CutOff,
        planner: &Planner<'_>,
        resume: impl FnOnce(CutOff, Vec<Cell>) -> (Resumed, Vec<Cell>),
    ) -> Result<ExitCode, Failure> {
        let folder = &run.past().folder.clone();
        let Some(models) = models_of(folder)? else {
            let level = self.cell.innermost();
            note!(
                "no models: the stack stopped before the QEMU of {level} could list them, or that QEMU has no such command"
            );
            note!("records: {}", folder.display());
            return Ok(ExitCode::from(ERROR));
        };
        if let Some(glob) = self.models.unmatched(&models.models) {
            return Err(Failure::bad_input(miette::miette!(
                "--models: no CPU model matches {glob}; `--list` lists all models"
            )));
        }
        let swept = cpu_sweep(&self.cell, &models.models, &self.models);
        let swept = swept.map_err(|problem| {
            Failure::bad_input(miette::miette!("{}: {problem}: {}", self.cell.name, problem.help()))
        })?;
        if self.arguments.list {
            self.show(&models, &[], folder);
            return Ok(ExitCode::SUCCESS);
        }
        if swept.is_empty() {
            self.show(&models, &[], folder);
            note!("no model was booted: none that --models selects is usable");
            return Ok(ExitCode::from(NOTHING_BOOTED));
        }
        let number = swept.len();
        let (past, is_through) = (run.past().clone(), run.is_through());
        let (resumed, left) = resume(run, std::iter::once(self.cell.clone()).chain(swept).collect());
        let outcome = if left.is_empty() && is_through {
            Outcome { folder: past.folder, run: past.record, records: past.cells, took: Duration::ZERO }
        } else {
            note!("booting {} of {number} models", left.len());
            self.boot(planner, left, Some(resumed)).await?
        };
        self.show(&models, &outcome.records, &outcome.folder);
        let tried: Vec<&CellRecord> =
            outcome.records.iter().filter(|record| record.cpu_model.is_some()).collect();
        if let Some(code) = self.signals.exit_code() {
            let name = outcome.folder.display();
            note!(
                "interrupted: {} of {number} models have a verdict; resume the sweep with --resume {name}",
                tried.len()
            );
            return Ok(ExitCode::from(code));
        }
        Ok(ExitCode::from(exit_code(&tried, outcome.run.interrupted)))
    }

    /// Boots cells, in a new run or in one that is resumed.
    async fn boot(
        &self,
        planner: &Planner<'_>,
        cells: Vec<Cell>,
        resumed: Option<Resumed>,
    ) -> Result<Outcome, Failure> {
        let plan = (planner.plan)(cells);
        let snapshots = match self.arguments.cold {
            true => None,
            false => Some(Arc::new(snapshots::open(&self.store, settings::SNAPSHOT_LIMIT_GIB)?)),
        };
        let json = self.arguments.format == Format::Json;
        for (reason, _) in plan.always_cold().into_iter().filter(|_| snapshots.is_some()) {
            note!("every level is booted for each model: {reason}");
        }
        let bars = self.builds.bars().clone();
        let listener = Rc::new(CellProgress::new(bars.clone(), style_of(&std::io::stderr()), json));
        let setting = Setting {
            catalog: self.catalog.clone(),
            store: Arc::clone(&self.store),
            progress: Arc::clone(&self.builds) as _,
            native_qemu: planner.native_qemu.clone(),
            wrapper: parent_death::wrapper().map_err(Failure::error)?,
            results: self.arguments.results.folder(),
            jobs: self.arguments.pace.jobs(),
            snapshots,
            timeout_scale: self.arguments.pace.timeouts.scale(),
            repeat: 1,
            arguments: std::env::args().skip(1).collect(),
            part: None,
            resumed,
            purpose: Purpose::CpuModels,
            inspector: None,
        };
        let outcome = execute(&plan, setting, listener, self.signals.cancellation.clone()).await;
        let outcome = outcome.map_err(Failure::error)?;
        write_junit(&outcome.folder, &outcome.run, &outcome.records)?;
        // Fails only if the terminal is gone.
        let _ = bars.clear();
        Ok(outcome)
    }

    fn show(&self, models: &CpuModels, records: &[CellRecord], folder: &Path) {
        match self.arguments.format {
            Format::Text => {
                print(&format!("\n{}", report::cpu_models(models, records, &style_of(&std::io::stdout()))));
            }
            Format::Json => print(&format!("{}\n", json!({ "cpu_models": models }))),
        }
        note!("records: {}", folder.display());
    }
}

/// The models that the QEMU of a run's cell listed, if it did.
fn models_of(folder: &Path) -> Result<Option<CpuModels>, Failure> {
    let models = read_cpu_models(folder).map_err(|e| Failure::bad_input(miette::miette!("{e}")))?;
    Ok(models.filter(|models| !models.models.is_empty()))
}

/// The exit code for these verdicts. The cell as its scenario has it does not count: it may be about a limitation.
fn exit_code(tried: &[&CellRecord], is_incomplete: bool) -> u8 {
    let any = |words: &[VerdictWord]| tried.iter().any(|record| words.contains(&record.verdict));
    if is_incomplete || any(&[VerdictWord::Error]) {
        ERROR
    } else if any(&[VerdictWord::Fail, VerdictWord::Flaky]) {
        1
    } else if tried.iter().all(|record| record.verdict == VerdictWord::Skip) {
        NOTHING_BOOTED
    } else {
        0
    }
}
