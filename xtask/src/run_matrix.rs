//! `run-matrix`: plans the cells, boots them, and prints their verdicts.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use nestmatrix::debug_server::PauseAt;
use nestmatrix::records::{CutOff, PastRun, Purpose, Resumed, RunShard, division, durations};
use nestmatrix::report;
use nestmatrix::run::{PlanOptions, RunListener, RunPlan, Setting, execute};
use nestmatrix::scenario::{Cell, Filter};
use nestmatrix_images::{Catalog, Store};
use nestmatrix_model::Architecture;
use nestmatrix_stack::host::Emulator;

use crate::cli::{Format, RunMatrix};
use crate::exit::{ERROR, Failure};
use crate::input;
use crate::native_metal::NativeTrial;
use crate::output::write_junit;
use crate::progress::{BuildProgress, CellProgress};
use crate::settings::metal;
use crate::signals::Signals;
use crate::terminal::{note, print, style_of};
use crate::{baseline, history, host, kernels, parent_death, repro, resume, runtime, snapshots};

/// Memory of one cell in MiB, with all its levels and QEMU's own, for the estimate before a run.
const CELL_MEMORY_MIB: u64 = 3 * 1024;

pub fn run(arguments: &RunMatrix) -> Result<ExitCode, Failure> {
    match &arguments.resume {
        Some(run) => resume::run(arguments, run),
        None if arguments.kernels.is_empty() => start(arguments, None, None),
        None => kernels::for_git_bisect(start(arguments, None, None)),
    }
}

/// Runs the cells that `arguments` select; of an `interrupted` run, those without a verdict. With `pause_at`, the only cell
/// gets a debug session.
pub fn start(
    arguments: &RunMatrix,
    interrupted: Option<CutOff>,
    pause_at: Option<PauseAt>,
) -> Result<ExitCode, Failure> {
    let (matrix, filter) = input::scenarios(&arguments.selection)?;
    let profile = match &arguments.profile {
        Some(name) => Some(matrix.profile(name).map_err(Failure::bad_input)?),
        None if arguments.selection.filter.is_empty() => Some(matrix.default_profile()),
        None => None,
    };
    let filter = match profile {
        Some(profile) => filter.within(profile),
        None => filter,
    };
    let catalog = input::recipes(&arguments.source.folder)?;
    let store = Arc::new(input::store(&arguments.source)?);
    let cells: Vec<Cell> = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).cloned().collect();
    if cells.is_empty() && interrupted.is_none() {
        return Ok(input::no_cell());
    }
    let deny_skips = deny_skips(&arguments.deny_skip, &cells)?;
    let (cells, shard) = in_shard(arguments, cells, interrupted.as_ref())?;
    let (resumed, cells) = match interrupted {
        Some(interrupted) => {
            let (resumed, left) = interrupted.go_on(cells);
            resume::print_resumed(&resumed);
            (Some(resumed), left)
        }
        None => (None, cells),
    };
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let builds = Arc::new(BuildProgress::new());
        let architectures: BTreeSet<Architecture> = cells.iter().map(|cell| cell.architecture).collect();
        let choice = metal(arguments.metal);
        let trial = NativeTrial {
            choice,
            disposable_host: arguments.disposable_host,
            resumed: resumed.as_ref().map(Resumed::folder),
            catalog: &catalog,
            store: &store,
            builds: &builds,
            timeout_scale: arguments.pace.timeouts.scale(),
            signals: &signals,
        };
        let (natives, native_qemu) = trial.run(architectures).await?;
        if let Some(code) = signals.exit_code() {
            // An unfinished trial of the machine says nothing about any cell.
            note!("interrupted before a cell was planned; nothing is recorded");
            return Ok(ExitCode::from(code));
        }
        let options = PlanOptions {
            metal: choice,
            denied: arguments.selection.denied(),
            deny_skips: deny_skips.clone(),
            profile: profile.cloned(),
            suppose_images: false,
            disposable_host: arguments.disposable_host,
            replaces_l0: arguments.kernels.replace_l0(),
        };
        let mut plan = RunPlan::new(cells, &matrix, &catalog, &natives, &options);
        let mut catalog = catalog.clone();
        if !arguments.kernels.is_empty() {
            let substitutes = arguments.kernels.substitutes(&catalog)?;
            let progress = Arc::clone(&builds) as _;
            let substituted = kernels::substitute(plan, substitutes, catalog, Arc::clone(&store), progress);
            (plan, catalog) = tokio::select! {
                done = substituted => done?,
                () = async { signals.cancellation.clone().requested().await } => {
                    note!("interrupted before a cell was booted; nothing is recorded");
                    return Ok(ExitCode::from(signals.exit_code().unwrap_or(ERROR)));
                }
            };
        }
        let prepared = (catalog, store, builds, native_qemu);
        boot_cells(arguments, &plan, (resumed, shard), pause_at, prepared, signals).await
    })
}

/// The cells that must not be skipped. A glob that matches no cell of this run is a mistake.
fn deny_skips(globs: &[String], cells: &[Cell]) -> Result<Option<Filter>, Failure> {
    for glob in globs {
        let filter = Filter::parse(std::slice::from_ref(glob)).map_err(Failure::bad_input)?;
        if !cells.iter().any(|cell| filter.matches(&cell.name)) {
            return Err(Failure::bad_input(miette::miette!(
                "--deny-skip {glob}: no cell of this run matches"
            )));
        }
    }
    let filter = Filter::parse(globs).map_err(Failure::bad_input)?;
    Ok((!globs.is_empty()).then_some(filter))
}

/// The cells of the shard, or all cells without `--shard`.
fn in_shard(
    arguments: &RunMatrix,
    mut cells: Vec<Cell>,
    interrupted: Option<&CutOff>,
) -> Result<(Vec<Cell>, Option<RunShard>), Failure> {
    let Some(shard) = arguments.shard else { return Ok((cells, None)) };
    let all = cells.len();
    let names = || cells.iter().map(|cell| &cell.name);
    let mut part = None;
    let chosen = match interrupted {
        // The runs of --history may have changed since, and they decide which shard has which cell.
        Some(interrupted) if !arguments.history.is_empty() => interrupted.planned().iter().cloned().collect(),
        _ => {
            let history: Result<Vec<PastRun>, _> =
                arguments.history.iter().map(|run| PastRun::read(run)).collect();
            let history = history.map_err(|e| Failure::bad_input(miette::miette!("--history: {e}")))?;
            let durations = durations(&history);
            part = Some(RunShard { shard, division: division(names(), &durations) });
            shard.choose(names(), &durations)
        }
    };
    cells.retain(|cell| chosen.contains(&cell.name));
    note!("shard {shard}: {} of {all} cells", cells.len());
    Ok((cells, part))
}

async fn boot_cells(
    arguments: &RunMatrix,
    plan: &RunPlan,
    (resumed, shard): (Option<Resumed>, Option<RunShard>),
    pause_at: Option<PauseAt>,
    (catalog, store, builds, native_qemu): (Catalog, Arc<Store>, Arc<BuildProgress>, Option<Emulator>),
    signals: Signals,
) -> Result<ExitCode, Failure> {
    let json = arguments.format == Format::Json;
    let jobs = arguments.pace.jobs().unwrap_or_else(estimated_jobs);
    let snapshots = if arguments.cold {
        None
    } else {
        Some(Arc::new(snapshots::open(&store, arguments.snapshot_limit)?))
    };
    let style = style_of(&std::io::stdout());
    if plan.cells.is_empty() {
        // A shard without cells, or a resumed run that has all its verdicts.
    } else if !json {
        print(&format!("{}\n", report::plan(plan, jobs, snapshots.is_some(), &style)));
    } else if let Some(profile) = report::profile(plan) {
        note!("profile {profile}");
    }
    let bars = builds.bars().clone();
    let debug_server = pause_at
        .and_then(|pause_at| Some(repro::debug_server(pause_at, &plan.cells.first()?.cell, &bars)))
        .transpose()?;
    let cells = CellProgress::new(bars.clone(), style_of(&std::io::stderr()), json);
    let listener: Rc<dyn RunListener> = match &debug_server {
        Some(server) => Rc::new(repro::SessionListener { debug_server: Rc::clone(server), cells }),
        None => Rc::new(cells),
    };
    let cancellation = match &debug_server {
        Some(server) => server.guard(signals.cancellation.clone()),
        None => signals.cancellation.clone(),
    };
    let setting = Setting {
        catalog: catalog.clone(),
        store: Arc::clone(&store),
        progress: builds,
        native_qemu,
        wrapper: parent_death::wrapper().map_err(Failure::error)?,
        results: arguments.results.folder(),
        jobs: arguments.pace.jobs(),
        snapshots,
        timeout_scale: arguments.pace.timeouts.scale(),
        repeat: arguments.repeat(),
        arguments: std::env::args().skip(1).collect(),
        part: shard,
        resumed,
        purpose: if debug_server.is_some() { Purpose::Repro } else { Purpose::Matrix },
        inspector: debug_server.clone().map(|server| server as _),
    };
    // Before the run, since `latest` names another run afterwards.
    let results = setting.results.clone();
    let baseline = arguments.baseline.as_ref().and_then(|run| baseline::find(run, &results));
    let outcome = execute(plan, setting, listener, cancellation).await.map_err(Failure::error)?;
    write_junit(&outcome.folder, &outcome.run, &outcome.records)?;
    // Fails only if the terminal is gone.
    let _ = bars.clear();
    if json {
        note!("records: {}", outcome.folder.display());
    } else {
        print(&format!("\n{}records: {}\n", report::matrix(&outcome, &style), outcome.folder.display()));
    }
    history::feed(&results);
    if arguments.disposable_host
        && let Some(code) = host::after_run(&outcome.folder, signals.exit_code().is_some())?
    {
        return Ok(code);
    }
    let was_paused = debug_server.is_some_and(|server| server.was_paused());
    if outcome.run.interrupted && !was_paused {
        note!("interrupted: {} of {} cells have a verdict", outcome.records.len(), outcome.run.cells);
    }
    let of_run = match baseline.and_then(|baseline| baseline::of_same_cells(baseline, &outcome.folder)) {
        Some(baseline) => {
            let how = (arguments.format, &style);
            baseline::show(&baseline, &outcome.folder, &results, how, outcome.run.exit_code())
        }
        None => outcome.run.exit_code(),
    };
    let code = match signals.exit_code() {
        // The signal ended the debug session, before the stack had a verdict.
        _ if was_paused && outcome.records.is_empty() => ExitCode::SUCCESS,
        Some(code) if !was_paused => ExitCode::from(code),
        _ if arguments.kernels.is_empty() => ExitCode::from(of_run),
        _ => arguments.kernels.exit_code(&outcome, &catalog, &store),
    };
    if !arguments.kernels.keep_images {
        kernels::discard(catalog.recipes(), &store);
    }
    Ok(code)
}

/// One cell per core, as far as memory allows. This is an estimate: cells start by what earlier cells used.
fn estimated_jobs() -> usize {
    let machine = nestmatrix::records::Machine::this();
    let by_memory = usize::try_from(machine.available_memory_mib() / CELL_MEMORY_MIB).unwrap_or(1);
    machine.cores.min(by_memory).max(1)
}
