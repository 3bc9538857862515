//! Prepares a disk: boots it once, alone, and has its system make itself a level.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use nestmatrix_images::{
    Begun, Catalog, DiskGuest, Error, Image, MediumError, Preparation, PreparationReport, Product, Progress,
    ProgressEvent, Recipe, ReportEvent, ReportReader, Step as BuildStep, Store, UefiFiles,
};
use nestmatrix_model::architecture::{ArchInfo, BareMachine};
use nestmatrix_model::{
    Accelerator, Architecture, CommandChannel, CpuRequirement, Firmware, Hardware, Isa, LevelNumber,
    NetworkCard, Stage, Word as _,
};
use nestmatrix_stack::host::{Emulator, Scratch, ThisMachine};
use nestmatrix_stack::{
    BootFiles, BootImage, BootRequest, Cancellation, ConsoleListener, FirstBoot, LevelPlan, Limits,
    MachineSettings, Metal, PICTURE, StackPlan, StageListener, Symptom, SystemDisk, UefiFirmware, first_boot,
};
use nestmatrix_vmm::qemu::{ExecWrapper, SWTPM};

use super::outermost::{EmulatorSource, emulator_of, emulator_source};

/// Memory that the system needs while it installs packages, in MiB.
const INSTALLING_MIB: u32 = 1024;

/// The factor of the time limits of a boot in which packages are installed.
const PATIENCE: f64 = 3.0;

/// The same factor for an installation of Windows, which may wait for a slow disk for minutes. On native metal, nothing may stand still
/// for 20 minutes, and all takes two hours at most.
const INSTALLING_PATIENCE: f64 = 60.0;

/// A control sequence of a terminal, as the record of a console has it.
const ESCAPE: &str = r"\u{1b}";

/// How many lines of a console an error quotes.
const LAST_LINES: usize = 3;

/// Prepares disks.
pub struct DiskPreparation<'a> {
    /// Recipes.
    pub catalog: &'a Catalog,
    /// Images.
    pub store: Arc<Store>,
    /// Receives the progress of the preparation.
    pub progress: Arc<dyn Progress + Send + Sync>,
    /// The QEMU that is installed on this machine, for native metal. Without one, the emulator image is used.
    pub installed: Option<Emulator>,
    /// Whether this machine's KVM runs guests. Otherwise the machine is emulated, which takes longer.
    pub native: bool,
    /// Ends QEMU together with the harness.
    pub wrapper: ExecWrapper,
    /// The factor of all time limits.
    pub timeout_scale: f64,
    /// Ends the preparation early.
    pub cancellation: Cancellation,
}

/// Why a disk is not prepared.
#[derive(Debug, thiserror::Error)]
pub enum NotPrepared {
    /// The store says why.
    #[error(transparent)]
    Store(Error),
    /// The file of the medium can't be used.
    #[error("the medium {medium} can't be used: {problem}")]
    Medium {
        /// The medium.
        medium: String,
        /// What is wrong with its file.
        problem: Box<MediumError>,
    },
    /// It did not boot to the end of its preparation.
    #[error("the medium {medium} could not be prepared: {why}")]
    Boot {
        /// The medium.
        medium: String,
        /// Where and why it stopped, and the last lines of its console.
        why: String,
    },
    /// It would take too long without KVM.
    #[error(
        "the medium {0} is prepared on native metal alone, and this machine's KVM runs no guests: Windows would take hours on \
         emulated metal; `emulated = true` in [disk.install] of its recipe tries it all the same"
    )]
    NeedsKvm(String),
    /// The user ended it.
    #[error("the preparation of {0} was ended")]
    Interrupted(String),
}

/// Reads what the system says while it is prepared, and passes on its progress.
struct Reader {
    reader: RefCell<ReportReader>,
    recipe: String,
    progress: Arc<dyn Progress + Send + Sync>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reader.fmt(f)
    }
}

impl ConsoleListener for Reader {
    fn line(&self, line: &str) {
        if let Some(ReportEvent::Progress(what)) = self.reader.borrow_mut().line(line.as_bytes()) {
            let step = BuildStep::Preparing { what: &what };
            self.progress.event(&ProgressEvent { recipe: &self.recipe, step });
        }
    }

    fn is_complete(&self) -> bool {
        self.reader.borrow().is_complete()
    }
}

struct Unheard;

impl StageListener for Unheard {
    fn stage_began(&self, _: Stage) {}
}

impl DiskPreparation<'_> {
    /// The prepared disk of a recipe: from the cache, or prepared now. Must be called within a [`tokio::task::LocalSet`].
    ///
    /// # Errors
    /// Why it is not available.
    pub async fn prepare(&self, recipe: &Recipe) -> Result<Image, NotPrepared> {
        let needs_kvm = recipe.disk().filter(|disk| disk.needs_kvm() && !self.native);
        if let (Some(disk), None) = (needs_kvm, self.store.recorded(recipe, Product::Disk)) {
            return Err(NotPrepared::NeedsKvm(disk.medium().name()));
        }
        let (store, catalog, progress) =
            (Arc::clone(&self.store), self.catalog.clone(), Arc::clone(&self.progress));
        let of_store = recipe.clone();
        let refused = |error| refused(recipe, error);
        let begun = in_background(move || store.begin_preparation(&of_store, &catalog, &*progress));
        let begun = begun.await.map_err(refused)?;
        let preparation = match begun {
            Begun::Ready(image) => return Ok(*image),
            Begun::Preparation(preparation) => *preparation,
        };
        let report = self.boot(&preparation).await?;
        in_background(move || preparation.finish(report)).await.map_err(refused)
    }

    /// Boots the disk until its system has reported and powered off.
    async fn boot(&self, preparation: &Preparation) -> Result<PreparationReport, NotPrepared> {
        let medium = preparation.medium().name();
        let failed = |why: String| NotPrepared::Boot { medium: medium.clone(), why };
        let recipe = preparation.recipe();
        let architecture = architecture_for(recipe.isa())
            .ok_or_else(|| failed(format!("no emulator boots disks of {} machines", recipe.isa())))?;
        let profile = ArchInfo::of(architecture);
        let emulator = self.emulator(profile.qemu).await.map_err(failed)?;
        let swtpm = match preparation.hardware().tpm {
            Some(_) => Some(self.emulator(SWTPM).await.map_err(failed)?),
            None => None,
        };
        let scratch = Scratch::create().map_err(|e| failed(format!("no folder for sockets: {e}")))?;
        let cache = self.store.cache();
        let files =
            Scratch::create_on_disk(cache).map_err(|e| failed(format!("no folder for files: {e}")))?;
        let plan = plan(preparation, profile, self.native);
        let this_machine = ThisMachine {
            emulator,
            program: profile.qemu,
            swtpm,
            wrapper: self.wrapper.clone(),
            sockets: scratch.path().to_owned(),
            files: files.path().to_owned(),
            records: scratch.path().to_owned(),
            saves: false,
        };
        let reader = Rc::new(Reader {
            reader: RefCell::default(),
            recipe: recipe.name().to_owned(),
            progress: Arc::clone(&self.progress),
        });
        // Installing packages takes longer than a boot.
        let limits = Limits::new(plan.metal, self.timeout_scale);
        let limits = match preparation.guest() {
            Some(DiskGuest::Windows) => limits.patient(INSTALLING_PATIENCE),
            None => limits.times(PATIENCE),
        };
        let booted = first_boot(
            BootRequest {
                plan: &plan,
                this_machine: Rc::new(this_machine),
                limits,
                faults: &[],
                steps: &[],
                suites: &[],
                programs: &[],
                records: scratch.path(),
                started: Instant::now(),
                listener: &Unheard,
                cancellation: self.cancellation.clone(),
                from: None,
                saver: None,
                asks_cpu_models: false,
                rebooted: None,
                inspector: None,
                images: BTreeMap::new(),
            },
            Rc::clone(&reader) as Rc<dyn ConsoleListener>,
        )
        .await;
        let report = reader.reader.borrow().clone().report();
        match booted {
            Ok(()) => Ok(report),
            Err(stop) if stop.is_interrupted() => Err(NotPrepared::Interrupted(medium)),
            // An error that the system itself reports is closer to the cause. A success alone is not enough: what was written may not
            // be in the file yet.
            Err(_) if report.status.is_some_and(|status| status != 0) => Ok(report),
            Err(stop) => {
                let level = plan.levels[0].level;
                let console = last_lines(&scratch.path().join(format!("{level}.console.log")));
                let console = match &stop.symptom {
                    // It says so itself.
                    Symptom::Timeout { last_line: None, .. } => String::new(),
                    _ if console.is_empty() => "; its console showed nothing".to_owned(),
                    _ => format!("; the last lines of its console:{console}"),
                };
                let picture = self.keep_picture(recipe, &scratch.path().join(PICTURE));
                Err(failed(format!("{}: {}{picture}{console}", stop.stage, stop.symptom)))
            }
        }
    }

    /// Keeps the picture of a display in the cache, where the next one replaces it. Returns the words that say so.
    fn keep_picture(&self, recipe: &Recipe, from: &Path) -> String {
        let folder = self.store.cache().join("screens");
        let to = folder.join(format!("{}.png", recipe.name()));
        match fs::create_dir_all(&folder).and_then(|()| fs::copy(from, &to)) {
            Ok(_) => format!("; its screen is in {}", to.display()),
            Err(_) => String::new(),
        }
    }

    /// The QEMU that boots the disk, or the swtpm that plays its TPM.
    async fn emulator(&self, program: &str) -> Result<Emulator, String> {
        if let (true, true, Some(installed)) = (self.native, program != SWTPM, &self.installed) {
            return Ok(installed.clone());
        }
        let recipe = match emulator_source(self.catalog, program).map_err(|e| e.to_string())? {
            EmulatorSource::Installed(installed) => return Ok(Emulator::Installed(installed.path.clone())),
            EmulatorSource::Recipe(name) => self.catalog.get(name).cloned(),
        };
        let recipe = recipe.ok_or("no recipe for an emulator")?;
        let (store, progress) = (Arc::clone(&self.store), Arc::clone(&self.progress));
        let image = in_background(move || store.ensure(&recipe, Product::Emulator, &*progress)).await;
        emulator_of(image.map_err(|e| e.to_string())?).ok_or_else(|| "the image is no emulator".to_owned())
    }
}

/// What the store says, with the medium's name.
fn refused(recipe: &Recipe, error: Error) -> NotPrepared {
    match (error, recipe.disk()) {
        (Error::Medium(problem), Some(disk)) => NotPrepared::Medium { medium: disk.medium().name(), problem },
        (other, _) => NotPrepared::Store(other),
    }
}

/// The last lines of a console with text, each on a line of an error. Lines that draw on a screen are only there if there
/// are no others.
fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // The time comes first.
    let has_text = |line: &&str| line.split_once("] ").is_some_and(|(_, text)| !text.trim().is_empty());
    let lines: Vec<&str> = text.lines().filter(has_text).collect();
    let (drawing, written): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| line.contains(ESCAPE));
    let shown = if written.is_empty() { drawing } else { written };
    shown.iter().rev().take(LAST_LINES).rev().map(|line| format!("\n  {line}")).collect()
}

/// The first architecture of this instruction set whose bare machine QEMU plays.
fn architecture_for(isa: Isa) -> Option<Architecture> {
    let of_qemu = |architecture: &&Architecture| {
        architecture.isa() == isa && matches!(ArchInfo::of(**architecture).metal, BareMachine::Qemu(_))
    };
    Architecture::ALL.iter().find(of_qemu).copied()
}

/// The disk as the only level: L1 of this machine's KVM, or L0 of an emulated machine.
fn plan(preparation: &Preparation, profile: &'static ArchInfo, native: bool) -> StackPlan {
    let hardware = preparation.hardware();
    let (metal, level) = match native {
        true => (Metal::Native, LevelNumber::ALL[1]),
        false => (Metal::Emulated, LevelNumber::ALL[0]),
    };
    let is_windows = preparation.guest() == Some(DiskGuest::Windows);
    let seed = [preparation.seed()];
    let first_boot = FirstBoot {
        volumes: seed.iter().filter(|_| !is_windows).cloned().chain(preparation.packages()).collect(),
        cds: preparation.cds(),
        boots_cd: preparation.boots_cd(),
        display: is_windows,
        sticks: seed.iter().filter(|_| is_windows).cloned().collect(),
    };
    let uefi = preparation.uefi().map(|UefiFiles { code, vars }| UefiFirmware {
        name: String::new(),
        code,
        base_variables: vars.clone(),
        variables: vars,
        secure_boot: hardware.firmware == Firmware::UefiSecureBoot,
    });
    let level = LevelPlan {
        level,
        image: BootImage {
            name: preparation.recipe().name().to_owned(),
            kernel_release: String::new(),
            files: BootFiles::Disk(SystemDisk {
                base: preparation.overlay(),
                overlay: preparation.overlay(),
                bus: hardware.bus,
                network_card: NetworkCard::default(),
                command_channel: CommandChannel::Agent,
                qemu: None,
                memory_mib: hardware.memory_mib.max(INSTALLING_MIB),
                cpus: hardware.cpus,
                system: None,
                first_boot: Some(first_boot),
                windows: None,
            }),
        },
        settings: MachineSettings {
            accelerator: if native { Accelerator::Kvm } else { Accelerator::Tcg },
            hardware: Hardware { tpm: hardware.tpm, ..Hardware::default() },
            // Emulated metal has no such features.
            cpu: CpuRequirement {
                require: if native {
                    without_values(hardware.enlightenments.of(false, false))
                } else {
                    Vec::new()
                },
                ..CpuRequirement::default()
            },
            ..MachineSettings::default()
        },
        disk: None,
        uefi,
        unified_kernel: None,
        guest_volume: None,
        swtpm: None,
    };
    StackPlan::cold(metal, profile, vec![level])
}

/// The features that are on or off. An installation does without the others.
fn without_values(mut features: Vec<String>) -> Vec<String> {
    features.retain(|feature| !feature.contains('='));
    features
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // It was not aborted, so it panicked.
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
