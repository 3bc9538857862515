//! Carries out a plan: images are made ready, cells are booted side by side, each verdict is recorded as it is known.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use nestmatrix_images::{Catalog, Error, Image, Product, Progress, Store};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_stack::host::{Emulator, Scratch};
use nestmatrix_stack::{Cancellation, Inspector, Metal, SnapshotCache, SnapshotKey};
use nestmatrix_vmm::qemu::ExecWrapper;
use tokio::sync::Notify;
use tokio::task::JoinError;

use super::cell::Done;
use super::panic::caught;
use super::schedule::Schedule;
use super::{Fate, Planned, Rerouted, RunEvent, RunListener, RunPlan};
use crate::records::{
    Begun, CellRecord, FORMAT, Machine, Outcome, Part, Purpose, Resumed, RunFolder, RunRecord, Tally,
    UndeliveredImage, build, now,
};
use crate::scenario::{Cell, CellName};

/// What a run is carried out with.
pub struct Setting {
    /// Recipes.
    pub catalog: Catalog,
    /// Images.
    pub store: Arc<Store>,
    /// Told of builds and downloads.
    pub progress: Arc<dyn Progress + Send + Sync>,
    /// QEMU for native metal, if this machine has one of its own; its emulator image is used otherwise.
    pub native_qemu: Option<Emulator>,
    /// Ties the life of whatever is started to the harness's.
    pub wrapper: ExecWrapper,
    /// Folder of all runs.
    pub results: PathBuf,
    /// How many cells run side by side; as many as this machine has room for, if that is not said.
    pub jobs: Option<usize>,
    /// Saved states, if stacks go on from them and leave new ones.
    pub states: Option<Arc<SnapshotCache>>,
    /// What all limits are multiplied by.
    pub timeout_scale: f64,
    /// How often each cell is booted. Where its verdicts differ, it is flaky.
    pub repeat: usize,
    /// The command line's arguments, for the record.
    pub arguments: Vec<String>,
    /// The shard whose cells are planned, if they are those of one.
    pub part: Option<Part>,
    /// The run that is gone on with, if it is none of its own. The plan is of the cells that it still lacks.
    pub resumed: Option<Resumed>,
    /// What it is made for.
    pub purpose: Purpose,
    /// Holds the stacks, if they are to be held; only where there is one cell.
    pub inspector: Option<Rc<dyn Inspector>>,
}

/// Why a run can't go on. Cells have verdicts; this is for what no cell can be blamed for.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The records can't be written.
    #[error("failed to write the run's records in {}: {source}", .path.display())]
    Records {
        /// Where.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The private folder for sockets can't be made.
    #[error("failed to make a private folder for sockets: {0}")]
    Scratch(std::io::Error),
    /// There is no recipe for an emulator that runs on this machine.
    #[error("no recipe for {program} on {isa} machines")]
    NoEmulator {
        /// The emulator.
        program: String,
        /// This machine's instruction set.
        isa: String,
    },
    /// Making the images ready did not come to its end.
    #[error("failed to make the images ready: {0}")]
    Provision(JoinError),
    /// The operating system gives no random numbers, so no nonce.
    #[error("failed to read a nonce from /dev/urandom: {0}")]
    Nonce(std::io::Error),
}

/// Images by recipe and product, or why one can't be had.
pub(super) type Images = BTreeMap<(String, Product), Result<Image, String>>;

pub(super) struct Run {
    pub(super) setting: Setting,
    pub(super) listener: Rc<dyn RunListener>,
    pub(super) cancellation: Cancellation,
    pub(super) images: Images,
    pub(super) scratch: Scratch,
    pub(super) folder: PathBuf,
    pub(super) began: Instant,
    pub(super) machine: Machine,
    /// What names this program: its scripts are in the levels of saved states.
    pub(super) build: String,
    /// What became of states since the schedule was told.
    pub(super) states: RefCell<Vec<StateNews>>,
    /// Rung when there is something to tell it.
    pub(super) news: Notify,
}

/// What became of a state.
pub(super) enum StateNews {
    /// It is there now.
    Saved(SnapshotKey),
    /// It can't be used.
    Lost(SnapshotKey),
}

impl Run {
    /// Tells the schedule what became of states.
    fn tell(&self, schedule: &mut Schedule) {
        for news in self.states.borrow_mut().drain(..) {
            match news {
                StateNews::Saved(key) => schedule.is_saved(&key),
                StateNews::Lost(key) => schedule.is_lost(&key),
            }
        }
    }
}

/// Carries out `plan`. Must be called within a [`tokio::task::LocalSet`], on the thread that lives as long as the process
/// does.
///
/// # Errors
/// What no single cell can be blamed for.
pub async fn execute(
    plan: &RunPlan,
    mut setting: Setting,
    listener: Rc<dyn RunListener>,
    cancellation: Cancellation,
) -> Result<Outcome, RunError> {
    let called = Instant::now();
    let results = setting.results.clone();
    let cannot_record = |source| RunError::Records { path: results.clone(), source };
    let scratch = Scratch::create().map_err(RunError::Scratch)?;
    let build = build();
    let begun = match setting.resumed.take() {
        Some(resumed) => resumed.begin(&build, &setting.arguments),
        None => begin(plan, &setting, called, &build),
    };
    let Begun { mut folder, mut record, done, cells: all, began } = begun.map_err(cannot_record)?;
    folder.write_run(&record).map_err(cannot_record)?;

    let mut done: BTreeMap<CellName, CellRecord> =
        done.into_iter().map(|record| (record.cell.clone(), record)).collect();
    let mut known = BTreeSet::new();
    let mut take = |cell: CellRecord, record: &mut RunRecord, folder: &mut RunFolder| {
        record.verdicts.add(&cell);
        folder.append(&cell)?;
        listener.event(&RunEvent::CellEnded { record: &cell });
        done.insert(cell.cell.clone(), cell);
        Ok(())
    };
    for (cell, skipped) in skipped(plan) {
        take(skipped, &mut record, &mut folder).map_err(cannot_record)?;
        known.insert(cell);
    }

    let mut stopping = cancellation.clone();
    let mut plan = plan.clone();
    let images = tokio::select! {
        images = provision(&mut plan, &setting) => Some(images?),
        () = stopping.requested() => None,
    };
    let (images, undelivered) = images.unwrap_or_default();
    plan.skip_for_errata(|planned| emulator_version(planned, &setting.catalog, &images));
    for (image, rerouted) in undelivered {
        listener.event(&RunEvent::Undelivered { image: &image, rerouted });
        record.undelivered.retain(|before| before.recipe != image.recipe);
        record.undelivered.push(image);
    }
    for (cell, skipped) in skipped(&plan) {
        if known.insert(cell) {
            take(skipped, &mut record, &mut folder).map_err(cannot_record)?;
        }
    }
    let emulators = images.iter().filter(|((_, product), _)| *product == Product::Emulator);
    let emulators = emulators.filter_map(|(_, image)| {
        let program = image.as_ref().ok()?.qemu_version()?;
        Some(format!("{} {}", program.package, program.version))
    });
    record.emulators.extend(emulators);
    record.emulators.sort();
    record.emulators.dedup();
    let run = Rc::new(Run {
        setting,
        listener: Rc::clone(&listener),
        cancellation: cancellation.clone(),
        images,
        scratch,
        folder: folder.path().to_owned(),
        began,
        // Who goes on with a run may be on another one than that on which it began.
        machine: Machine::this(),
        build,
        states: RefCell::default(),
        news: Notify::new(),
    });
    let mut schedule = run.schedule(&plan);
    // Dropped with its tasks when this function returns early, and with them every QEMU.
    let mut cells = tokio::task::JoinSet::new();
    // What the tasks are for: one that panics can't say.
    let mut running = BTreeMap::new();
    loop {
        if cancellation.is_requested() {
            schedule.give_up();
        }
        run.tell(&mut schedule);
        while let Some(choice) = schedule.next() {
            let run = Rc::clone(&run);
            let planned = plan.cells[choice.task.index].clone();
            let (began, of_cell) = (run.began.elapsed(), choice.clone());
            let task = cells.spawn_local(async move { run.cell(&planned, &of_cell).await });
            running.insert(task.id(), (choice, began));
        }
        tokio::select! {
            joined = cells.join_next_with_id() => {
                let Some(joined) = joined else { break };
                let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                let Some((choice, began)) = running.remove(&id) else { continue };
                let Done { record: cell, usage } = match joined {
                    Ok((_, done)) => done?,
                    Err(e) => run.panicked(&plan.cells[choice.task.index], &choice, began, e),
                };
                run.tell(&mut schedule);
                schedule.ended(&choice, usage);
                if let Some(cell) = cell {
                    take(*cell, &mut record, &mut folder).map_err(cannot_record)?;
                }
            }
            () = run.news.notified() => {}
        }
    }

    record.ended = Some(now());
    // A stack that was held on its way and came to no end has no verdict either.
    record.interrupted = cancellation.is_requested() || done.len() < all.len();
    folder.write_run(&record).map_err(cannot_record)?;
    let records = all.iter().filter_map(|cell| done.remove(cell)).collect();
    Ok(Outcome { folder: folder.path().to_owned(), run: record, records, took: called.elapsed() })
}

/// Makes the folder of a run that begins.
fn begin(plan: &RunPlan, setting: &Setting, began: Instant, build: &str) -> std::io::Result<Begun> {
    let folder = match setting.purpose {
        Purpose::Matrix => RunFolder::create(&setting.results)?,
        Purpose::Repro | Purpose::Bisect | Purpose::Mutation => RunFolder::create_aside(&setting.results)?,
    };
    let cells: Vec<CellName> = plan.cells.iter().map(|planned| planned.cell.name.clone()).collect();
    folder.write_cells(&cells)?;
    let record = RunRecord {
        format: FORMAT,
        nestmatrix: env!("CARGO_PKG_VERSION").to_owned(),
        build: Some(build.to_owned()),
        run: folder.name(),
        purpose: setting.purpose,
        began: now(),
        ended: None,
        interrupted: false,
        arguments: setting.arguments.clone(),
        // One that is no text can't be recorded.
        working_folder: std::env::current_dir().ok().filter(|folder| folder.to_str().is_some()),
        machine: Machine::this(),
        emulators: Vec::new(),
        undelivered: Vec::new(),
        profile: plan.profile.as_ref().map(|profile| profile.name.clone()),
        shard: setting.part.as_ref().map(|part| part.shard),
        division: setting.part.as_ref().map(|part| part.division.clone()),
        cells: cells.len(),
        verdicts: Tally::default(),
        resumed: Vec::new(),
        merged: Vec::new(),
        conflicts: Vec::new(),
        missing_shards: Vec::new(),
        missing_cells: Vec::new(),
    };
    Ok(Begun { folder, record, done: Vec::new(), cells, began })
}

/// The cells that are skipped, with their records.
fn skipped(plan: &RunPlan) -> Vec<(CellName, CellRecord)> {
    let record = |planned: &Planned| match &planned.fate {
        Fate::Skipped(reasons) => {
            let record = CellRecord::skipped(&planned.cell, reasons, planned.must_run);
            Some((planned.cell.name.clone(), record))
        }
        Fate::Boots { .. } => None,
    };
    plan.cells.iter().filter_map(record).collect()
}

/// Makes every image ready that the plan needs. Where the archive does not deliver one, the plan does without it. What else
/// keeps an image from being built is an error of the cells that need it.
async fn provision(
    plan: &mut RunPlan,
    setting: &Setting,
) -> Result<(Images, Vec<(UndeliveredImage, Rerouted)>), RunError> {
    let installed = setting.native_qemu.is_some();
    let mut images = Images::new();
    let mut undelivered: Vec<UndeliveredImage> = Vec::new();
    let mut told = Vec::new();
    loop {
        // Emulators go first: without one, nothing else of its cells need be built.
        let mut wanted = emulators(plan, &setting.catalog, installed)?;
        wanted.retain(|key| !images.contains_key(key));
        if wanted.is_empty() {
            wanted.extend(plan.images().into_iter().filter(|key| !images.contains_key(key)));
        }
        if wanted.is_empty() {
            return Ok((images, told));
        }
        let (built, missing) = build_images(wanted, setting).await?;
        images.extend(built);
        for image in missing {
            undelivered.push(image.clone());
            let mut rerouted = plan.do_without(&undelivered);
            let needs = |planned: &Planned| {
                let emulator = emulator(planned, &setting.catalog, installed);
                emulator.is_ok_and(|emulator| emulator.is_some_and(|recipe| recipe == image.recipe))
            };
            rerouted.skipped += plan.skip_without_emulator(&image, needs);
            told.push((image, rerouted));
        }
    }
}

/// Builds images, or finds them in the cache. The second result is what the archive does not deliver.
async fn build_images(
    wanted: BTreeSet<(String, Product)>,
    setting: &Setting,
) -> Result<(Images, Vec<UndeliveredImage>), RunError> {
    let (store, progress) = (Arc::clone(&setting.store), Arc::clone(&setting.progress));
    let recipes: Vec<_> = wanted
        .into_iter()
        .map(|(name, product)| (setting.catalog.get(&name).cloned(), name, product))
        .collect();
    let built = tokio::task::spawn_blocking(move || {
        let mut images = Images::new();
        let mut undelivered: Vec<UndeliveredImage> = Vec::new();
        for (recipe, name, product) in recipes {
            let known = undelivered.iter().find(|image| image.recipe == name);
            let image = match (recipe, known) {
                (None, _) => Err(format!("there is no recipe {name}")),
                // All products of a recipe are made of the same packages.
                (Some(_), Some(image)) => Err(image.to_string()),
                (Some(recipe), None) => {
                    let built = caught(|| store.ensure(&recipe, product, &*progress));
                    built.and_then(|built| {
                        built.map_err(|e| match e {
                            Error::Undelivered(packages) => {
                                let image = UndeliveredImage::new(&name, *packages);
                                let said = image.to_string();
                                undelivered.push(image);
                                said
                            }
                            other => other.to_string(),
                        })
                    })
                }
            };
            images.insert((name, product), image);
        }
        (images, undelivered)
    });
    built.await.map_err(RunError::Provision)
}

/// Every image that a plan needs on this machine, by recipe and product. With `installed`, native metal uses the QEMU that is
/// installed here.
///
/// # Errors
/// There is no recipe for an emulator.
pub fn images_of(
    plan: &RunPlan,
    catalog: &Catalog,
    installed: bool,
) -> Result<BTreeSet<(String, Product)>, RunError> {
    let mut images = emulators(plan, catalog, installed)?;
    images.extend(plan.images());
    Ok(images)
}

/// Every emulator that the plan's outermost levels are run by, but for a QEMU that is installed.
fn emulators(
    plan: &RunPlan,
    catalog: &Catalog,
    installed: bool,
) -> Result<BTreeSet<(String, Product)>, RunError> {
    let recipes = plan.cells.iter().filter_map(|planned| emulator(planned, catalog, installed).transpose());
    recipes.map(|recipe| Ok((recipe?, Product::Emulator))).collect()
}

/// The recipe of the emulator that runs the outermost level of a cell, if it is booted by one that is not installed.
fn emulator(planned: &Planned, catalog: &Catalog, installed: bool) -> Result<Option<String>, RunError> {
    match planned.fate {
        Fate::Boots { metal: Metal::Native, .. } if installed => Ok(None),
        Fate::Boots { metal, .. } => {
            let profile = ArchInfo::of(planned.cell.architecture);
            let program = runs_outermost(profile, metal, emulator_is_l0(&planned.cell));
            emulator_recipe(catalog, program).map(Some)
        }
        Fate::Skipped(_) => Ok(None),
    }
}

/// The version of the package of the emulator that plays a cell's metal, if that is an image that was built.
fn emulator_version(planned: &Planned, catalog: &Catalog, images: &Images) -> Option<String> {
    let recipe = emulator(planned, catalog, false).ok()??;
    let image = images.get(&(recipe, Product::Emulator))?.as_ref().ok()?;
    Some(image.qemu_version()?.version.clone())
}

/// The program that runs the outermost level that is booted.
pub(crate) fn runs_outermost(profile: &ArchInfo, metal: Metal, emulator_is_l0: bool) -> &'static str {
    match metal {
        Metal::Emulated if !emulator_is_l0 => profile.metal.program(profile.qemu),
        Metal::Native | Metal::Emulated => profile.qemu,
    }
}

/// Whether QEMU's own emulation is the hypervisor of L0.
pub(crate) fn emulator_is_l0(cell: &Cell) -> bool {
    cell.levels.first().is_some_and(|spec| spec.system.is_emulator())
}

/// What Debian, and with it the recipes, calls this machine's instruction set.
pub fn host_isa() -> &'static str {
    // Rust's names of architectures are the kernel's.
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64el",
        other => other,
    }
}

/// The recipe of the emulator `program` that runs on this machine.
///
/// # Errors
/// There is none.
pub(crate) fn emulator_recipe(catalog: &Catalog, program: &str) -> Result<String, RunError> {
    let isa = host_isa();
    let runs_here = |recipe: &&nestmatrix_images::Recipe| {
        recipe.architecture().debian() == isa && recipe.emulator() == Some(program)
    };
    let recipe = catalog.recipes().find(runs_here);
    let recipe =
        recipe.ok_or_else(|| RunError::NoEmulator { program: program.to_owned(), isa: isa.to_owned() })?;
    Ok(recipe.name().to_owned())
}

/// An emulator image as what runs the outermost level.
pub(crate) fn emulator_of(image: Image) -> Option<Emulator> {
    nestmatrix_images::Emulator::new(image).map(|image| Emulator::Image(Box::new(image)))
}

/// A fresh number that no earlier guest can know.
pub(crate) fn nonce() -> Result<String, RunError> {
    let mut bytes = [0_u8; 16];
    let mut source = std::fs::File::open("/dev/urandom").map_err(RunError::Nonce)?;
    source.read_exact(&mut bytes).map_err(RunError::Nonce)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
