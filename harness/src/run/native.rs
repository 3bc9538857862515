//! Native metal: this machine as L0, if its KVM proves itself.
//!
//! That `/dev/kvm` exists, opens and answers proves nothing: there are machines whose KVM does all that and runs no stock
//! guest. The proof is a guest that boots to 64-bit userspace under KVM and says so within a bounded time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nestmatrix_images::{Catalog, Product, Progress, Store};

use crate::architecture::Profile;
use crate::host::{Emulator, Facts, ThisMachine};
use crate::qemu::{ExecWrapper, Memory};
use crate::scenario::{Accelerator, Architecture, AvailableImage, CpuRequirement, LevelNumber, Stage};
use crate::stack::{
    Ascent, Cancellation, Evidence, LevelPlan, Limits, Metal, StackPlan, StageListener, boot,
};

use super::Scratch;
use super::execute::{emulator_of, emulator_recipe, host_isa, nonce};

/// Native metal that has proved itself.
#[derive(Debug, Clone)]
pub struct NativeMetal {
    /// The system of this machine: `debian 13`.
    pub system: String,
    os: String,
    os_version: String,
}

/// What native metal this machine offers for each architecture, or why none.
pub type NativeMetals = BTreeMap<Architecture, Result<NativeMetal, String>>;

/// Why there is no native metal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoNativeMetal {
    /// The processor lacks the virtualization extension.
    #[error("needs {feature} on L0: this machine has none")]
    NoExtension {
        /// Its name among the CPU flags.
        feature: String,
    },
    /// `/dev/kvm` is not there, may not be opened, or has no module for the architecture behind it.
    #[error("needs a usable /dev/kvm, with {module} loaded: this machine has none that this user may open")]
    NoDevice {
        /// KVM's module for the architecture.
        module: String,
    },
    /// KVM is there but ran no guest.
    #[error("needs a KVM that runs stock guests: /dev/kvm opens here, but a trial guest failed ({0})")]
    NotProven(String),
    /// This machine can't be asked.
    #[error("this machine can't be asked what it is: {0}")]
    Unknown(String),
}

/// Longest wait for the trial guest, without the user's time scale. A stock kernel is through its boot in two seconds
/// under a KVM that works.
const TRIAL: Duration = Duration::from_secs(8);

/// The guest with which KVM proves itself.
#[derive(Debug)]
pub struct Trial<'a> {
    /// How QEMU is started here.
    pub emulator: Emulator,
    /// Kernel of a minimal image.
    pub kernel: PathBuf,
    /// Release of that kernel.
    pub kernel_release: String,
    /// Its initramfs.
    pub initramfs: PathBuf,
    /// Ties QEMU's life to the harness's.
    pub wrapper: ExecWrapper,
    /// Private folder, for sockets and for what the trial leaves.
    pub scratch: &'a Path,
    /// What the trial guest must give back.
    pub nonce: String,
    /// The user's time scale.
    pub timeout_scale: f64,
}

struct Unheard;

impl StageListener for Unheard {
    fn stage_began(&self, _: Stage) {}
}

impl NativeMetal {
    /// What this machine says of itself, before anything is tried: enough to know that it can't be native metal, not to
    /// know that it can.
    ///
    /// # Errors
    /// Why it can't be.
    pub async fn examine(profile: &Profile) -> Result<Facts, NoNativeMetal> {
        let facts = Facts::of_this_machine(profile.kvm_module).await;
        let facts = facts.map_err(|e| NoNativeMetal::Unknown(e.to_string()))?;
        if let Some(feature) = profile.virtualization_flag
            && !facts.cpu_flags.iter().any(|flag| flag == feature)
        {
            return Err(NoNativeMetal::NoExtension { feature: feature.to_owned() });
        }
        if facts.kvm_device && facts.kvm_module {
            Ok(facts)
        } else {
            Err(NoNativeMetal::NoDevice { module: profile.kvm_module.to_owned() })
        }
    }

    /// Boots one guest under this machine's KVM.
    ///
    /// # Errors
    /// Where and why it stopped.
    pub async fn prove(profile: &'static Profile, trial: Trial<'_>) -> Result<(), NoNativeMetal> {
        let guest = LevelNumber::ALL[1];
        let level = LevelPlan {
            level: guest,
            kernel: trial.kernel,
            kernel_release: trial.kernel_release,
            initramfs: trial.initramfs,
            images: None,
            image: String::new(),
            cpu: CpuRequirement::default(),
            accelerator: Accelerator::Kvm,
            memory_mib: None,
            kernel_parameters: Vec::new(),
            machine: BTreeMap::new(),
            disk: None,
        };
        let plan = StackPlan {
            metal: Metal::Native,
            profile,
            levels: vec![level],
            nonce: trial.nonce,
            stays: false,
            second: None,
            memory: Memory::Private,
            goes_on: false,
        };
        let this_machine = ThisMachine {
            emulator: trial.emulator,
            program: profile.qemu,
            wrapper: trial.wrapper,
            sockets: trial.scratch.to_owned(),
            records: trial.scratch.to_owned(),
        };
        let limits = Limits::fixed(TRIAL.mul_f64(trial.timeout_scale));
        let (_keep, cancellation) = Cancellation::new();
        let observation = boot(Ascent {
            plan: &plan,
            this_machine,
            limits,
            faults: &[],
            steps: &[],
            records: trial.scratch,
            started: Instant::now(),
            listener: &Unheard,
            cancellation,
            from: None,
            saver: None,
        })
        .await;
        if let Some(stop) = observation.stop {
            return Err(NoNativeMetal::NotProven(format!("{}: {}", stop.stage, stop.symptom)));
        }
        let weighed = Evidence::weigh(&observation.gathered, guest, profile);
        weighed.map(|_| ()).map_err(|doubt| NoNativeMetal::NotProven(doubt.to_string()))
    }

    pub(super) fn of(facts: &Facts) -> Self {
        Self {
            system: format!("{} {}", facts.os, facts.os_version).trim().to_owned(),
            os: facts.os.clone(),
            os_version: facts.os_version.clone(),
        }
    }

    /// This machine's system as an image of L0, if it has a version that can be compared.
    pub(super) fn image(&self) -> Option<AvailableImage> {
        let version = self.os_version.parse().ok()?;
        Some(AvailableImage {
            name: format!("{}-{}", self.os, self.os_version),
            system: self.os.clone(),
            version,
        })
    }

    pub(super) fn unknown_system(&self) -> String {
        format!("needs to know this machine's system: its os-release says {:?}", self.system)
    }
}

/// Finds out whether this machine can be native metal.
pub struct MachineTrial<'a> {
    /// Recipes.
    pub catalog: &'a Catalog,
    /// Images.
    pub store: Arc<Store>,
    /// Told of builds and downloads.
    pub progress: Arc<dyn Progress + Send + Sync>,
    /// This machine's own QEMU, if it has one.
    pub installed: Option<Emulator>,
    /// Ties the life of whatever is started to the harness's.
    pub wrapper: ExecWrapper,
    /// What the trial's time limit is multiplied by.
    pub timeout_scale: f64,
    /// Try a guest even where the processor already rules native metal out, so that the user learns all of it.
    pub insist: bool,
}

impl MachineTrial<'_> {
    /// Tries it for stacks of `architecture`.
    ///
    /// # Errors
    /// Every reason that was found, joined.
    pub async fn run(&self, architecture: Architecture) -> Result<NativeMetal, String> {
        let profile = Profile::of(architecture);
        let (isa, here) = (architecture.isa(), host_isa());
        if isa != here {
            return Err(format!("needs a machine of {isa}: this one is {here}"));
        }
        let examined = NativeMetal::examine(profile).await;
        let mut reasons: Vec<String> = examined.as_ref().err().map(ToString::to_string).into_iter().collect();
        if reasons.is_empty() || (self.insist && Path::new("/dev/kvm").exists()) {
            match self.prove(architecture, profile).await {
                Ok(()) => {}
                Err(why) => reasons.push(why),
            }
        }
        match examined {
            Ok(facts) if reasons.is_empty() => Ok(NativeMetal::of(&facts)),
            _ => Err(reasons.join("; ")),
        }
    }

    async fn prove(&self, architecture: Architecture, profile: &'static Profile) -> Result<(), String> {
        let minimal = self.catalog.recipes().find(|recipe| {
            recipe.architecture().debian() == architecture.isa()
                && recipe.products().contains(&Product::Minimal)
        });
        let minimal = minimal.ok_or("no recipe for a minimal image")?.clone();
        // An installed QEMU needs no recipe.
        let recipe = match &self.installed {
            Some(_) => None,
            None => {
                let name = emulator_recipe(self.catalog, profile.qemu).map_err(|e| e.to_string())?;
                Some(self.catalog.get(&name).ok_or("no recipe for an emulator")?.clone())
            }
        };
        let (store, progress) = (Arc::clone(&self.store), Arc::clone(&self.progress));
        let installed = self.installed.clone();
        let provisioned = tokio::task::spawn_blocking(move || {
            let guest = store.ensure(&minimal, Product::Minimal, &*progress)?;
            let emulator = match &recipe {
                Some(recipe) => emulator_of(store.ensure(recipe, Product::Emulator, &*progress)?),
                None => installed,
            };
            Ok::<_, nestmatrix_images::Error>((guest, emulator))
        });
        let (guest, emulator) =
            provisioned.await.map_err(|e| e.to_string())?.map_err(|e| format!("KVM can't be tried: {e}"))?;
        let (Some(kernel), Some(release), Some(initramfs), Some(emulator)) =
            (guest.kernel(), guest.kernel_version(), guest.initramfs(), emulator)
        else {
            return Err("KVM can't be tried: an image is not complete".into());
        };
        let scratch = Scratch::create().map_err(|e| format!("KVM can't be tried: {e}"))?;
        let trial = Trial {
            emulator,
            kernel,
            kernel_release: release.release.clone(),
            initramfs,
            wrapper: self.wrapper.clone(),
            scratch: scratch.path(),
            nonce: nonce().map_err(|e| e.to_string())?,
            timeout_scale: self.timeout_scale,
        };
        NativeMetal::prove(profile, trial).await.map_err(|e| e.to_string())
    }
}
