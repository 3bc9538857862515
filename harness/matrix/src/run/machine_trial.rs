//! Tests whether this machine can be native metal: its KVM must prove itself.
//!
//! A `/dev/kvm` that exists, opens and answers proves nothing: on some machines KVM does all that and still runs no stock
//! guest. The proof is a guest that boots to 64-bit userspace under KVM and reports it within a bounded time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nestmatrix_images::{Catalog, Product, Progress, Recipe, Store};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Accelerator, Architecture, Isa, LevelNumber, Stage};
use nestmatrix_stack::host::{Emulator, Facts, Scratch, ThisMachine};
use nestmatrix_stack::{
    BootFiles, BootImage, BootRequest, Cancellation, Evidence, LevelPlan, Limits, MachineSettings, Metal,
    StackPlan, StageListener, boot,
};
use nestmatrix_vmm::qemu::ExecWrapper;

use super::NativeMetal;
use super::nonce::nonce;
use super::outermost::{EmulatorSource, emulator_of, emulator_source, host_isa};
use super::requirement::{Feature, Requirement, Runner};
use crate::surroundings::Surroundings;

/// Why no guest ran in a trial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoGuest {
    /// No guest could be booted.
    #[error("KVM can't be tested: {0}")]
    NotTried(String),
    /// It stopped early, or there is no evidence that it ran under KVM.
    #[error("/dev/kvm opens here, but a trial guest failed ({0})")]
    Failed(String),
}

/// What was seen in a trial of this machine.
#[derive(Debug, Clone)]
pub struct TrialResult {
    /// The native metal, or every reason against it, joined.
    pub native: Result<NativeMetal, String>,
    /// Whether KVM ran a guest; absent if none was booted.
    pub guest: Option<Result<(), NoGuest>>,
}

/// Longest wait for the trial guest, without the user's time scale. A stock kernel boots in two seconds under a KVM that works, and
/// a user who asks what a machine can run wants to know within ten.
const TRIAL: Duration = Duration::from_secs(5);

/// The guest with which KVM proves itself.
#[derive(Debug)]
struct TrialGuest<'a> {
    /// How QEMU is started here.
    emulator: Emulator,
    /// Kernel of a minimal image.
    kernel: PathBuf,
    /// Release of that kernel.
    kernel_release: String,
    /// Its initramfs.
    initramfs: PathBuf,
    /// Ties QEMU's life to the harness's.
    wrapper: ExecWrapper,
    /// Private folder, for sockets and for the trial's records. The trial makes no large files.
    scratch: &'a Path,
    /// The number that the trial guest must report.
    nonce: String,
    /// The user's time scale.
    timeout_scale: f64,
}

struct Unheard;

impl StageListener for Unheard {
    fn stage_began(&self, _: Stage) {}
}

impl TrialGuest<'_> {
    /// Boots one guest under this machine's KVM.
    ///
    /// # Errors
    /// Where and why it stopped.
    async fn prove(self, profile: &'static ArchInfo) -> Result<(), NoGuest> {
        let failed = NoGuest::Failed;
        let guest = LevelNumber::ALL[1];
        // The caller has already checked the architecture's own module. If another module provides KVM, the guest is booted
        // anyway, so that the answer is observed and not concluded. This leaks once, and little.
        let any_kvm: &'static ArchInfo = Box::leak(Box::new(ArchInfo { kvm_module: "kvm", ..*profile }));
        let level = LevelPlan {
            level: guest,
            image: BootImage {
                name: String::new(),
                kernel_release: self.kernel_release,
                files: BootFiles::Kernel { kernel: self.kernel, initramfs: self.initramfs, disk: None },
            },
            settings: MachineSettings { accelerator: Accelerator::Kvm, ..MachineSettings::default() },
            disk: None,
            uefi: None,
            unified_kernel: None,
            guest_volume: None,
            swtpm: None,
        };
        let plan = StackPlan { nonce: self.nonce, ..StackPlan::cold(Metal::Native, any_kvm, vec![level]) };
        let this_machine = ThisMachine {
            emulator: self.emulator,
            program: profile.qemu,
            swtpm: None,
            wrapper: self.wrapper,
            sockets: self.scratch.to_owned(),
            files: self.scratch.to_owned(),
            records: self.scratch.to_owned(),
            saves: false,
        };
        let limits = Limits::fixed(TRIAL.mul_f64(self.timeout_scale));
        let (_keep, cancellation) = Cancellation::new();
        let observation = boot(BootRequest {
            plan: &plan,
            this_machine: Rc::new(this_machine),
            limits,
            faults: &[],
            steps: &[],
            suites: &[],
            programs: &[],
            records: self.scratch,
            started: Instant::now(),
            listener: &Unheard,
            cancellation,
            from: None,
            saver: None,
            asks_cpu_models: false,
            rebooted: None,
            inspector: None,
            images: BTreeMap::new(),
        })
        .await;
        if let Some(stop) = observation.stop {
            return Err(failed(format!("{}: {}", stop.stage, stop.symptom)));
        }
        let weighed = Evidence::weigh(&observation.measurements, guest, profile);
        weighed.map(|_| ()).map_err(|doubt| failed(doubt.to_string()))
    }
}

impl NativeMetal {
    /// Native metal for `architecture`, if this machine reports what that requires. No trial guest is booted: an existing KVM
    /// is assumed to work.
    ///
    /// # Errors
    /// What is missing.
    pub async fn reported(architecture: Architecture) -> Result<Self, String> {
        let (facts, runner) = inspected(architecture).await?;
        match Requirement::to_host(architecture).unmet(&runner) {
            Some(why) => Err(why),
            None => {
                let native = Self::of(&facts, ArchInfo::of(architecture).kvm_module);
                Ok(native.inside(Surroundings::of_this_machine()))
            }
        }
    }
}

/// What this machine reports about itself as a machine of `architecture`.
async fn inspected(architecture: Architecture) -> Result<(Facts, Runner), String> {
    let profile = ArchInfo::of(architecture);
    if Some(architecture.isa()) != Isa::of_this_machine() {
        // Everything else here belongs to another instruction set.
        let wanted = Feature::Isa(architecture.isa());
        return Err(format!("needs {wanted}: this one is {}", host_isa()));
    }
    let facts = Facts::of_this_machine(profile.kvm_module).await;
    let facts = facts.map_err(|e| format!("this machine can't be asked what it is: {e}"))?;
    let runner = examined(profile, &facts);
    Ok((facts, runner))
}

/// What this machine reports about itself before any guest boots. It can show that the machine can't be native metal, but not
/// that it can.
fn examined(profile: &ArchInfo, facts: &Facts) -> Runner {
    let isa = Isa::of_this_machine().map(Feature::Isa);
    let mut runner = isa.into_iter().fold(Runner::default(), Runner::with);
    if let Some(flag) = profile.virtualization_flag {
        let feature = Feature::CpuFlag(flag.to_owned());
        runner = match facts.cpu_flags.iter().any(|of| of == flag) {
            true => runner.with(feature),
            false => runner.without(feature, "this machine has none"),
        };
    }
    let device = Feature::KvmDevice(profile.kvm_module.to_owned());
    match facts.kvm_device && facts.kvm_module {
        true => runner.with(device),
        false => runner.without(device, "this machine has none that this user may open"),
    }
}

/// Finds out whether this machine can be native metal.
pub struct MachineTrial<'a> {
    /// Recipes.
    pub catalog: &'a Catalog,
    /// Images.
    pub store: Arc<Store>,
    /// Receives the progress of builds and downloads.
    pub progress: Arc<dyn Progress + Send + Sync>,
    /// This machine's own QEMU, if it has one.
    pub installed: Option<Emulator>,
    /// Ends every process that the harness starts together with the harness.
    pub wrapper: ExecWrapper,
    /// The factor of the trial's time limit.
    pub timeout_scale: f64,
    /// Boot a guest even if the processor already rules native metal out, so that the user learns every reason.
    pub insist: bool,
}

impl MachineTrial<'_> {
    /// Tests it for stacks of `architecture`.
    ///
    /// # Errors
    /// Every reason that was found, joined.
    pub async fn run(&self, architecture: Architecture) -> Result<NativeMetal, String> {
        self.see(architecture).await.native
    }

    /// The same, with the result of the trial guest.
    pub async fn see(&self, architecture: Architecture) -> TrialResult {
        let nothing_tried = |why| TrialResult { native: Err(why), guest: None };
        let profile = ArchInfo::of(architecture);
        let (facts, mut runner) = match inspected(architecture).await {
            Ok(inspected) => inspected,
            Err(why) => return nothing_tried(why),
        };
        let before_a_guest = Requirement::to_host(architecture).unmet(&runner);
        let mut guest = None;
        if before_a_guest.is_none() || (self.insist && Path::new("/dev/kvm").exists()) {
            let tried = self.prove(architecture, profile).await;
            runner = match &tried {
                Ok(()) => runner.with(Feature::KvmGuests),
                Err(why) => runner.without(Feature::KvmGuests, why.to_string()),
            };
            guest = Some(tried);
        }
        let native = match before_a_guest {
            Some(why) if guest.is_none() => Err(why),
            _ => match Requirement::native_metal(architecture).unmet(&runner) {
                Some(why) => Err(why),
                None => {
                    let native = NativeMetal::of(&facts, profile.kvm_module);
                    Ok(native.inside(Surroundings::of_this_machine()))
                }
            },
        };
        TrialResult { native, guest }
    }

    /// The recipe of the trial guest: the first one that can be built here.
    fn trial_guest(&self, architecture: Architecture) -> Result<Recipe, String> {
        let recipes = self.catalog.recipes().filter(|recipe| {
            recipe.isa() == architecture.isa() && recipe.products().contains(&Product::Minimal)
        });
        let mut why = "no recipe for a minimal image".to_owned();
        for recipe in recipes {
            match self.catalog.unbuildable(recipe.name()) {
                None => return Ok(recipe.clone()),
                Some(unbuildable) => why = format!("the image {} {unbuildable}", recipe.name()),
            }
        }
        Err(why)
    }

    /// The QEMU that runs the trial guest: the recipe of its image, or an installed one.
    fn emulator(&self, program: &str) -> Result<(Option<Recipe>, Option<Emulator>), String> {
        if let Some(installed) = &self.installed {
            return Ok((None, Some(installed.clone())));
        }
        match emulator_source(self.catalog, program).map_err(|e| e.to_string())? {
            EmulatorSource::Installed(installed) => {
                Ok((None, Some(Emulator::Installed(installed.path.clone()))))
            }
            EmulatorSource::Recipe(name) => {
                let recipe = self.catalog.get(name).ok_or("no recipe for an emulator")?;
                Ok((Some(recipe.clone()), None))
            }
        }
    }

    async fn prove(&self, architecture: Architecture, profile: &'static ArchInfo) -> Result<(), NoGuest> {
        let not_tried = |why: String| NoGuest::NotTried(why);
        let minimal = self.trial_guest(architecture).map_err(not_tried)?;
        let (recipe, installed) = self.emulator(profile.qemu).map_err(not_tried)?;
        let (store, progress) = (Arc::clone(&self.store), Arc::clone(&self.progress));
        let provisioned = tokio::task::spawn_blocking(move || {
            let guest = store.ensure(&minimal, Product::Minimal, &*progress)?;
            let emulator = match &recipe {
                Some(recipe) => emulator_of(store.ensure(recipe, Product::Emulator, &*progress)?),
                None => installed,
            };
            Ok::<_, nestmatrix_images::Error>((guest, emulator))
        });
        let (guest, emulator) =
            provisioned.await.map_err(|e| not_tried(e.to_string()))?.map_err(|e| not_tried(e.to_string()))?;
        let (Some(kernel), Some(release), Some(initramfs), Some(emulator)) =
            (guest.kernel(), guest.kernel_version(), guest.initramfs(), emulator)
        else {
            return Err(not_tried("an image is incomplete".to_owned()));
        };
        let scratch = Scratch::create().map_err(|e| not_tried(e.to_string()))?;
        let trial = TrialGuest {
            emulator,
            kernel,
            kernel_release: release.release.clone(),
            initramfs,
            wrapper: self.wrapper.clone(),
            scratch: scratch.path(),
            nonce: nonce().map_err(|e| not_tried(e.to_string()))?,
            timeout_scale: self.timeout_scale,
        };
        trial.prove(profile).await
    }
}
