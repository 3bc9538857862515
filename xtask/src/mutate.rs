//! `mutate`: boots cells with a damaged scenario or stack, and reports damage that no verdict shows.

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
    CellMutation, CutOff, Durations, MutationTally, Original, Outcome, Purpose, RunShard, Shard, VerdictWord,
    division, in_one_line, mutants_folder, mutants_run, write_mutations,
};
use nestmatrix::report;
use nestmatrix::run::{MetalChoice, NativeMetals, PlanOptions, RunPlan, Setting, execute};
use nestmatrix::scenario::{Cell, CellName, Matrix, Problem as _};
use nestmatrix_images::{Catalog, Store};
use serde_json::json;

use self::resume::InterruptedRun;
use crate::cli::{Format, ImageSource, Pace, Results, Selection};
use crate::exit::{ERROR, Failure};
use crate::progress::{BuildProgress, CellProgress};
use crate::signals::Signals;
use crate::terminal::{note, print, style_of};
use crate::{input, parent_death, runtime, settings, snapshots};

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct Mutate {
    #[command(flatten)]
    pub selection: Selection,
    /// Select the cells of a profile in profiles.toml; `full` is all cells
    ///
    /// Without this option and without FILTER, the default profile is used.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Boot only N of the mutants, chosen at random
    #[arg(long, value_name = "N")]
    pub sample: Option<usize>,
    /// Seed the random choice of the sample
    #[arg(long, value_name = "S", default_value = "0", requires = "sample")]
    pub seed: u64,
    /// Mutate only shard K of N; show the runs together with `cargo xtask report`
    ///
    /// Every cell is in exactly one shard; the machines need no coordination.
    #[arg(long, value_name = "K/N")]
    pub shard: Option<Shard>,
    /// Resume an interrupted run: its folder, or its name in the folder of runs
    ///
    /// Cells and mutants keep their verdicts, and the run keeps its arguments. `--jobs` and `--timeout-scale` override the
    /// earlier values.
    #[arg(long, value_name = "RUN", conflicts_with_all = [
        "filter", "scenarios", "deny_rebuilds", "deny_stand_ins", "profile", "sample", "seed", "shard", "list", "offline", "recipes",
    ])]
    pub resume: Option<PathBuf>,
    /// Record in the scenarios' decided.toml which cells decide their claims
    ///
    /// They do if this run killed their mutants.
    #[arg(long, conflicts_with = "list")]
    pub record: bool,
    /// Record the findings of finished runs instead of booting anything
    ///
    /// RUN is a folder, or a name in the folder of runs.
    #[arg(long, value_name = "RUN", num_args = 1.., conflicts_with_all = [
        "filter", "deny_rebuilds", "deny_stand_ins", "profile", "sample", "seed", "shard", "resume", "record", "list", "offline", "recipes", "jobs",
        "timeout_scale", "format",
    ])]
    pub record_from: Vec<PathBuf>,
    /// List the mutants of cells that come out as expected, without booting anything
    #[arg(long, conflicts_with_all = ["sample", "jobs", "results", "timeout_scale"])]
    pub list: bool,
    #[command(flatten)]
    pub source: ImageSource,
    #[command(flatten)]
    pub pace: Pace,
    #[command(flatten)]
    pub results: Results,
    /// Print mutants in this format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    every mutant was killed, or its scenario accepts that it survives
  1    a mutant survived
  2    bad usage or bad input
  3    a mutant is undecided, because the harness or its machine failed; or a cell is not green
       without damage
  4    no mutants: no cell matched, or all were skipped
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

/// Mutates the cells that `arguments` select. For an `interrupted` run, these are the ones without a verdict.
fn start(arguments: &Mutate, interrupted: Option<InterruptedRun>) -> Result<ExitCode, Failure> {
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
    let (cells, shard) = in_shard(arguments.shard, cells);
    let catalog = input::recipes(&arguments.source.folder)?;
    let mutation = MutationRun { arguments, matrix: &matrix, catalog, shard };
    let plan = mutation.plan(cells.clone());
    for (cell, reasons) in plan.skipped() {
        note!("skipped: {}: {}", cell.name, in_one_line(reasons));
    }
    if arguments.list {
        return mutation.list(plan.boots().map(|planned| &planned.cell));
    }
    if plan.boots().next().is_none() {
        note!("this machine can boot none of these cells");
        return Ok(if arguments.shard.is_some() { ExitCode::SUCCESS } else { ExitCode::from(4) });
    }
    let store = Arc::new(input::store(&arguments.source)?);
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        mutation.run(&cells, interrupted, &store, &signals).await
    })
}

/// The cells of the shard, or all cells without `--shard`. The durations of mutants are unknown, so a cell's name alone decides
/// its shard.
fn in_shard(shard: Option<Shard>, mut cells: Vec<Cell>) -> (Vec<Cell>, Option<RunShard>) {
    let Some(shard) = shard else { return (cells, None) };
    let (all, durations) = (cells.len(), Durations::new());
    let names = || cells.iter().map(|cell| &cell.name);
    let part = RunShard { shard, division: division(names(), &durations) };
    let chosen = shard.choose(names(), &durations);
    cells.retain(|cell| chosen.contains(&cell.name));
    note!("shard {shard}: {} of {all} cells", cells.len());
    (cells, Some(part))
}

/// Everything that a mutation run needs.
struct MutationRun<'a> {
    arguments: &'a Mutate,
    matrix: &'a Matrix,
    catalog: Catalog,
    shard: Option<RunShard>,
}

/// A cell, its verdict without damage, and its mutants.
struct Subject {
    cell: CellName,
    original: Original,
    mutants: Mutants,
}

impl MutationRun<'_> {
    /// Always uses emulated metal: the findings are about the scenario, and this machine's own L0 cannot be damaged.
    fn plan(&self, cells: Vec<Cell>) -> RunPlan {
        let options = PlanOptions {
            metal: MetalChoice::Emulated,
            denied: self.arguments.selection.denied(),
            ..PlanOptions::default()
        };
        RunPlan::new(cells, self.matrix, &self.catalog, &NativeMetals::new(), &options)
    }

    fn list<'c>(&self, cells: impl Iterator<Item = &'c Cell>) -> Result<ExitCode, Failure> {
        for cell in cells {
            let Mutants { mutants, checks, .. } = mutants(cell, &Original::as_expected(cell))?;
            match self.arguments.format {
                Format::Text => {
                    print(&format!("{}\n", cell.name));
                    for mutant in &mutants {
                        let (name, rule) = (mutant.mutation.name(), mutant.rule.text());
                        print(&format!("  {name:<32}  {}; must be {rule}\n", mutant.mutation));
                    }
                    for check in &checks {
                        let name = format!("drop-step-{}", check.step);
                        print(&format!(
                            "  {name:<32}  step {} only checks; must stop a mutant\n",
                            check.step
                        ));
                    }
                }
                Format::Json => {
                    for mutant in &mutants {
                        let (name, damage) = (mutant.mutation.name(), mutant.mutation.to_string());
                        let line = json!({
                            "cell": cell.name, "mutation": name, "damage": damage, "rule": mutant.rule,
                            "accepted": mutant.accepted,
                        });
                        print(&format!("{line}\n"));
                    }
                    for check in &checks {
                        let name = format!("drop-step-{}", check.step);
                        let line = json!({
                            "cell": cell.name, "mutation": name, "damage": null, "rule": null,
                            "accepted": check.accepted,
                        });
                        print(&format!("{line}\n"));
                    }
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn run(
        &self,
        cells: &[Cell],
        interrupted: Option<InterruptedRun>,
        store: &Arc<Store>,
        signals: &Signals,
    ) -> Result<ExitCode, Failure> {
        note!("booting {} without damage", cells_of(cells.len()));
        let resumptions = interrupted.as_ref().map(|run| run.cells.record().resumed.len());
        let (earlier, earlier_mutants) =
            interrupted.map_or((None, None), |run| (Some(run.cells), run.mutants));
        let results = self.arguments.results.folder();
        let undamaged = self.boot(cells.to_vec(), earlier, results, store, signals).await?;
        let folder = undamaged.folder.clone();
        if let Some(code) = signals.exit_code() {
            note!("interrupted before a mutant was booted; resume it with --resume {}", folder.display());
            return Ok(ExitCode::from(code));
        }
        // Open until the end, so that no other process boots its mutants at the same time.
        let mut run = crate::resume::open(&folder)?;
        // If no undamaged cell was left, this resumption is not recorded yet.
        if resumptions == Some(run.record().resumed.len()) {
            run.note(&arguments()).map_err(Failure::error)?;
        }
        let mut subjects = Vec::new();
        for cell in cells {
            let record = undamaged.records.iter().find(|record| record.cell == cell.name);
            // An image can turn out to be unavailable.
            let Some(record) = record.filter(|record| record.verdict != VerdictWord::Skip) else { continue };
            if let Some(why) = Original::why_no_mutants(record) {
                note!("skipped: {}: {why}", cell.name);
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
        note!("booting {} of {count} mutants", chosen.len());
        let damaged: Vec<Cell> = chosen.into_iter().map(|mutant| mutant.cell).collect();
        let number = damaged.len();
        let damaged = match damaged.is_empty() {
            true => None,
            false => {
                let results = mutants_folder(&folder);
                Some(self.boot(damaged, earlier_mutants, results, store, signals).await?)
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
            note!("interrupted: {decided} of {number} mutants have a verdict; resume it with --resume");
            return Ok(ExitCode::from(code));
        }
        let interrupted = undamaged.run.interrupted || damaged.is_some_and(|outcome| outcome.run.interrupted);
        Ok(ExitCode::from(match tally.exit_code() {
            _ if interrupted => ERROR,
            // Other shards may have mutants.
            4 if self.shard.is_some() => 0,
            code => code,
        }))
    }

    /// Boots those of these cells, damaged or not, that have no verdict. A complete run is not changed.
    async fn boot(
        &self,
        cells: Vec<Cell>,
        interrupted: Option<CutOff>,
        results: PathBuf,
        store: &Arc<Store>,
        signals: &Signals,
    ) -> Result<Outcome, Failure> {
        let (resumed, cells) = match interrupted {
            Some(interrupted) => {
                let past = interrupted.past().clone();
                let is_complete = interrupted.is_through();
                let (resumed, left) = interrupted.go_on(cells);
                if is_complete && left.is_empty() {
                    let (run, records) = (past.record, past.cells);
                    return Ok(Outcome { folder: past.folder, run, records, took: Duration::ZERO });
                }
                crate::resume::print_resumed(&resumed);
                (Some(resumed), left)
            }
            None => (None, cells),
        };
        let plan = self.plan(cells);
        let builds = Arc::new(BuildProgress::new());
        let bars = builds.bars().clone();
        let setting = Setting {
            catalog: self.catalog.clone(),
            store: Arc::clone(store),
            progress: builds,
            native_qemu: None,
            wrapper: parent_death::wrapper().map_err(Failure::error)?,
            results,
            jobs: self.arguments.pace.jobs(),
            snapshots: Some(Arc::new(snapshots::open(store, settings::SNAPSHOT_LIMIT_GIB)?)),
            timeout_scale: self.arguments.pace.timeouts.scale(),
            repeat: 1,
            arguments: arguments(),
            part: self.shard.clone(),
            resumed,
            purpose: Purpose::Mutation,
            inspector: None,
        };
        let listener = Rc::new(CellProgress::new(bars.clone(), style_of(&std::io::stderr()), false));
        let outcome = execute(&plan, setting, listener, signals.cancellation.clone()).await;
        let outcome = outcome.map_err(Failure::error)?;
        // Fails only if the terminal is gone.
        let _ = bars.clear();
        Ok(outcome)
    }

    fn show(&self, judged: &[CellMutation], folder: &Path) {
        match self.arguments.format {
            Format::Text => {
                print(&format!("\n{}", report::mutations(judged, &style_of(&std::io::stdout()))));
            }
            Format::Json => {
                for cell in judged {
                    print(&format!("{}\n", json!(cell)));
                }
                print(&format!("{}\n", json!({ "tally": MutationTally::of(judged) })));
            }
        }
        note!("records: {}", folder.display());
    }
}

fn mutants(cell: &Cell, original: &Original) -> Result<Mutants, Failure> {
    mutants_of(cell, original).map_err(|problem| {
        Failure::bad_input(miette::miette!("{}: {problem}: {}", cell.name, problem.help()))
    })
}

/// The arguments of this process.
fn arguments() -> Vec<String> {
    std::env::args().skip(1).collect()
}

fn cells_of(count: usize) -> String {
    format!("{count} cell{}", if count == 1 { "" } else { "s" })
}
