//! `run-matrix`: plans, boots, shows.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use nestmatrix::debug_server::PauseAt;
use nestmatrix::records::{
    CellRecord, CutOff, Part, PastRun, Purpose, Resumed, RunRecord, division, durations,
};
use nestmatrix::report::{self, Style};
use nestmatrix::run::{
    MachineTrial, MetalChoice, NativeMetals, PlanOptions, RunListener, RunPlan, Setting, execute,
};
use nestmatrix::scenario::{Cell, Filter};
use nestmatrix_images::{Catalog, Store};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, Isa};
use nestmatrix_stack::host::Emulator;
use terminal_size::terminal_size_of;

use crate::cli::{Format, MetalArgument, RunMatrix};
use crate::exit::{ERROR, Failure};
use crate::input;
use crate::live::{Builds, Cells};
use crate::signals::Signals;
use crate::{baseline, history, kernels, output, repro, resume, runtime, states, tied};

/// Memory that one cell may take, in MiB, for the estimate before a run: L0's, with all that is in it, and QEMU's own.
const CELL_MEMORY_MIB: u64 = 3 * 1024;

pub fn run(arguments: &RunMatrix) -> Result<ExitCode, Failure> {
    match &arguments.resume {
        Some(run) => resume::run(arguments, run),
        None if arguments.kernels.is_empty() => start(arguments, None, None),
        None => kernels::for_git_bisect(start(arguments, None, None)),
    }
}

/// Runs what `arguments` choose; of a run that was cut off what it still lacks. One cell alone can be held.
pub fn start(
    arguments: &RunMatrix,
    cut_off: Option<CutOff>,
    hold: Option<PauseAt>,
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
    let catalog = input::recipes(&arguments.source.recipes)?;
    let store = Arc::new(input::store(&arguments.source)?);
    let cells: Vec<Cell> = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).cloned().collect();
    if cells.is_empty() && cut_off.is_none() {
        return Ok(input::no_cell());
    }
    let deny_skips = deny_skips(&arguments.deny_skip, &cells)?;
    let (cells, part) = in_shard(arguments, cells, cut_off.as_ref())?;
    let (resumed, cells) = match cut_off {
        Some(cut_off) => {
            let (resumed, left) = cut_off.go_on(cells);
            resume::tell(&resumed);
            (Some(resumed), left)
        }
        None => (None, cells),
    };
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let builds = Arc::new(Builds::new());
        let architectures: BTreeSet<Architecture> = cells.iter().map(|cell| cell.architecture).collect();
        let native_qemu = architectures.iter().find_map(|architecture| installed_qemu(*architecture));
        let choice = metal(arguments.metal);
        let tried = architectures.into_iter().filter(|_| choice != MetalChoice::Emulated);
        let mut natives = NativeMetals::new();
        for architecture in tried {
            let trial = MachineTrial {
                catalog: &catalog,
                store: Arc::clone(&store),
                progress: Arc::clone(&builds) as _,
                installed: native_qemu.clone(),
                wrapper: tied::wrapper().map_err(Failure::error)?,
                timeout_scale: arguments.timeout_scale(),
                insist: choice == MetalChoice::Native,
            };
            let native = tokio::select! {
                native = trial.run(architecture) => native,
                () = async { signals.cancellation.clone().requested().await } => Err("interrupted".to_owned()),
            };
            natives.insert(architecture, native);
        }
        if let Some(code) = signals.exit_code() {
            // What could not be tried to its end says nothing of any cell.
            eprintln!("interrupted before a cell was planned; nothing is recorded");
            return Ok(ExitCode::from(code));
        }
        let options = PlanOptions {
            metal: choice,
            deny_stand_ins: arguments.selection.deny_stand_ins,
            deny_skips: deny_skips.clone(),
            profile: profile.cloned(),
            suppose_images: false,
            replaces_l0: arguments.kernels.replace_l0(),
        };
        let mut plan = RunPlan::new(cells, &matrix, &catalog, &natives, &options);
        let mut catalog = catalog.clone();
        if !arguments.kernels.is_empty() {
            let substitutes = arguments.kernels.substitutes(&catalog)?;
            let progress = Arc::clone(&builds) as _;
            let put_in = kernels::put_in(plan, substitutes, catalog, Arc::clone(&store), progress);
            (plan, catalog) = tokio::select! {
                done = put_in => done?,
                () = async { signals.cancellation.clone().requested().await } => {
                    eprintln!("interrupted before a cell was booted; nothing is recorded");
                    return Ok(ExitCode::from(signals.exit_code().unwrap_or(ERROR)));
                }
            };
        }
        let made = (catalog, store, builds, native_qemu);
        carry_out(arguments, &plan, (resumed, part), hold, made, signals).await
    })
}

/// The cells that must run. A glob that matches none of this run's would guard nothing.
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

/// The cells of the shard that is wanted, if one is.
fn in_shard(
    arguments: &RunMatrix,
    mut cells: Vec<Cell>,
    cut_off: Option<&CutOff>,
) -> Result<(Vec<Cell>, Option<Part>), Failure> {
    let Some(shard) = arguments.shard else { return Ok((cells, None)) };
    let all = cells.len();
    let names = || cells.iter().map(|cell| &cell.name);
    let mut part = None;
    let chosen = match cut_off {
        // What its history was may have changed since, and with it what is whose.
        Some(cut_off) if !arguments.history.is_empty() => cut_off.planned().iter().cloned().collect(),
        _ => {
            let history: Result<Vec<PastRun>, _> =
                arguments.history.iter().map(|run| PastRun::read(run)).collect();
            let history = history.map_err(|e| Failure::bad_input(miette::miette!("--history: {e}")))?;
            let durations = durations(&history);
            part = Some(Part { shard, division: division(names(), &durations) });
            shard.choose(names(), &durations)
        }
    };
    cells.retain(|cell| chosen.contains(&cell.name));
    eprintln!("shard {shard}: {} of {all} cells", cells.len());
    Ok((cells, part))
}

async fn carry_out(
    arguments: &RunMatrix,
    plan: &RunPlan,
    (resumed, part): (Option<Resumed>, Option<Part>),
    hold: Option<PauseAt>,
    (catalog, store, builds, native_qemu): (Catalog, Arc<Store>, Arc<Builds>, Option<Emulator>),
    signals: Signals,
) -> Result<ExitCode, Failure> {
    let json = arguments.format == Format::Json;
    let jobs = arguments.jobs().unwrap_or_else(probable_jobs);
    let states =
        if arguments.cold { None } else { Some(Arc::new(states::open(&store, arguments.saved_limit)?)) };
    let style = style_of(&std::io::stdout());
    if plan.cells.is_empty() {
        // Of a shard without cells, or of a run that has all its verdicts, there is nothing to be told.
    } else if !json {
        say(&format!("{}\n", report::plan(plan, jobs, states.is_some(), &style)));
    } else if let Some(profile) = report::profile(plan) {
        eprintln!("profile {profile}");
    }
    let bars = builds.bars().clone();
    let desk = hold.and_then(|at| Some(repro::desk(at, &plan.cells.first()?.cell, &bars))).transpose()?;
    let cells = Cells::new(bars.clone(), style_of(&std::io::stderr()), json);
    let listener: Rc<dyn RunListener> = match &desk {
        Some(desk) => Rc::new(repro::Noted { desk: Rc::clone(desk), cells }),
        None => Rc::new(cells),
    };
    let cancellation = match &desk {
        Some(desk) => desk.guard(signals.cancellation.clone()),
        None => signals.cancellation.clone(),
    };
    let setting = Setting {
        catalog: catalog.clone(),
        store: Arc::clone(&store),
        progress: builds,
        native_qemu,
        wrapper: tied::wrapper().map_err(Failure::error)?,
        results: arguments.results.clone().unwrap_or_else(results),
        jobs: arguments.jobs(),
        states,
        timeout_scale: arguments.timeout_scale(),
        repeat: arguments.repeat(),
        arguments: std::env::args().skip(1).collect(),
        part,
        resumed,
        purpose: if desk.is_some() { Purpose::Repro } else { Purpose::Matrix },
        inspector: desk.clone().map(|desk| desk as _),
    };
    // Before this run becomes the `latest` that may be meant.
    let in_results = setting.results.clone();
    let baseline = arguments.baseline.as_ref().and_then(|run| baseline::find(run, &in_results));
    let outcome = execute(plan, setting, listener, cancellation).await.map_err(Failure::error)?;
    write_junit(&outcome.folder, &outcome.run, &outcome.records)?;
    // Fails only if the terminal is gone.
    let _ = bars.clear();
    if json {
        eprintln!("records: {}", outcome.folder.display());
    } else {
        say(&format!("\n{}records: {}\n", report::matrix(&outcome, &style), outcome.folder.display()));
    }
    history::feed(&in_results);
    let held = desk.is_some_and(|desk| desk.was_held());
    if outcome.run.interrupted && !held {
        eprintln!("interrupted: {} of {} cells have a verdict", outcome.records.len(), outcome.run.cells);
    }
    let of_run = match baseline.and_then(|baseline| baseline::beside(baseline, &outcome.folder)) {
        Some(baseline) => {
            let how = (arguments.format, &style);
            baseline::show(&baseline, &outcome.folder, &in_results, how, outcome.run.exit_code())
        }
        None => outcome.run.exit_code(),
    };
    let code = match signals.exit_code() {
        // The signal was meant for the desk, whose stack may have been let go before it had a verdict.
        _ if held && outcome.records.is_empty() => ExitCode::SUCCESS,
        Some(code) if !held => ExitCode::from(code),
        _ if arguments.kernels.is_empty() => ExitCode::from(of_run),
        _ => arguments.kernels.exit_code(&outcome, &catalog, &store),
    };
    if !arguments.kernels.keep_images {
        kernels::discard(catalog.recipes(), &store);
    }
    Ok(code)
}

/// The folder of all runs, where no other is named.
pub fn results() -> PathBuf {
    input::short(checkout()).join("results")
}

/// Writes the run once more as JUnit XML, for CI systems.
pub fn write_junit(folder: &Path, run: &RunRecord, cells: &[CellRecord]) -> Result<(), Failure> {
    let path = folder.join("junit.xml");
    let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let text = report::junit(run, cells, &absolute).map_err(Failure::error)?;
    output::replace(&path, &text)
}

/// Prints what is in the records as well, so that a reader who has gone away does not end the run.
pub fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

pub fn style_of<T: AsFd + IsTerminal>(stream: &T) -> Style {
    if !stream.is_terminal() {
        return Style::plain();
    }
    let width = terminal_size_of(stream).map(|(width, _)| usize::from(width.0));
    Style::for_terminal(width.filter(|width| *width > 0), |name| std::env::var_os(name))
}

pub fn metal(argument: MetalArgument) -> MetalChoice {
    match argument {
        MetalArgument::Auto => MetalChoice::Auto,
        MetalArgument::Native => MetalChoice::Native,
        MetalArgument::Emulated => MetalChoice::Emulated,
    }
}

/// This machine's own QEMU: on native metal it is L0's, and so part of what is tried.
pub fn installed_qemu(architecture: Architecture) -> Option<Emulator> {
    if Some(architecture.isa()) != Isa::of_this_machine() {
        return None;
    }
    let program = ArchInfo::of(architecture).qemu;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates: Vec<PathBuf> =
        std::env::split_paths(&path).map(|folder| folder.join(program)).collect();
    // Where RHEL keeps it.
    candidates.push(PathBuf::from("/usr/libexec/qemu-kvm"));
    let program = candidates.into_iter().find(|candidate| candidate.is_file())?;
    Some(Emulator::Installed(program))
}

/// One cell a core, within memory: an estimate, since cells are started by what those before them used.
fn probable_jobs() -> usize {
    let machine = nestmatrix::records::Machine::this();
    let by_memory = usize::try_from(machine.available_memory_mib() / CELL_MEMORY_MIB).unwrap_or(1);
    machine.cores.min(by_memory).max(1)
}

fn checkout() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
