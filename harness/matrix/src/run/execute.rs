//! Carries out a plan: makes images ready, boots cells in parallel, and records each verdict as soon as it is known.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use nestmatrix_images::Product;
use nestmatrix_stack::Cancellation;
use nestmatrix_stack::host::Scratch;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};

use super::cell::Done;
use super::cell_folders::CellFolders;
use super::first_cells::first_cells;
use super::l0_restoration::continue_after_reboot;
use super::overlays::Overlays;
use super::progress::Pace;
use super::provision::{Images, build_images, emulator_version, images_of, provision};
use super::ready_cell::{Readiness, ReadyCell};
use super::recorder::Recorder;
use super::schedule::Schedule;
use super::snapshots::SnapshotNews;
use super::tasks::schedule_of;
use super::{Fate, Planned, RunError, RunEvent, RunListener, RunPlan, Setting};
use crate::records::{Machine, Outcome, build};

/// What the tasks of a run's cells share.
pub(super) struct Run {
    pub(super) setting: Setting,
    pub(super) listener: Rc<dyn RunListener>,
    pub(super) cancellation: Cancellation,
    pub(super) folder: PathBuf,
    pub(super) began: Instant,
    /// What happened to snapshots since the schedule was updated.
    pub(super) snapshot_news: RefCell<Vec<SnapshotNews>>,
    /// Wakes the task that updates the schedule.
    pub(super) has_news: Notify,
    /// Makes the overlays that levels from disks write to.
    pub(super) overlays: Overlays,
    /// Why this machine, a disposable host, could not be restored, if so. No further cell boots then.
    pub(super) host_problem: RefCell<Option<String>>,
    /// Whether this machine has to be rebooted for a cell. No further cell boots before that.
    pub(super) awaits_reboot: Cell<bool>,
    /// The folders of all sockets and disks. They stay until the last task has ended, and with it the last emulator.
    _scratch: [Scratch; 2],
}

/// Carries out `plan`. Must be called within a [`tokio::task::LocalSet`], on the thread that lives as long as the process
/// does.
///
/// # Errors
/// An error that no single cell can be blamed for.
pub async fn execute(
    plan: &RunPlan,
    mut setting: Setting,
    listener: Rc<dyn RunListener>,
    cancellation: Cancellation,
) -> Result<Outcome, RunError> {
    let scratch = scratch(&setting)?;
    let mut recorder = Recorder::begin(plan, &mut setting, Rc::clone(&listener))?;
    recorder.take_skipped(plan)?;

    let mut plan = plan.clone();
    let mut ended = Vec::new();
    if let Some(first) = first_cells(&plan, &setting)? {
        let run = (setting.of_part(), Rc::clone(&listener), cancellation.clone());
        boot_first(first, &plan, run, &mut recorder).await?;
        let (known, rest) = plan.cells.into_iter().partition(|planned| recorder.has(&planned.cell.name));
        plan.cells = rest;
        ended = typical_seconds(&known);
    }
    let mut stopping = cancellation.clone();
    let provisioned = tokio::select! {
        provisioned = provision(&mut plan, &mut setting, &cancellation) => Some(provisioned?),
        () = stopping.requested() => None,
    };
    let (images, undelivered) = provisioned.unwrap_or_default();
    plan.skip_for_errata(|planned| emulator_version(planned, &setting.catalog, &images));
    for (image, rerouted) in undelivered {
        recorder.take_undelivered(image, rerouted);
    }
    let others = OtherCells { ended, later: Vec::new() };
    let run = (setting, listener, cancellation);
    let is_cancelled = boot(&plan, &images, run, scratch, &others, &mut recorder).await?;
    recorder.end(is_cancelled)
}

/// Boots cells that need few new images while those of the whole plan are built. What has no verdict afterwards is left to the rest of
/// the run.
async fn boot_first(
    mut first: RunPlan,
    plan: &RunPlan,
    (mut setting, listener, cancellation): (Setting, Rc<dyn RunListener>, Cancellation),
    recorder: &mut Recorder,
) -> Result<(), RunError> {
    let mut stopping = cancellation.clone();
    let (images, undelivered) = tokio::select! {
        provisioned = provision(&mut first, &mut setting, &cancellation) => provisioned?,
        () = stopping.requested() => return Ok(()),
    };
    if !undelivered.is_empty() {
        // What the cells boot instead depends on all images.
        return Ok(());
    }
    first.skip_for_errata(|planned| emulator_version(planned, &setting.catalog, &images));
    let rest = images_of(plan, &setting.catalog, setting.native_qemu.is_some())?;
    let rest = rest.into_iter().filter(|(_, product)| *product != Product::Disk).collect();
    let others = {
        let boots = |planned: &&Planned| !first.cells.iter().any(|of| of.cell.name == planned.cell.name);
        OtherCells { ended: Vec::new(), later: typical_seconds(plan.cells.iter().filter(boots)) }
    };
    let scratch = scratch(&setting)?;
    // One at a time: the cells that boot meanwhile need the other cores.
    let images_of_rest = build_images(rest, &setting, 1);
    let building = async {
        // The rest of the run comes to the same result, and reports it.
        tokio::select! {
            _ = images_of_rest => {}
            () = stopping.requested() => {}
        }
    };
    let run = (setting.of_part(), listener, cancellation);
    let booting = boot(&first, &images, run, scratch, &others, recorder);
    let ((), is_cancelled) = tokio::join!(building, booting);
    is_cancelled.map(drop)
}

/// The cells of a run that are not booted now, by their typical times in seconds.
struct OtherCells {
    ended: Vec<f64>,
    later: Vec<f64>,
}

impl OtherCells {
    /// Whether the cells that are booted now are the run's first, and others come later.
    fn come_later(&self) -> bool {
        self.ended.is_empty() && !self.later.is_empty()
    }
}

fn typical_seconds<'a>(cells: impl IntoIterator<Item = &'a Planned>) -> Vec<f64> {
    let seconds = |planned: &Planned| match planned.fate {
        Fate::Boots { metal, .. } => Some(planned.typical_seconds(metal)),
        Fate::Skipped(_) => None,
    };
    cells.into_iter().filter_map(seconds).collect()
}

/// New folders for sockets and for disks.
fn scratch(setting: &Setting) -> Result<[Scratch; 2], RunError> {
    let sockets = Scratch::create().map_err(RunError::Sockets)?;
    let cache = setting.store.cache();
    let in_cache = |source| RunError::Scratch { cache: cache.to_owned(), source };
    Ok([sockets, Scratch::create_on_disk(cache).map_err(in_cache)?])
}

/// Boots the cells of a plan whose images were made ready. Returns whether the run was cancelled.
async fn boot(
    plan: &RunPlan,
    images: &Images,
    (setting, listener, cancellation): (Setting, Rc<dyn RunListener>, Cancellation),
    scratch: [Scratch; 2],
    others: &OtherCells,
    recorder: &mut Recorder,
) -> Result<bool, RunError> {
    recorder.take_skipped(plan)?;
    let installed = plan.installed_emulators_in(&setting.catalog);
    recorder.take_emulators(images.emulator_packages().into_iter().chain(installed).collect());

    // A resumed run may be on another machine than the one on which it began.
    let machine = Machine::this();
    let (build, processor) = (build(), &machine.processor);
    let readiness = Readiness { setting: &setting, images, build: &build, processor };
    let cells = plan.cells.iter().enumerate();
    let cells = cells.filter_map(|(index, planned)| {
        let [sockets, files] = scratch.each_ref().map(|folder| folder.path().join(index.to_string()));
        readiness.cell(planned, CellFolders { sockets, files })
    });
    let mut cells: Vec<ReadyCell> = cells.collect();
    continue_after_reboot(&mut cells, recorder.folder()).map_err(RunError::Host)?;
    let cells: Vec<Rc<ReadyCell>> = cells.into_iter().map(Rc::new).collect();
    let overlays = Overlays::find(&cells, &setting).await;
    let schedule = schedule_of(&cells, &setting, &machine, others.come_later());
    let typical = others.ended.iter().copied().chain(schedule.typical_seconds());
    let typical = typical.chain(others.later.iter().copied());
    let mut pace = Pace::new(typical, setting.jobs.unwrap_or(machine.cores));
    others.ended.iter().for_each(|seconds| pace.ended(*seconds));
    let run = Run {
        setting,
        listener,
        cancellation,
        folder: recorder.folder().to_owned(),
        began: recorder.began(),
        snapshot_news: RefCell::default(),
        has_news: Notify::new(),
        overlays,
        host_problem: RefCell::default(),
        awaits_reboot: Cell::default(),
        _scratch: scratch,
    };
    Rc::new(run).all(&cells, schedule, pace, recorder).await
}

impl Run {
    /// Boots all cells, as many in parallel as the schedule says. Returns whether the run was cancelled.
    async fn all(
        self: Rc<Self>,
        ready: &[Rc<ReadyCell>],
        mut schedule: Schedule,
        mut pace: Pace,
        recorder: &mut Recorder,
    ) -> Result<bool, RunError> {
        let booting = Instant::now();
        self.listener.event(&RunEvent::Progress(pace.progress(0.0)));
        // If this function returns early, the tasks are dropped, and every QEMU with them.
        let mut tasks = JoinSet::new();
        // The cell of each task: a task that panics can't name it.
        let mut running = BTreeMap::new();
        loop {
            if self.is_ending() {
                schedule.give_up();
            }
            self.update(&mut schedule);
            while let Some(dispatch) = schedule.next() {
                let (run, began) = (Rc::clone(&self), self.began.elapsed());
                let (cell, of_cell) = (Rc::clone(&ready[dispatch.task.index]), dispatch.clone());
                let task = tasks.spawn_local(async move { run.cell(&cell, &of_cell).await });
                running.insert(task.id(), (dispatch, began));
            }
            tokio::select! {
                joined = tasks.join_next_with_id() => {
                    let Some(joined) = joined else { break };
                    let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                    let Some((dispatch, began)) = running.remove(&id) else { continue };
                    let Done { record, usage } = match joined {
                        Ok((_, done)) => done?,
                        Err(e) => self.panicked(&ready[dispatch.task.index], &dispatch, began, e),
                    };
                    self.update(&mut schedule);
                    schedule.ended(&dispatch, usage);
                    pace.ended(dispatch.task.seconds);
                    let progress = pace.progress(booting.elapsed().as_secs_f64());
                    self.listener.event(&RunEvent::Progress(progress));
                    if let Some(record) = record {
                        recorder.take(*record)?;
                    }
                }
                () = self.has_news.notified() => {}
            }
        }
        Ok(self.is_ending())
    }

    /// Whether no further cell boots.
    fn is_ending(&self) -> bool {
        self.cancellation.is_requested() || self.host_problem.borrow().is_some() || self.awaits_reboot.get()
    }
}
