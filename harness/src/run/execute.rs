//! Carries out a plan: images are made ready, cells are booted side by side, each verdict is recorded as it is known.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nestmatrix_images::{Catalog, Image, Product, Progress, Store};
use tokio::sync::mpsc;

use crate::architecture::Profile;
use crate::host::{Emulator, ThisMachine};
use crate::qemu::ExecWrapper;
use crate::scenario::{Cell, CellName, Stage, Step};
use crate::stack::{
    Cancellation, LevelPlan, Limits, Metal, Observation, StackPlan, StageListener, Stop, boot,
};

use super::record::{ImageRecord, Machine, now};
use super::{
    Attempt, CellRecord, FORMAT, Fate, LevelRecord, Planned, PlannedLevel, RunEvent, RunFolder, RunListener,
    RunPlan, RunRecord, Scratch, Tally, Verdict,
};

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
    /// How many cells run side by side.
    pub jobs: usize,
    /// What all limits are multiplied by.
    pub timeout_scale: f64,
    /// The command line's arguments, for the record.
    pub arguments: Vec<String>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Its folder.
    pub folder: PathBuf,
    /// Every cell's record, in the order of the plan.
    pub records: Vec<CellRecord>,
    /// How many cells got which verdict.
    pub tally: Tally,
    /// Whether somebody asked it to end before it was through.
    pub interrupted: bool,
    /// How long it took.
    pub took: Duration,
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
    /// The operating system gives no random numbers, so no nonce.
    #[error("failed to read a nonce from /dev/urandom: {0}")]
    Nonce(std::io::Error),
}

/// Size of a level's own disk, which holds a few lines of configuration.
const DISK_BYTES: u64 = 4 << 20;

/// Images by recipe and product, or why one can't be had.
type Images = BTreeMap<(String, Product), Result<Image, String>>;

struct Run {
    setting: Setting,
    listener: Rc<dyn RunListener>,
    cancellation: Cancellation,
    images: Images,
    scratch: Scratch,
    folder: PathBuf,
    began: Instant,
}

/// Carries out `plan`. Must be called within a [`tokio::task::LocalSet`], on the thread that lives as long as the process
/// does.
///
/// # Errors
/// What no single cell can be blamed for.
pub async fn execute(
    plan: &RunPlan,
    setting: Setting,
    listener: Rc<dyn RunListener>,
    cancellation: Cancellation,
) -> Result<Outcome, RunError> {
    let began = Instant::now();
    let results = setting.results.clone();
    let cannot_record = |source| RunError::Records { path: results.clone(), source };
    let scratch = Scratch::create().map_err(RunError::Scratch)?;
    let mut folder = RunFolder::create(&setting.results).map_err(cannot_record)?;
    let mut record = RunRecord {
        format: FORMAT,
        nestmatrix: env!("CARGO_PKG_VERSION").to_owned(),
        run: folder.name(),
        began: now(),
        ended: None,
        interrupted: false,
        arguments: setting.arguments.clone(),
        machine: Machine::this(),
        emulators: Vec::new(),
        profile: plan.profile.as_ref().map(|profile| profile.name.clone()),
        cells: plan.cells.len(),
        verdicts: Tally::default(),
    };
    folder.write_run(&record).map_err(cannot_record)?;

    let mut done: BTreeMap<CellName, CellRecord> = BTreeMap::new();
    let mut take = |cell: CellRecord, record: &mut RunRecord, folder: &mut RunFolder| {
        record.verdicts.add(cell.verdict, &cell.expectation);
        folder.append(&cell)?;
        listener.event(&RunEvent::CellEnded { record: &cell });
        done.insert(cell.cell.clone(), cell);
        Ok(())
    };
    for (cell, reasons) in plan.skipped() {
        take(CellRecord::skipped(cell, reasons), &mut record, &mut folder).map_err(cannot_record)?;
    }

    let queue: VecDeque<Planned> = plan.boots().cloned().collect();
    let mut stopping = cancellation.clone();
    let images = tokio::select! {
        images = provision(plan, &setting) => images?,
        () = stopping.requested() => Images::new(),
    };
    let emulators = images.iter().filter(|((_, product), _)| *product == Product::Emulator);
    let emulators = emulators.filter_map(|(_, image)| {
        let program = image.as_ref().ok()?.qemu_version()?;
        Some(format!("{} {}", program.package, program.version))
    });
    record.emulators = emulators.collect();
    let jobs = setting.jobs.max(1);
    let run = Rc::new(Run {
        setting,
        listener: Rc::clone(&listener),
        cancellation: cancellation.clone(),
        images,
        scratch,
        folder: folder.path().to_owned(),
        began,
    });
    let queue = Rc::new(RefCell::new(queue));
    let (sender, mut ended) = mpsc::unbounded_channel();
    // Dropped with its tasks when this function returns early, and with them every QEMU.
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..jobs {
        let (run, queue, sender) = (Rc::clone(&run), Rc::clone(&queue), sender.clone());
        workers.spawn_local(async move {
            loop {
                let next =
                    if run.cancellation.is_requested() { None } else { queue.borrow_mut().pop_front() };
                let Some(planned) = next else { return };
                if let Some(record) = run.cell(&planned, number).await.transpose()
                    && sender.send(record).is_err()
                {
                    return;
                }
            }
        });
    }
    drop(sender);
    while let Some(cell) = ended.recv().await {
        take(cell?, &mut record, &mut folder).map_err(cannot_record)?;
    }
    while workers.join_next().await.is_some() {}

    record.ended = Some(now());
    record.interrupted = cancellation.is_requested();
    folder.write_run(&record).map_err(cannot_record)?;
    let records = plan.cells.iter().filter_map(|planned| done.remove(&planned.cell.name)).collect();
    let (tally, interrupted) = (record.verdicts, record.interrupted);
    Ok(Outcome { folder: folder.path().to_owned(), records, tally, interrupted, took: began.elapsed() })
}

/// Makes every image ready that the plan needs. What can't be had is an error of the cells that need it.
async fn provision(plan: &RunPlan, setting: &Setting) -> Result<Images, RunError> {
    let mut wanted = plan.images();
    if wanted.is_empty() {
        return Ok(Images::new());
    }
    wanted.extend(emulators(plan, &setting.catalog, setting.native_qemu.is_some())?);
    let (store, progress) = (Arc::clone(&setting.store), Arc::clone(&setting.progress));
    let recipes: Vec<_> = wanted
        .into_iter()
        .filter_map(|(name, product)| Some((setting.catalog.get(&name)?.clone(), product)))
        .collect();
    let built = tokio::task::spawn_blocking(move || {
        let ensure = |(recipe, product): (nestmatrix_images::Recipe, Product)| {
            let image = store.ensure(&recipe, product, &*progress).map_err(|e| e.to_string());
            ((recipe.name().to_owned(), product), image)
        };
        recipes.into_iter().map(ensure).collect::<Images>()
    });
    Ok(built.await.unwrap_or_default())
}

/// Every emulator that the plan's outermost levels are run by, but for a QEMU that is installed.
fn emulators(
    plan: &RunPlan,
    catalog: &Catalog,
    installed: bool,
) -> Result<BTreeSet<(String, Product)>, RunError> {
    let programs: BTreeSet<&str> = plan
        .boots()
        .filter_map(|planned| match planned.fate {
            Fate::Boots { metal: Metal::Native, .. } if installed => None,
            Fate::Boots { metal, .. } => Some(runs_outermost(
                Profile::of(planned.cell.architecture),
                metal,
                emulator_is_l0(&planned.cell),
            )),
            Fate::Skipped(_) => None,
        })
        .collect();
    let recipe = |program| Ok((emulator_recipe(catalog, program)?, Product::Emulator));
    programs.into_iter().map(recipe).collect()
}

/// The program that runs the outermost level that is booted.
fn runs_outermost(profile: &Profile, metal: Metal, emulator_is_l0: bool) -> &'static str {
    match metal {
        Metal::Emulated if !emulator_is_l0 => profile.metal.program(profile.qemu),
        Metal::Native | Metal::Emulated => profile.qemu,
    }
}

/// Whether QEMU's own emulation is the hypervisor of L0.
fn emulator_is_l0(cell: &Cell) -> bool {
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

struct CellStages {
    cell: CellName,
    listener: Rc<dyn RunListener>,
}

impl StageListener for CellStages {
    fn stage_began(&self, stage: Stage) {
        self.listener.event(&RunEvent::StageBegan { cell: &self.cell, stage });
    }
}

impl Run {
    /// Boots and judges one cell; no record if it was interrupted.
    async fn cell(&self, planned: &Planned, worker: usize) -> Result<Option<CellRecord>, RunError> {
        let Fate::Boots { metal, levels } = &planned.fate else { return Ok(None) };
        let cell = &planned.cell;
        self.listener.event(&RunEvent::CellBegan { cell: &cell.name });
        self.listener.event(&RunEvent::StageBegan { cell: &cell.name, stage: Stage::Provision });
        let start = self.began.elapsed().as_secs_f64();
        let folder = RunFolder::cell_in(&self.folder, &cell.name)
            .map_err(|source| RunError::Records { path: self.folder.clone(), source })?;
        let observation = match self.prepare(cell, *metal, levels, worker, &folder.0) {
            Ok((plan, this_machine)) => self.boot(cell, *metal, &plan, this_machine, &folder.0).await,
            Err(stop) => Observation::stopped(stop),
        };
        // What a boot medium was made of is large. What can't be removed now goes with the run's folder.
        let _ = std::fs::remove_dir_all(self.scratch.path().join(worker.to_string()));
        if observation.stop.as_ref().is_some_and(|stop| stop.interrupted) {
            return Ok(None);
        }
        let profile = Profile::of(cell.architecture);
        let verdict = Verdict::judge(&cell.expectation, &observation, cell.innermost(), profile);
        // A pass whose evidence can't be kept is none.
        let evidence = verdict.evidence().map(serde_json::to_value).transpose();
        let evidence =
            evidence.map_err(|e| RunError::Records { path: self.folder.clone(), source: e.into() })?;
        let attempt = Attempt { start, end: self.began.elapsed().as_secs_f64(), verdict: verdict.word() };
        Ok(Some(CellRecord {
            metal: Some(*metal),
            stage: verdict.stop().map(|stop| stop.stage),
            level: verdict.stop().and_then(|stop| stop.level),
            symptom: verdict.stop().map(|stop| stop.symptom.clone()),
            levels: levels.iter().map(|level| self.level_record(level, &observation)).collect(),
            evidence,
            steps: observation.steps,
            stages: observation.stages,
            attempts: vec![attempt],
            folder: Some(folder.1),
            ..CellRecord::blank(cell, verdict.word())
        }))
    }

    /// The stack of a cell and this machine as its host, or why the cell can't be tried.
    fn prepare(
        &self,
        cell: &Cell,
        metal: Metal,
        levels: &[PlannedLevel],
        worker: usize,
        records: &Path,
    ) -> Result<(StackPlan, ThisMachine), Stop> {
        let stop = |why: String| Stop::harness(Stage::Provision, why);
        let profile = Profile::of(cell.architecture);
        let scratch = self.scratch.path().join(worker.to_string());
        let mut plans = Vec::new();
        for level in levels {
            let Some(key) = &level.boots else { continue };
            let image = self.image(key).map_err(stop)?;
            let (Some(kernel), Some(release), Some(initramfs)) =
                (image.kernel(), image.kernel_version(), image.initramfs())
            else {
                return Err(stop(format!("image {} has no kernel or no initramfs", image.name())));
            };
            plans.push(LevelPlan {
                level: level.spec.level,
                kernel,
                kernel_release: release.release.clone(),
                initramfs,
                cpu: level.spec.cpu.clone(),
                accelerator: level.spec.accelerator,
                memory_mib: level.spec.memory_mib,
                kernel_parameters: level.spec.kernel_parameters.clone(),
                machine: level.spec.machine.clone(),
                disk: level.spec.disk.then(|| scratch.join(format!("{}-disk", level.spec.level))),
            });
        }
        let program = runs_outermost(profile, metal, emulator_is_l0(cell));
        let emulator = self.emulator(program, metal).map_err(stop)?;
        let made = std::fs::create_dir_all(&scratch);
        made.map_err(|e| stop(format!("{} can't be made: {e}", scratch.display())))?;
        for disk in plans.iter().filter_map(|plan| plan.disk.as_ref()) {
            // Whatever an earlier cell left on it is gone.
            let made = std::fs::File::create(disk).and_then(|file| file.set_len(DISK_BYTES));
            made.map_err(|e| stop(format!("{} can't be made: {e}", disk.display())))?;
        }
        let nonce = nonce().map_err(|e| stop(e.to_string()))?;
        let stays = cell.steps.iter().any(|step| step.needs_innermost(cell.innermost()));
        let second = cell.steps.iter().find_map(Step::second_machine);
        let plan = StackPlan { metal, profile, levels: plans, nonce, stays, second };
        let wrapper = self.setting.wrapper.clone();
        let records = records.to_owned();
        Ok((plan, ThisMachine { emulator, program, wrapper, sockets: scratch, records }))
    }

    async fn boot(
        &self,
        cell: &Cell,
        metal: Metal,
        plan: &StackPlan,
        this_machine: ThisMachine,
        records: &Path,
    ) -> Observation {
        let listener = CellStages { cell: cell.name.clone(), listener: Rc::clone(&self.listener) };
        let limits = Limits::new(metal, self.setting.timeout_scale);
        let cancellation = self.cancellation.clone();
        let began = Instant::now();
        boot(plan, this_machine, limits, &cell.faults, &cell.steps, records, began, &listener, cancellation)
            .await
    }

    fn image(&self, key: &(String, Product)) -> Result<&Image, String> {
        match self.images.get(key) {
            Some(Ok(image)) => Ok(image),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("image {} {} was not made ready", key.0, key.1)),
        }
    }

    fn emulator(&self, program: &str, metal: Metal) -> Result<Emulator, String> {
        if let (Metal::Native, Some(installed)) = (metal, &self.setting.native_qemu) {
            return Ok(installed.clone());
        }
        let recipe = emulator_recipe(&self.setting.catalog, program).map_err(|e| e.to_string())?;
        let key = (recipe, Product::Emulator);
        let image = self.image(&key)?.clone();
        emulator_of(image).ok_or_else(|| format!("image {} is no emulator", key.0))
    }

    fn level_record(&self, level: &PlannedLevel, observation: &Observation) -> LevelRecord {
        let image = level.boots.as_ref().and_then(|key| {
            let image = self.image(key).ok()?;
            Some(ImageRecord {
                recipe: image.name().to_owned(),
                product: image.product().to_string(),
                digest: image.digest().to_string(),
            })
        });
        LevelRecord {
            level: level.spec.level,
            required: level.spec.system.to_string(),
            os: level.choice.image.clone(),
            image,
            stand_in: level.choice.stand_in,
            stand_in_reason: level.choice.reason.clone(),
            seen: observation.levels.get(&level.spec.level).cloned().unwrap_or_default(),
        }
    }
}
