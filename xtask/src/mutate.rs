//! `cargo xtask mutate`: boots cells with their scenario or stack damaged on purpose, and reports what went unnoticed.

mod record;
mod resume;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use nestmatrix::mutation::{Mutant, Mutants, mutants_of, sample};
use nestmatrix::records::{
    CellMutation, CutOff, Durations, MutationTally, Original, Outcome, Part, Purpose, Shard, VerdictWord,
    division, in_one_line, mutants_folder, mutants_run, write_mutations,
};
use nestmatrix::report;
use nestmatrix::run::{MetalChoice, NativeMetals, PlanOptions, RunPlan, Setting, execute};
use nestmatrix::scenario::{Cell, CellName, Matrix};
use nestmatrix_images::{Catalog, Store};
use serde_json::json;

use self::resume::Begun;
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
    /// Mutate only the cells of shard K of N; each cell is in exactly one, and `cargo xtask report` shows the runs of several together
    #[arg(long, value_name = "K/N")]
    pub shard: Option<Shard>,
    /// Resume a run that was interrupted or killed, with its arguments: its folder, or its name in the folder of results. What has a
    /// verdict keeps it. `--jobs` and `--timeout-scale` override the earlier values
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "filter", "scenarios", "deny_stand_ins", "profile", "sample", "seed", "shard", "list", "offline", "recipes",
    ])]
    pub resume: Option<PathBuf>,
    /// Record in decided.toml of the scenarios which cells decide their claims, by the mutants that this run killed
    #[arg(long, conflicts_with = "list")]
    pub record: bool,
    /// Record what finished runs show, named by their folders or by their names in the folder of results; boot nothing
    #[arg(long, value_name = "RUN", num_args = 1.., conflicts_with_all = [
        "filter", "deny_stand_ins", "profile", "sample", "seed", "shard", "resume", "record", "list", "offline", "recipes", "jobs",
        "timeout_scale", "format",
    ])]
    pub record_from: Vec<PathBuf>,
    /// Show the mutants that would be made if every cell came out as expected; nothing is booted
    #[arg(long, conflicts_with_all = ["sample", "jobs", "results", "timeout_scale"])]
    pub list: bool,
    #[command(flatten)]
    pub source: ImageSource,
    /// How many cells run side by side, or `auto`: as many as this machine has cores and memory for [default: auto]
    #[arg(long, value_name = "N", value_parser = cli::jobs)]
    pub jobs: Option<Jobs>,
    /// Folder that gets a folder for this run [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Multiply every time limit by this, for a slow machine [default: 1]
    #[arg(long, value_name = "F", value_parser = cli::timeout_scale)]
    pub timeout_scale: Option<f64>,
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
    if !arguments.record_from.is_empty() {
        return record::run(arguments);
    }
    match &arguments.resume {
        Some(run) => resume::run(arguments, run),
        None => start(arguments, None),
    }
}

/// Mutates what `arguments` choose; of a run that has begun, what has no verdict yet.
fn start(arguments: &Mutate, begun: Option<Begun>) -> Result<ExitCode, Failure> {
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
    let (cells, part) = in_shard(arguments.shard, cells);
    let catalog = input::recipes(&arguments.source.recipes)?;
    let mutation = MutationRun { arguments, matrix: &matrix, catalog, part };
    let plan = mutation.plan(cells.clone());
    for (cell, reasons) in plan.skipped() {
        eprintln!("skipped: {}: {}", cell.name, in_one_line(reasons));
    }
    if arguments.list {
        return mutation.list(plan.boots().map(|planned| &planned.cell));
    }
    if plan.boots().next().is_none() {
        eprintln!("no cell boots here");
        return Ok(if arguments.shard.is_some() { ExitCode::SUCCESS } else { ExitCode::from(4) });
    }
    let store = Arc::new(input::store(&arguments.source)?);
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        mutation.run(&cells, begun, &store, &signals).await
    })
}

/// The cells of the shard that is wanted, if one is. How long the mutants of a cell take is not known, so that its name alone counts.
fn in_shard(shard: Option<Shard>, mut cells: Vec<Cell>) -> (Vec<Cell>, Option<Part>) {
    let Some(shard) = shard else { return (cells, None) };
    let (all, durations) = (cells.len(), Durations::new());
    let names = || cells.iter().map(|cell| &cell.name);
    let part = Part { shard, division: division(names(), &durations) };
    let chosen = shard.choose(names(), &durations);
    cells.retain(|cell| chosen.contains(&cell.name));
    eprintln!("shard {shard}: {} of {all} cells", cells.len());
    (cells, Some(part))
}

/// Everything that a mutation run needs.
struct MutationRun<'a> {
    arguments: &'a Mutate,
    matrix: &'a Matrix,
    catalog: Catalog,
    part: Option<Part>,
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

    fn list<'c>(&self, cells: impl Iterator<Item = &'c Cell>) -> Result<ExitCode, Failure> {
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

    async fn run(
        &self,
        cells: &[Cell],
        begun: Option<Begun>,
        store: &Arc<Store>,
        signals: &Signals,
    ) -> Result<ExitCode, Failure> {
        eprintln!("booting {} without damage", cells_of(cells.len()));
        let before = begun.as_ref().map(|begun| begun.cells.record().resumed.len());
        let (begun, begun_mutants) = begun.map_or((None, None), |begun| (Some(begun.cells), begun.mutants));
        let in_results = self.arguments.results.clone().unwrap_or_else(results);
        let undamaged = self.carry_out(cells.to_vec(), begun, in_results, store, signals).await?;
        let folder = undamaged.folder.clone();
        if let Some(code) = signals.exit_code() {
            eprintln!("interrupted before a mutant was booted; resume it with --resume {}", folder.display());
            return Ok(ExitCode::from(code));
        }
        // Until the end, so that no other process boots its mutants at the same time.
        let mut held = crate::resume::open(&folder)?;
        // If none of its own cells was left, nothing of that is on record yet.
        if before == Some(held.record().resumed.len()) {
            held.note(&arguments()).map_err(Failure::error)?;
        }
        let mut subjects = Vec::new();
        for cell in cells {
            let record = undamaged.records.iter().find(|record| record.cell == cell.name);
            // An image may have turned out not to be available.
            let Some(record) = record.filter(|record| record.verdict != VerdictWord::Skip) else { continue };
            if let Some(why) = Original::why_no_mutants(record) {
                eprintln!("skipped: {}: {why}", cell.name);
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
        eprintln!("booting {} of {count} mutants", chosen.len());
        let damaged: Vec<Cell> = chosen.into_iter().map(|mutant| mutant.cell).collect();
        let number = damaged.len();
        let damaged = match damaged.is_empty() {
            true => None,
            false => {
                let at = mutants_folder(&folder);
                Some(self.carry_out(damaged, begun_mutants, at, store, signals).await?)
            }
        };
        let mut records = damaged.as_ref().map_or(Vec::new(), |outcome| outcome.records.clone());
        let decided = records.len();
        for record in &mut records {
            let of_mutants = damaged.as_ref().and_then(|run| run.folder.strip_prefix(&folder).ok());
            let within = of_mutants.zip(record.folder.as_ref());
            let within = within.and_then(|(run, folder)| run.join(folder.as_path()).try_into().ok());
            record.folder = within;
        }
        let judged =
            |Subject { cell, original, mutants }| CellMutation::new(cell, original, &mutants, &records);
        let judged: Vec<CellMutation> = subjects.into_iter().map(judged).collect();
        write_mutations(&folder, &judged).map_err(Failure::error)?;
        self.show(&judged, &folder);
        if self.arguments.record {
            record::record(self.arguments, std::slice::from_ref(&folder))?;
        }
        let tally = MutationTally::of(&judged);
        if let Some(code) = signals.exit_code() {
            eprintln!("interrupted: {decided} of {number} mutants have a verdict; resume it with --resume");
            return Ok(ExitCode::from(code));
        }
        let interrupted = undamaged.run.interrupted || damaged.is_some_and(|outcome| outcome.run.interrupted);
        Ok(ExitCode::from(match tally.exit_code() {
            _ if interrupted => ERROR,
            // What ran altogether is known from the reports of all shards.
            4 if self.part.is_some() => 0,
            code => code,
        }))
    }

    /// Boots what has no verdict of these cells, damaged or not. A run of which nothing is left stays as it is.
    async fn carry_out(
        &self,
        cells: Vec<Cell>,
        begun: Option<CutOff>,
        in_results: PathBuf,
        store: &Arc<Store>,
        signals: &Signals,
    ) -> Result<Outcome, Failure> {
        let (resumed, cells) = match begun {
            Some(begun) => {
                let past = begun.past().clone();
                let is_through = begun.is_through();
                let (resumed, left) = begun.go_on(cells);
                if is_through && left.is_empty() {
                    let (run, records) = (past.record, past.cells);
                    return Ok(Outcome { folder: past.folder, run, records, took: Duration::ZERO });
                }
                crate::resume::tell(&resumed);
                (Some(resumed), left)
            }
            None => (None, cells),
        };
        let plan = self.plan(cells);
        let builds = Arc::new(Builds::new());
        let bars = builds.bars().clone();
        let setting = Setting {
            catalog: self.catalog.clone(),
            store: Arc::clone(store),
            progress: builds,
            native_qemu: None,
            wrapper: tied::wrapper().map_err(Failure::error)?,
            results: in_results,
            jobs: self.arguments.jobs.and_then(|jobs| jobs.0),
            states: Some(Arc::new(states::open(store, states::USUAL_LIMIT_GIB)?)),
            timeout_scale: self.arguments.timeout_scale.unwrap_or(1.0),
            repeat: 1,
            arguments: arguments(),
            part: self.part.clone(),
            resumed,
            purpose: Purpose::Mutation,
            inspector: None,
        };
        let listener = Rc::new(Cells::new(bars.clone(), style_of(&std::io::stderr()), false));
        let outcome = execute(&plan, setting, listener, signals.cancellation.clone()).await;
        let outcome = outcome.map_err(Failure::error)?;
        // Fails only if the terminal is gone.
        let _ = bars.clear();
        Ok(outcome)
    }

    fn show(&self, judged: &[CellMutation], folder: &Path) {
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
        eprintln!("records: {}", folder.display());
    }
}

fn mutants(cell: &Cell, original: &Original) -> Result<Mutants, Failure> {
    mutants_of(cell, original).map_err(|problem| {
        Failure::bad_input(miette::miette!("{}: {problem}: {}", cell.name, problem.help()))
    })
}

/// The arguments of this program.
fn arguments() -> Vec<String> {
    std::env::args().skip(1).collect()
}

fn cells_of(count: usize) -> String {
    format!("{count} cell{}", if count == 1 { "" } else { "s" })
}
