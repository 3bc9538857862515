//! What a run will do: for each cell, the image of each level and the metal, or why it is skipped. Nothing runs yet.

use std::collections::{BTreeMap, BTreeSet};

use nestmatrix_images::{Catalog, DiskRecipe, Product, Recipe};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, Isa};
use nestmatrix_stack::Metal;
use serde::{Deserialize, Serialize};

use super::NativeMetals;
use super::fate::Planner;
use super::level_images::supply;
use super::other_qemu::PlannedOtherQemu;
use super::savable::always_cold;
use crate::records::SkipReason;
use crate::scenario::{Cell, Denied, Filter, ImageChoice, LevelSpec, Matrix, RunProfile};
use crate::surroundings::GuestOf;

/// What the user wants L0 to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetalChoice {
    /// Native metal if it proves itself, otherwise emulated metal.
    #[default]
    Auto,
    /// Native metal only.
    Native,
    /// Emulated metal only.
    Emulated,
}

/// The options of a plan.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// The metal that L0 runs on.
    pub metal: MetalChoice,
    /// The images that are not used.
    pub denied: Denied,
    /// Cells that must run on this machine: if one can't, that is an error instead of a skip.
    pub deny_skips: Option<Filter>,
    /// The profile whose cells are planned, if any.
    pub profile: Option<RunProfile>,
    /// L0 boots with another kernel or QEMU, which this machine as L0 can't.
    pub replaces_l0: bool,
    /// This machine may be changed as L0, and is restored after each cell. The caller has its administrator's permission.
    pub disposable_host: bool,
    /// Suppose that there is an image of every system that can be a level, and that this machine runs the system that L0 requires. The
    /// cells that are still skipped are those that the harness and the metal can't run. Such a plan is only shown, never carried out.
    pub suppose_images: bool,
}

/// A level of a planned cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLevel {
    /// The level as the scenario describes it.
    pub spec: LevelSpec,
    /// The image, or on native metal for the level that this machine is, its system.
    pub choice: ImageChoice,
    /// The recipe and product to boot; none for this machine on native metal, which runs already, for an L0 around it, and for
    /// an L0 that is the emulator.
    pub boots: Option<(String, Product)>,
    /// The recipe and product of its firmware, if its scenario sets UEFI.
    pub firmware: Option<(String, Product)>,
    /// The recipe and product of the swtpm that plays its TPM; none if it has no TPM, or if the installed swtpm plays it.
    pub swtpm: Option<(String, Product)>,
    /// The image of the QEMU that it can be migrated to, if its scenario asks for one.
    pub other_qemu: Option<PlannedOtherQemu>,
    /// Other images that can serve it, the next best first.
    pub others: Vec<Alternative>,
}

/// Another image that a level can boot, if its own can't be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    /// The image.
    pub choice: ImageChoice,
    /// The recipe and product to boot.
    pub boots: (String, Product),
}

/// What happens to a cell.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is booted on this metal.
    Boots {
        /// What L0 runs on.
        metal: Metal,
        /// Its levels, L0 first.
        levels: Vec<PlannedLevel>,
    },
    /// It is skipped for these missing requirements.
    Skipped(Vec<SkipReason>),
}

/// A cell and what happens to it.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The cell.
    pub cell: Cell,
    /// What happens to it.
    pub fate: Fate,
    /// Whether it is an error if it is skipped.
    pub must_run: bool,
    /// What runs this machine, if the cell boots on native metal and this machine is a guest.
    pub guest_of: Option<GuestOf>,
}

impl Planned {
    /// About how long it takes to boot it from its beginning, in seconds.
    pub(super) fn typical_seconds(&self, metal: Metal) -> f64 {
        let seconds = match metal {
            Metal::Native if self.cell.windows().is_some() => WINDOWS_SECONDS,
            Metal::Native => NATIVE_SECONDS,
            Metal::Emulated => ArchInfo::of(self.cell.architecture).typical_seconds,
        };
        seconds as f64
    }
}

/// The profile whose cells are planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedProfile {
    /// Its name.
    pub name: String,
    /// What it chooses.
    pub title: String,
    /// The cells of the whole matrix.
    pub of: usize,
    /// A profile of all of them, if there is one.
    pub full: Option<String>,
}

/// What a run will do.
#[derive(Debug, Clone, Default)]
pub struct RunPlan {
    /// Every cell that the profile and the filter choose.
    pub cells: Vec<Planned>,
    /// The profile, if it is a run of one.
    pub profile: Option<PlannedProfile>,
    /// Why native metal is not used, one entry an architecture; empty if nothing else was asked for.
    pub no_native: Vec<(Architecture, String)>,
    /// The emulators of this machine that play bare machines because their images can't be built here.
    pub installed_emulators: BTreeSet<String>,
    /// The media that are prepared before anything boots, since a cell boots them.
    pub prepared_first: BTreeSet<String>,
    /// The media that no cell boots because they can't be used, and why.
    pub unusable_media: BTreeMap<String, String>,
}

/// Typical time of one cold stack of three levels on native metal, in seconds, for the estimate that is printed before a run: about
/// one boot a level.
const NATIVE_SECONDS: u64 = 6;

/// The same for a stack with Windows. It is an estimate: no such stack has been measured.
const WINDOWS_SECONDS: u64 = 300;

impl RunPlan {
    /// Plans these cells. `natives` says for each of their architectures what native metal this machine offers, or why
    /// none.
    pub fn new(
        cells: impl IntoIterator<Item = Cell>,
        matrix: &Matrix,
        catalog: &Catalog,
        natives: &NativeMetals,
        options: &PlanOptions,
    ) -> Self {
        let planner = Planner { matrix, catalog, supply: supply(catalog), options };
        let cells = cells.into_iter().map(|cell| {
            let native = natives.get(&cell.architecture).map(|native| native.as_ref().map_err(Clone::clone));
            let fate = planner.fate(&cell, &native.unwrap_or_else(|| Err("not asked for".to_owned())));
            let on_native = matches!(fate, Fate::Boots { metal: Metal::Native, .. });
            let machine = natives.get(&cell.architecture).and_then(|native| native.as_ref().ok());
            let machine = machine.filter(|_| on_native);
            let guest_of = machine.and_then(|machine| machine.guest_of(matrix, cell.this_machine()));
            let must_run = options.deny_skips.as_ref().is_some_and(|cells| cells.matches(&cell.name));
            Planned { cell, fate, must_run, guest_of }
        });
        let cells = cells.collect();
        let no_native = if options.metal == MetalChoice::Emulated { Vec::new() } else { no_native(natives) };
        let profile = options.profile.as_ref().map(|profile| PlannedProfile {
            name: profile.name.clone(),
            title: profile.title.clone(),
            of: matrix.cells().len(),
            full: full(matrix),
        });
        let plan = Self { cells, profile, no_native, ..Self::default() };
        Self { installed_emulators: plan.installed_emulators_in(catalog), ..plan }.with_media(catalog)
    }

    /// Adds what is to be said about the user's media.
    fn with_media(mut self, catalog: &Catalog) -> Self {
        let booted = self.images();
        for of in catalog.uses_of_media() {
            // A Windows has a disk for each of its roles.
            let is_of_it = |recipe: &&Recipe| {
                let is_of_medium = |disk: DiskRecipe<'_>| **disk.medium() == **of.medium;
                recipe.disk().is_some_and(is_of_medium)
            };
            let is_new = |recipe: &Recipe| {
                let needs_it = recipe.disk().is_some_and(|disk| disk.needs_preparation());
                needs_it && catalog.prepared(recipe.name()).is_none()
            };
            let mut booted = booted.iter().filter(|(_, product)| *product == Product::Disk);
            if let Some(why) = of.unusable() {
                self.unusable_media.insert(of.medium.name(), why);
            } else if booted.any(|(name, _)| catalog.get(name).filter(is_of_it).is_some_and(is_new)) {
                self.prepared_first.insert(of.medium.name());
            }
        }
        self
    }

    /// The cells that boot.
    pub fn boots(&self) -> impl Iterator<Item = &Planned> {
        self.cells.iter().filter(|planned| matches!(planned.fate, Fate::Boots { .. }))
    }

    /// The cells that are skipped, with the reasons.
    pub fn skipped(&self) -> impl Iterator<Item = (&Cell, &[SkipReason])> {
        self.cells.iter().filter_map(|planned| match &planned.fate {
            Fate::Skipped(reasons) => Some((&planned.cell, reasons.as_slice())),
            Fate::Boots { .. } => None,
        })
    }

    /// The cells that are skipped though they must run.
    pub fn denied(&self) -> impl Iterator<Item = &Cell> {
        let denied = |planned: &&Planned| planned.must_run && matches!(planned.fate, Fate::Skipped(_));
        self.cells.iter().filter(denied).map(|planned| &planned.cell)
    }

    /// Every recipe and product that is needed, each once.
    pub fn images(&self) -> Vec<(String, Product)> {
        let mut images: Vec<_> = self
            .cells
            .iter()
            .filter_map(|planned| match &planned.fate {
                Fate::Boots { levels, .. } => {
                    let of_level = |level: &PlannedLevel| {
                        let PlannedLevel { boots, firmware, swtpm, other_qemu, .. } = level.clone();
                        let other_qemu = other_qemu.map(|other| other.image);
                        [boots, firmware, swtpm, other_qemu].into_iter().flatten()
                    };
                    Some(levels.iter().flat_map(of_level))
                }
                Fate::Skipped(_) => None,
            })
            .flatten()
            .collect();
        images.sort();
        images.dedup();
        images
    }

    /// The cells that always boot from their beginning, by the reason.
    pub fn always_cold(&self) -> BTreeMap<String, usize> {
        let mut reasons = BTreeMap::new();
        for reason in self.cells.iter().filter_map(always_cold) {
            *reasons.entry(reason).or_default() += 1;
        }
        reasons
    }

    /// A rough estimate of how long the boots will take with this many in parallel, in seconds.
    pub fn estimated_seconds(&self, jobs: usize) -> u64 {
        let seconds = |planned: &Planned| match &planned.fate {
            Fate::Skipped(_) => 0.0,
            Fate::Boots { metal, .. } => planned.typical_seconds(*metal),
        };
        (self.cells.iter().map(seconds).sum::<f64>() / jobs.max(1) as f64).ceil() as u64
    }
}

/// Why native metal is not used, one entry an architecture. Architectures of another instruction set are left out.
fn no_native(natives: &NativeMetals) -> Vec<(Architecture, String)> {
    let ours = natives.iter().filter(|(architecture, _)| Some(architecture.isa()) == Isa::of_this_machine());
    ours.filter_map(|(architecture, native)| Some((*architecture, native.as_ref().err()?.clone()))).collect()
}

/// The profile that takes every cell.
fn full(matrix: &Matrix) -> Option<String> {
    let takes_all = |profile: &&RunProfile| matrix.cells().iter().all(|cell| profile.takes(&cell.name));
    matrix.profiles().find(takes_all).map(|profile| profile.name.clone())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
