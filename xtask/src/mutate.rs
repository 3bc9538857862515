//! `cargo xtask mutate`: boots cells with their scenario or stack damaged on purpose, and reports what went unnoticed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use clap::Args;
use nestmatrix::report;
use nestmatrix::run::{
    CellMutation, CellRecord, MetalChoice, Mutant, Mutants, MutationTally, NativeMetals, Original, Outcome,
    PlanOptions, Purpose, RunPlan, Setting, VerdictWord, execute, in_one_line, mutants_of, sample,
};
use nestmatrix::scenario::{Cell, CellName, Matrix};
use nestmatrix_images::{Catalog, Store};
use serde_json::json;

use crate::cli::{Format, ImageSource, Jobs, Selection};
use crate::exit::{ERROR, Failure};
use crate::live::{Builds, Cells};
use crate::run_matrix::{results, say, style_of};
use crate::signals::Signals;
use crate::{cli, input, runtime, states, tied};

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Mutate {
    #[command(flatten)]
    pub selection: Selection,
    /// Only cells of this profile, one of those in profiles.toml among the scenarios [default: the default profile, or with
    /// FILTER none]
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Boot only N of the mutants, chosen at random
    #[arg(long, value_name = "N")]
    pub sample: Option<usize>,
    /// Choose the sample by this number: the same number chooses the same mutants
    #[arg(long, value_name = "S", default_value = "0", requires = "sample")]
    pub seed: u64,
    /// Show the mutants that would be made if every cell came out as expected; nothing is booted
    #[arg(long, conflicts_with_all = ["sample", "jobs", "results", "timeout_scale"])]
    pub list: bool,
    #[command(flatten)]
    pub source: ImageSource,
    /// How many cells run side by side, or `auto`: as many as this machine has cores and memory for [default: auto]
    #[arg(long, value_name = "N", value_parser = cli::jobs)]
    pub jobs: Option<Jobs>,
    /// Folder that gets a folder for the records of the cells, and one for those of their mutants [default: results in the
    /// checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Multiply every time limit by this, for a slow machine
    #[arg(long, value_name = "F", default_value = "1", value_parser = cli::timeout_scale)]
    pub timeout_scale: f64,
    /// How mutants are printed
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    every mutant was killed, or its survival is accepted by its scenario
  1    a mutant survived
  2    bad usage or bad input
  3    a mutant is undecided, by an error of the harness or its machine; or a cell is not green
       without damage
  4    no mutant: no cell matched, or all were skipped
  130  interrupted (Ctrl-C); 129 and 143 for SIGHUP and SIGTERM";

pub fn run(arguments: &Mutate) -> Result<ExitCode, Failure> {
    let (matrix, filter) = input::scenarios(&arguments.selection)?;
    let filter = match &arguments.profile {
        Some(name) => filter.within(matrix.profile(name).map_err(Failure::bad_input)?),
        None if arguments.selection.filter.is_empty() => filter.within(matrix.default_profile()),
        None => filter,
    };
    let cells: Vec<Cell> = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).cloned().collect();
    if cells.is_empty() {
        return Ok(input::no_cell());
    }
    let catalog = input::recipes(&arguments.source.recipes)?;
    let mutation = MutationRun { arguments, matrix: &matrix, catalog };
    let plan = mutation.plan(cells);
    for (cell, reasons) in plan.skipped() {
        eprintln!("skipped: {}: {}", cell.name, in_one_line(reasons));
    }
    let cells: Vec<Cell> = plan.boots().map(|planned| planned.cell.clone()).collect();
    if cells.is_empty() {
        eprintln!("no cell boots here");
        return Ok(ExitCode::from(4));
    }
    if arguments.list {
        return mutation.list(&cells);
    }
    let store = Arc::new(input::store(&arguments.source)?);
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        mutation.run(&cells, &store, &signals).await
    })
}

/// Everything that a mutation run needs.
struct MutationRun<'a> {
    arguments: &'a Mutate,
    matrix: &'a Matrix,
    catalog: Catalog,
}

/// A cell, what came of it, and its mutants.
struct Subject {
    cell: CellName,
    original: Original,
    mutants: Mutants,
}

impl MutationRun<'_> {
    /// Emulated metal on every machine: what is found is about the scenario. This machine's own L0 would not be damaged.
    fn plan(&self, cells: Vec<Cell>) -> RunPlan {
        let options = PlanOptions {
            metal: MetalChoice::Emulated,
            deny_stand_ins: self.arguments.selection.deny_stand_ins,
            ..PlanOptions::default()
        };
        RunPlan::new(cells, self.matrix, &self.catalog, &NativeMetals::new(), &options)
    }

    fn list(&self, cells: &[Cell]) -> Result<ExitCode, Failure> {
        for cell in cells {
            let Mutants { mutants, checks, .. } = mutants(cell, &Original::as_expected(cell))?;
            match self.arguments.format {
                Format::Text => {
                    say(&format!("{}\n", cell.name));
                    for mutant in &mutants {
                        let (name, rule) = (mutant.mutation.name(), mutant.rule.text());
                        say(&format!("  {name:<32}  {}; must be {rule}\n", mutant.mutation));
                    }
                    for check in &checks {
                        let name = format!("drop-step-{}", check.step);
                        say(&format!("  {name:<32}  step {} only checks; must stop a mutant\n", check.step));
                    }
                }
                Format::Json => {
                    for mutant in &mutants {
                        let (name, damage) = (mutant.mutation.name(), mutant.mutation.to_string());
                        let line = json!({
                            "cell": cell.name, "mutation": name, "damage": damage, "rule": mutant.rule,
                            "accepted": mutant.accepted,
                        });
                        say(&format!("{line}\n"));
                    }
                    for check in &checks {
                        let name = format!("drop-step-{}", check.step);
                        let line = json!({
                            "cell": cell.name, "mutation": name, "damage": null, "rule": null,
                            "accepted": check.accepted,
                        });
                        say(&format!("{line}\n"));
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn run(&self, cells: &[Cell], store: &Arc<Store>, signals: &Signals) -> Result<ExitCode, Failure> {
        eprintln!("booting {} without damage", cells_of(cells.len()));
        let undamaged = self.execute(cells.to_vec(), store, signals).await?;
        if let Some(code) = signals.exit_code() {
            eprintln!("interrupted before a mutant was booted");
            return Ok(ExitCode::from(code));
        }
        let mut subjects = Vec::new();
        for cell in cells {
            let record = undamaged.records.iter().find(|record| record.cell == cell.name);
            let Some(record) = record else { continue };
            // An image may have turned out not to be available.
            if record.verdict == VerdictWord::Skip {
                eprintln!("skipped: {}: {}", cell.name, record.symptom.as_deref().unwrap_or_default());
                continue;
            }
            let original = Original::from(record);
            let mutants = if original.green { mutants(cell, &original)? } else { Mutants::default() };
            subjects.push(Subject { cell: cell.name.clone(), original, mutants });
        }
        let of_subject = |subject: &Subject| subject.mutants.mutants.clone();
        let every: Vec<Mutant> = subjects.iter().flat_map(of_subject).collect();
        let count = every.len();
        let chosen = match self.arguments.sample {
            Some(number) => sample(every, number, self.arguments.seed),
            None => every,
        };
        let all = chosen.len() == count;
        eprintln!("booting {} of {count} mutants", chosen.len());
        let damaged: Vec<Cell> = chosen.iter().map(|mutant| mutant.cell.clone()).collect();
        let damaged =
            if damaged.is_empty() { None } else { Some(self.execute(damaged, store, signals).await?) };
        let records = damaged.iter().flat_map(|outcome| &outcome.records);
        let records: BTreeMap<&CellName, &CellRecord> =
            records.map(|record| (&record.cell, record)).collect();
        let judged = |subject: Subject| {
            let of_it = chosen.iter().filter(|mutant| mutant.of == subject.cell);
            let of_it =
                of_it.filter_map(|mutant| Some((mutant.clone(), (*records.get(&mutant.cell.name)?).clone())));
            let of_it: Vec<(Mutant, CellRecord)> = of_it.collect();
            let all = all && of_it.len() == subject.mutants.mutants.len();
            let Mutants { checks, unused, .. } = subject.mutants;
            CellMutation::new((subject.cell, subject.original), &of_it, (&checks, all), unused)
        };
        let judged: Vec<CellMutation> = subjects.into_iter().map(judged).collect();
        self.show(&judged, [Some(&undamaged), damaged.as_ref()]);
        let tally = MutationTally::of(&judged);
        if let Some(code) = signals.exit_code() {
            eprintln!("interrupted: {} of {} mutants have a verdict", records.len(), chosen.len());
            return Ok(ExitCode::from(code));
        }
        let interrupted = undamaged.run.interrupted || damaged.is_some_and(|outcome| outcome.run.interrupted);
        Ok(ExitCode::from(if interrupted { ERROR } else { tally.exit_code() }))
    }

    /// Boots cells, damaged or not, with their records aside.
    async fn execute(
        &self,
        cells: Vec<Cell>,
        store: &Arc<Store>,
        signals: &Signals,
    ) -> Result<Outcome, Failure> {
        let plan = self.plan(cells);
        let builds = Arc::new(Builds::new());
        let bars = builds.bars().clone();
        let setting = Setting {
            catalog: self.catalog.clone(),
            store: Arc::clone(store),
            progress: builds,
            native_qemu: None,
            wrapper: tied::wrapper().map_err(Failure::error)?,
            results: self.arguments.results.clone().unwrap_or_else(results),
            jobs: self.arguments.jobs.and_then(|jobs| jobs.0),
            states: Some(Arc::new(states::open(store, states::USUAL_LIMIT_GIB)?)),
            timeout_scale: self.arguments.timeout_scale,
            arguments: std::env::args().skip(1).collect(),
            part: None,
            resumed: None,
            purpose: Purpose::Mutation,
            attendant: None,
        };
        let listener = Rc::new(Cells::new(bars.clone(), style_of(&std::io::stderr()), false));
        let outcome = execute(&plan, setting, listener, signals.cancellation.clone()).await;
        let outcome = outcome.map_err(Failure::error)?;
        // Fails only if the terminal is gone.
        let _ = bars.clear();
        Ok(outcome)
    }

    fn show(&self, judged: &[CellMutation], runs: [Option<&Outcome>; 2]) {
        match self.arguments.format {
            Format::Text => {
                say(&format!("\n{}", report::mutations(judged, &style_of(&std::io::stdout()))));
            }
            Format::Json => {
                for cell in judged {
                    say(&format!("{}\n", json!(cell)));
                }
                say(&format!("{}\n", json!({ "tally": MutationTally::of(judged) })));
            }
        }
        let folders: Vec<String> =
            runs.into_iter().flatten().map(|run| run.folder.display().to_string()).collect();
        eprintln!("records: {}", folders.join(" and, of the mutants, "));
    }
}

fn mutants(cell: &Cell, original: &Original) -> Result<Mutants, Failure> {
    mutants_of(cell, original).map_err(|problem| {
        Failure::bad_input(miette::miette!("{}: {problem}: {}", cell.name, problem.help()))
    })
}

fn cells_of(count: usize) -> String {
    format!("{count} cell{}", if count == 1 { "" } else { "s" })
}
