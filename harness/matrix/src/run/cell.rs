//! Carries out one cell: its stack is booted, from its beginning or from a saved state, and judged.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nestmatrix_images::{Image, Product};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{FaultAction, LevelNumber, Stage, StageKind, Step, SymptomKind};
use nestmatrix_stack::host::{Emulator, ThisMachine};
use nestmatrix_stack::{
    BootRequest, Draft, Finished, Inputs, LevelPlan, Limits, Lookup, Metal, Observation, Snapshot,
    SnapshotCache, SnapshotKey, SnapshotSaver, StackPlan, StageListener, Stop, Symptom, Usage, boot,
};
use nestmatrix_vmm::qemu::Memory;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::task::JoinError;

use super::attempts::{bring_back, set_aside};
use super::demand::Emulation;
use super::execute::{Run, StateNews, emulator_is_l0, emulator_of, emulator_recipe, nonce, runs_outermost};
use super::panic::described;
use super::plan::{always_cold, savable};
use super::schedule::{Budget, Choice, Schedule, Task};
use super::{Fate, Planned, PlannedLevel, RunError, RunEvent, RunListener, RunPlan, Verdict};
use crate::records::{Attempt, CellRecord, ImageRecord, LevelRecord, Restored, RunFolder, VerdictWord};
use crate::scenario::{Cell, CellName, KnownFlaky};

/// Size of a level's own disk, which holds a few lines of configuration.
const DISK_BYTES: u64 = 4 << 20;
/// Memory that an emulator needs besides its machine's, in MiB: for code that it has translated, above all.
const EMULATOR_MEMORY_MIB: u64 = 384;
/// Memory of this machine that cells leave to others, in MiB.
const SPARED_MEMORY_MIB: u64 = 512;

/// How many times as long a second attempt may take where the first one ran out of time.
const SLOWER: f64 = 2.0;

/// What came of a cell.
pub(super) struct Done {
    /// Its record; none if it was interrupted.
    pub(super) record: Option<Box<CellRecord>>,
    /// What its last attempt used.
    pub(super) usage: Usage,
}

/// The last attempt of those that one boot of a cell took, and what came of it.
struct Try {
    verdict: Verdict,
    known_flaky: Option<KnownFlaky>,
    observation: Observation,
    continued: Option<Restored>,
    cold: Option<String>,
    /// The number of the attempt, from 1.
    number: usize,
}

/// A state from which a cell can go on, or which it can save.
struct Link {
    level: LevelNumber,
    inputs: Inputs,
    key: SnapshotKey,
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

/// Saves the states that a cell was chosen to save.
struct CellSnapshots<'a> {
    run: &'a Run,
    states: &'a SnapshotCache,
    makes: RefCell<BTreeMap<LevelNumber, Inputs>>,
}

impl SnapshotSaver for CellSnapshots<'_> {
    fn draft(&self, level: LevelNumber) -> Option<Draft> {
        let inputs = self.makes.borrow_mut().remove(&level)?;
        let draft = self.states.draft(level, inputs);
        draft.inspect_err(|e| tracing::warn!("the state of {level} can't be saved: {e}")).ok()
    }

    fn saved(&self, level: LevelNumber, finished: Result<Finished, String>) {
        let published = finished.and_then(|finished| {
            let key = finished.key().clone();
            self.states.publish(finished).map_err(|e| e.to_string()).map(|()| key)
        });
        match published {
            Ok(key) => self.run.news(StateNews::Saved(key)),
            Err(why) => tracing::warn!("the state of {level} could not be saved: {why}"),
        }
    }
}

impl Run {
    fn news(&self, news: StateNews) {
        self.states.borrow_mut().push(news);
        self.news.notify_one();
    }

    /// What is to be booted, and what is known of what that needs.
    pub(super) fn schedule(&self, plan: &RunPlan) -> Schedule {
        let cells = plan.cells.iter().enumerate();
        let tasks = cells.filter_map(|(index, planned)| {
            let Fate::Boots { metal, .. } = &planned.fate else { return None };
            let cell = &planned.cell;
            let stack = self.stack_plan(planned, Path::new(""));
            let profile = ArchInfo::of(cell.architecture);
            let memory = stack.as_ref().map_or(0, |stack| u64::from(stack.memory_mib(0)));
            Some(Task {
                index,
                kind: (cell.architecture, Emulation::of(profile, *metal, emulator_is_l0(cell))),
                chain: self.chain(planned).into_iter().map(|link| link.key).collect(),
                seconds: planned.typical_seconds(*metal),
                memory_mib: memory + EMULATOR_MEMORY_MIB,
            })
        });
        let budget = match self.setting.jobs {
            Some(jobs) => Budget::Jobs(jobs.max(1)),
            None => Budget::Machine {
                cores: self.machine.cores as f64,
                memory_mib: self.machine.available_memory_mib().saturating_sub(SPARED_MEMORY_MIB),
            },
        };
        let states = self.setting.states.as_ref();
        Schedule::new(tasks.collect(), budget, |key| states.is_some_and(|states| states.has(key)))
    }

    /// Boots and judges one cell.
    pub(super) async fn cell(&self, planned: &Planned, choice: &Choice) -> Result<Done, RunError> {
        let mut done = Done { record: None, usage: Usage::default() };
        let Fate::Boots { metal, levels } = &planned.fate else { return Ok(done) };
        let cell = &planned.cell;
        self.listener.event(&RunEvent::CellBegan { cell: &cell.name });
        self.listener.event(&RunEvent::StageBegan { cell: &cell.name, stage: Stage::Provision });
        let cannot_record = |source| RunError::Records { path: self.folder.clone(), source };
        let folder = RunFolder::cell_in(&self.folder, &cell.name).map_err(cannot_record)?;
        let chain = self.chain(planned);
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut tries: Vec<Try> = Vec::new();
        let repeat = if self.setting.inspector.is_some() { 1 } else { self.setting.repeat.max(1) };
        let mut timeout_scale = self.setting.timeout_scale;
        // Whether the attempt before is to be made up for.
        let mut is_second = false;
        let again =
            self.setting.states.is_some().then(|| "it was booted again from its beginning".to_owned());
        loop {
            let start = self.began.elapsed().as_secs_f64();
            let first = attempts.is_empty();
            let (state, cold) = match (&choice.from, is_second) {
                (_, true) => (None, again.clone()),
                (None, false) => (None, self.why_not_restored(planned, &chain).await),
                (Some(key), false) => match chain.iter().find(|link| link.key == *key) {
                    Some(link) => self.look_up(link).await,
                    None => (None, None),
                },
            };
            let scratch = self.scratch_of(choice);
            let mut booted = None;
            let observation = match self.prepare(planned, &scratch, state.as_ref(), choice, &folder.0).await {
                Ok((plan, host, _memory)) => {
                    // Whatever went wrong the first time, nothing is saved later.
                    let makes = if first { &choice.makes[..] } else { &[] };
                    booted = Some(self.began.elapsed().as_secs_f64());
                    let limits = Limits::new(plan.metal, timeout_scale);
                    self.boot(planned, &plan, limits, host, &folder.0, state.as_ref(), makes, &chain).await
                }
                Err(stop) => Observation::stopped(stop),
            };
            // What a boot medium was made of is large. What can't be removed now goes with the run's folder.
            let _ = fs::remove_dir_all(&scratch);
            if observation.stop.as_ref().is_some_and(Stop::is_interrupted) {
                return Ok(done);
            }
            let end = (self.began.elapsed() - observation.held).as_secs_f64();
            if observation.stop.is_none() {
                // What one that stopped early used says nothing of others.
                done.usage = observation.usage;
            }
            let profile = ArchInfo::of(cell.architecture);
            let known_flaky = self.known_flaky(cell, *metal, levels, &observation);
            let verdict = Verdict::judge(&cell.expectation, &observation, cell.innermost(), profile)
                .by_versions(&cell.expectation, |since| self.has_change(since, levels, &observation))
                .or_flaky(known_flaky, &observation.stages);
            let from = state.as_ref().map(|state| state.description().key.clone());
            let symptom = verdict.symptom(&cell.expectation);
            attempts.push(Attempt {
                start,
                end,
                booted,
                verdict: verdict.itself().word(),
                from,
                symptom,
                timeout_scale: Some(timeout_scale),
                usage: observation.usage,
            });
            // Somebody has looked at the first attempt, and it is what they wanted to see.
            let may_be_tried_again = !is_second && self.setting.inspector.is_none();
            if may_be_tried_again && is_tried_again(cell, &verdict, observation.restored) {
                if let (Some(state), Some(states), Some(false)) =
                    (&state, &self.setting.states, observation.restored)
                {
                    // It would not do for anybody else either.
                    self.news(StateNews::Lost(state.description().key.clone()));
                    let _ = states.discard(state);
                }
                set_aside(&folder.0, attempts.len()).map_err(cannot_record)?;
                if verdict.stop().is_some_and(Stop::is_timeout) {
                    timeout_scale *= SLOWER;
                }
                is_second = true;
                continue;
            }
            let number = attempts.len();
            let continued = state.as_ref().map(Restored::from);
            let known_flaky = known_flaky.cloned();
            tries.push(Try { verdict, known_flaky, observation, continued, cold, number });
            if tries.len() < repeat {
                set_aside(&folder.0, number).map_err(cannot_record)?;
                (timeout_scale, is_second) = (self.setting.timeout_scale, false);
                continue;
            }
            let verdicts: Vec<Verdict> = tries.iter().map(|each| each.verdict.clone()).collect();
            // There is one at least.
            let Some((word, told)) = Verdict::together(&verdicts) else { return Ok(done) };
            let Try { verdict, known_flaky, observation, continued, cold, number: told } =
                tries.swap_remove(told);
            let described_attempt = (told < number).then_some(told);
            if described_attempt.is_some() {
                bring_back(&folder.0, told, number).map_err(cannot_record)?;
            }
            let as_described = match word {
                VerdictWord::Flaky => verdicts.iter().all(Verdict::is_as_described),
                _ => verdict.is_as_described(),
            };
            // A pass whose evidence can't be kept is none.
            let evidence = verdict.evidence().map(serde_json::to_value).transpose();
            let evidence = evidence.map_err(|e| cannot_record(e.into()))?;
            let emulator = self.outermost(planned).ok();
            let emulator = emulator.as_ref().and_then(|(_, emulator)| image_of(emulator));
            // A cell that is skipped on its way stopped, too.
            let stop = verdict.stop().or(observation.stop.as_ref().filter(|_| word == VerdictWord::Skip));
            let skipped = match &verdict {
                Verdict::Skip(reasons) => reasons.clone(),
                _ => Vec::new(),
            };
            let blank = match &skipped[..] {
                [] => CellRecord::blank(cell, word),
                reasons => CellRecord::skipped(cell, reasons, planned.must_run),
            };
            let record = CellRecord {
                metal: Some(*metal),
                emulator: emulator.map(ImageRecord::from),
                known_flaky,
                as_described,
                stage: stop.map(|stop| stop.stage),
                level: stop.and_then(Stop::level),
                symptom: if skipped.is_empty() {
                    verdict.symptom(&cell.expectation)
                } else {
                    blank.symptom.clone()
                },
                symptom_data: stop.map(|stop| stop.symptom.clone()),
                levels: levels.iter().map(|level| self.level_record(level, &observation)).collect(),
                evidence,
                steps: observation.steps,
                stages: observation.stages,
                restored: continued,
                cold,
                attempts,
                described_attempt,
                folder: Some(folder.1),
                ..blank
            };
            // It is no evidence, and a disk that is full shows at the verdict.
            if let Err(e) = self.write_script(planned, &record, &folder.0) {
                tracing::warn!("the script of {} can't be written: {e}", cell.name);
            }
            done.record = Some(Box::new(record));
            return Ok(done);
        }
    }

    /// What came of a cell whose task panicked. Its stack went with the task.
    pub(super) fn panicked(
        &self,
        planned: &Planned,
        choice: &Choice,
        began: Duration,
        error: JoinError,
    ) -> Done {
        let cell = &planned.cell;
        let symptom = match error.try_into_panic() {
            Ok(payload) => described(&*payload),
            Err(e) => format!("the harness gave its task up: {e}"),
        };
        let _ = fs::remove_dir_all(self.scratch_of(choice));
        let attempt = Attempt {
            start: began.as_secs_f64(),
            end: self.began.elapsed().as_secs_f64(),
            booted: None,
            verdict: VerdictWord::Error,
            from: choice.from.clone(),
            symptom: Some(symptom.clone()),
            timeout_scale: Some(self.setting.timeout_scale),
            usage: Usage::default(),
        };
        let metal = match &planned.fate {
            Fate::Boots { metal, .. } => Some(*metal),
            Fate::Skipped(_) => None,
        };
        let record = CellRecord {
            metal,
            symptom_data: Some(Symptom::Harness { level: None, why: symptom.clone(), erratum: None }),
            symptom: Some(symptom),
            attempts: vec![attempt],
            folder: RunFolder::cell_in(&self.folder, &cell.name).ok().map(|(_, folder)| folder),
            ..CellRecord::blank(cell, VerdictWord::Error)
        };
        Done { record: Some(Box::new(record)), usage: Usage::default() }
    }

    /// Where the sockets and disks of a cell are.
    fn scratch_of(&self, choice: &Choice) -> PathBuf {
        self.scratch.path().join(choice.task.index.to_string())
    }

    /// The states of a cell's stack that can be saved and gone on from, the one of the fewest levels first.
    fn chain(&self, planned: &Planned) -> Vec<Link> {
        let (Some(_), None) = (&self.setting.states, always_cold(planned)) else { return Vec::new() };
        let Ok(plan) = self.stack_plan(planned, Path::new("")) else { return Vec::new() };
        let Ok(emulator) = self.emulator_name(planned) else { return Vec::new() };
        // What was put together for one trial is not gone on with by any other, and would only take room.
        let own =
            plan.levels.iter().enumerate().take_while(|(_, level)| !self.is_derived(planned, level.level));
        let levels = own.filter(|(_, level)| savable(&planned.cell, level.level));
        let links = levels.map(|(index, level)| {
            let mut inputs = plan.inputs(index);
            inputs.insert("nestmatrix".to_owned(), self.build.clone());
            inputs.insert("emulator".to_owned(), emulator.clone());
            // The clock of what it emulates is its own.
            inputs.insert("processor".to_owned(), self.machine.processor.clone());
            let level = level.level;
            Link { level, key: SnapshotKey::of(level, &inputs), inputs }
        });
        links.collect()
    }

    /// Whether a level boots an image that has something else than its recipe says.
    fn is_derived(&self, planned: &Planned, level: LevelNumber) -> bool {
        let Fate::Boots { levels, .. } = &planned.fate else { return false };
        let mut boots = levels.iter().filter(|planned| planned.spec.level == level);
        boots.any(|level| {
            let recipe = level.boots.as_ref().and_then(|(recipe, _)| self.setting.catalog.get(recipe));
            recipe.is_some_and(|recipe| recipe.replacement().is_some())
        })
    }

    /// The state of a link, or why it can't be used.
    async fn look_up(&self, link: &Link) -> (Option<Snapshot>, Option<String>) {
        let Some(states) = self.setting.states.clone() else { return (None, None) };
        let (level, inputs) = (link.level, link.inputs.clone());
        // Comparing its hashes takes a while.
        let found = tokio::task::spawn_blocking(move || states.find(level, &inputs)).await;
        let why = match found {
            Ok(Ok(Lookup::Found(state))) => return (Some(state), None),
            Ok(Ok(Lookup::Nothing)) => "the saved state is gone".to_owned(),
            Ok(Ok(Lookup::Damaged(why))) => format!("the saved state is damaged: {why}"),
            Ok(Err(e)) => format!("the saved state can't be read: {e}"),
            Err(_) => "the saved state was not looked up to its end".to_owned(),
        };
        tracing::warn!("{why}; the stack boots from its beginning");
        self.news(StateNews::Lost(link.key.clone()));
        (None, Some(why))
    }

    /// Why a cell boots from its beginning.
    async fn why_not_restored(&self, planned: &Planned, chain: &[Link]) -> Option<String> {
        let states = self.setting.states.clone()?;
        let Some(link) = chain.last() else {
            let derived = self.is_derived(planned, LevelNumber::ALL[0]);
            return always_cold(planned).or(derived.then(|| "its L0 has another kernel or QEMU".to_owned()));
        };
        let (level, inputs) = (link.level, link.inputs.clone());
        let found = tokio::task::spawn_blocking(move || states.nearest(level, &inputs)).await.ok()?;
        Some(match found {
            Some(difference) => format!("the saved state is of other things: {difference}"),
            None => "no state is saved".to_owned(),
        })
    }

    /// What names the emulator that runs a cell's outermost level.
    fn emulator_name(&self, planned: &Planned) -> Result<String, String> {
        let Fate::Boots { metal, .. } = &planned.fate else { return Err("it is not booted".to_owned()) };
        let cell = &planned.cell;
        let program = runs_outermost(ArchInfo::of(cell.architecture), *metal, emulator_is_l0(cell));
        let recipe = emulator_recipe(&self.setting.catalog, program).map_err(|e| e.to_string())?;
        let image = self.image(&(recipe, Product::Emulator))?;
        let version = image.qemu_version().map_or("", |qemu| &qemu.version);
        Ok(format!("{program} {version} ({})", &image.digest().as_str()[..12]))
    }

    /// The stack of a cell, whose own disks are in the folder `scratch`, or why the cell can't be tried.
    pub(super) fn stack_plan(&self, planned: &Planned, scratch: &Path) -> Result<StackPlan, Stop> {
        let stop = |why: String| Stop::harness(Stage::Provision, why);
        let cell = &planned.cell;
        let Fate::Boots { metal, levels } = &planned.fate else {
            return Err(stop("it is not booted".to_owned()));
        };
        let mut plans = Vec::new();
        for level in levels {
            let Some(key) = &level.boots else { continue };
            let image = self.image(key).map_err(stop)?;
            let (Some(kernel), Some(release), Some(initramfs), Some(images)) =
                (image.kernel(), image.kernel_version(), image.initramfs(), image.disk())
            else {
                return Err(stop(format!("image {} lacks its kernel, initramfs or disk", image.name())));
            };
            plans.push(LevelPlan {
                level: level.spec.level,
                kernel,
                kernel_release: release.release.clone(),
                initramfs,
                images: Some(images),
                image: format!("{} {}", image.name(), image.digest()),
                cpu: level.spec.cpu.clone(),
                accelerator: level.spec.accelerator,
                memory_mib: level.spec.memory_mib,
                kernel_parameters: level.spec.kernel_parameters.clone(),
                machine_type: level.spec.machine_type.clone(),
                machine: level.spec.machine.clone(),
                disk: level.spec.disk.then(|| scratch.join(format!("{}-disk", level.spec.level))),
            });
        }
        Ok(StackPlan {
            metal: *metal,
            profile: ArchInfo::of(cell.architecture),
            levels: plans,
            nonce: String::new(),
            // Who has it held wants to ask it, too.
            stays: self.setting.inspector.is_some()
                || cell.steps.iter().any(|step| step.needs_innermost(cell.innermost())),
            leaf: None,
            default_firmware: BTreeSet::new(),
            second: cell.steps.iter().find_map(Step::second_machine),
            memory: Memory::Private,
            restored_from: false,
            clock: cell.clock,
            innermost_on_l0: cell.faults.iter().any(|fault| fault.action == FaultAction::StartOnL0),
        })
    }

    /// The stack of a cell, this machine as its host, and what is to be kept while it runs; or why the cell can't be tried.
    async fn prepare(
        &self,
        planned: &Planned,
        scratch: &Path,
        state: Option<&Snapshot>,
        choice: &Choice,
        records: &Path,
    ) -> Result<(StackPlan, ThisMachine, Option<fs::File>), Stop> {
        let stop = |why: String| Stop::harness(Stage::Provision, why);
        let mut plan = self.stack_plan(planned, scratch)?;
        plan.nonce = nonce().map_err(|e| stop(e.to_string()))?;
        plan.restored_from = state.is_some();
        let saves = !choice.makes.is_empty();
        let mut memory = None;
        if let (Some(state), false) = (state, saves) {
            plan.memory = Memory::Saved(state.memory());
        } else if plan.metal == Metal::Emulated && plan.runs_on_qemu() {
            // Without a name, so that it goes with the last who has it open. QEMU leaves the memory out of what it migrates only
            // where that has a path, hence this one; and it is faster than memory that QEMU takes itself.
            let failed = |e: std::io::Error| stop(format!("there is no memory for its machine: {e}"));
            let made = memfd_create("nestmatrix", MFdFlags::MFD_CLOEXEC);
            let made = fs::File::from(made.map_err(|e| failed(e.into()))?);
            let path = format!("/proc/{}/fd/{}", std::process::id(), made.as_raw_fd());
            plan.memory = Memory::Shared(path.into());
            if let Some(state) = state {
                // What is saved next is the whole of it, so it must be the stack's own.
                state.copy_memory(&made).await.map_err(failed)?;
            }
            memory = Some(made);
        }
        let (program, emulator) = self.outermost(planned).map_err(stop)?;
        let made = fs::create_dir_all(scratch);
        made.map_err(|e| stop(format!("{} can't be made: {e}", scratch.display())))?;
        for disk in plan.levels.iter().filter_map(|plan| plan.disk.as_ref()) {
            let made = fs::File::create(disk).and_then(|file| file.set_len(DISK_BYTES));
            made.map_err(|e| stop(format!("{} can't be made: {e}", disk.display())))?;
        }
        let wrapper = self.setting.wrapper.clone();
        let (sockets, records) = (scratch.to_owned(), records.to_owned());
        Ok((plan, ThisMachine { emulator, program, wrapper, sockets, records }, memory))
    }

    #[allow(clippy::too_many_arguments, reason = "one call site, each argument of a type of its own")]
    async fn boot(
        &self,
        planned: &Planned,
        plan: &StackPlan,
        limits: Limits,
        this_machine: ThisMachine,
        records: &Path,
        state: Option<&Snapshot>,
        makes: &[SnapshotKey],
        chain: &[Link],
    ) -> Observation {
        let cell = &planned.cell;
        let listener = CellStages { cell: cell.name.clone(), listener: Rc::clone(&self.listener) };
        let makes = chain.iter().filter(|link| makes.contains(&link.key));
        let makes = makes.map(|link| (link.level, link.inputs.clone())).collect();
        let states: Option<&Arc<SnapshotCache>> = self.setting.states.as_ref();
        let saver = states.map(|states| CellSnapshots { run: self, states, makes: RefCell::new(makes) });
        boot(BootRequest {
            plan,
            this_machine: Rc::new(this_machine),
            limits,
            faults: &cell.faults,
            steps: &cell.steps,
            records,
            started: Instant::now(),
            listener: &listener,
            cancellation: self.cancellation.clone(),
            from: state,
            saver: saver.as_ref().map(|saver| saver as &dyn SnapshotSaver),
            inspector: self.setting.inspector.as_deref(),
            images: self.images_of(planned),
        })
        .await
    }

    /// The images of the levels that are booted.
    fn images_of(&self, planned: &Planned) -> BTreeMap<LevelNumber, &Image> {
        let Fate::Boots { levels, .. } = &planned.fate else { return BTreeMap::new() };
        let image = |level: &PlannedLevel| Some((level.spec.level, self.image(level.boots.as_ref()?).ok()?));
        levels.iter().filter_map(image).collect()
    }

    pub(super) fn image(&self, key: &(String, Product)) -> Result<&Image, String> {
        match self.images.get(key) {
            Some(Ok(image)) => Ok(image),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("image {} {} was not made ready", key.0, key.1)),
        }
    }

    /// The program that runs a cell's outermost level, and what it is started from.
    pub(super) fn outermost(&self, planned: &Planned) -> Result<(&'static str, Emulator), String> {
        let Fate::Boots { metal, .. } = &planned.fate else { return Err("it is not booted".to_owned()) };
        let cell = &planned.cell;
        let program = runs_outermost(ArchInfo::of(cell.architecture), *metal, emulator_is_l0(cell));
        Ok((program, self.emulator(program, *metal)?))
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
        let image = level.boots.as_ref().and_then(|key| Some(ImageRecord::from(self.image(key).ok()?)));
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

/// The image that an emulator comes from, if it comes from one.
pub(super) fn image_of(emulator: &Emulator) -> Option<&Image> {
    match emulator {
        Emulator::Installed(_) => None,
        Emulator::Image(image) => Some(image.image()),
    }
}

/// Whether a cell is tried once more: where the harness or its machine failed before anything of the innermost level was tried,
/// and where a stack that should work ran out of time, which may be this machine's fault. What else the innermost level does
/// counts as it came, and what a scenario does on purpose is no failure.
fn is_tried_again(cell: &Cell, verdict: &Verdict, restored: Option<bool>) -> bool {
    let Some(stop) = verdict.stop() else { return false };
    match verdict.word() {
        VerdictWord::Error => {
            let innermost = Stage::Level(cell.innermost(), StageKind::Launch);
            // Whoever wrote the command line will write it again.
            let for_good = stop.symptom.kind() == SymptomKind::CommandLineRejected;
            let early = !for_good && stop.stage > Stage::Provision && stop.stage < innermost;
            restored == Some(false) || (cell.faults.is_empty() && early)
        }
        VerdictWord::Fail => cell.faults.is_empty() && stop.is_timeout(),
        _ => false,
    }
}
