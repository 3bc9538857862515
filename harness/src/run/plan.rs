//! What a run will do: for each cell, the image of each level and the metal, or why it is skipped. Nothing runs yet.

use nestmatrix_images::{Catalog, Product, Recipe};
use serde::{Deserialize, Serialize};

use crate::architecture::Profile;
use crate::scenario::{AvailableImage, Cell, Choice, LevelNumber, LevelSpec, Matrix, RunProfile, Version};
use crate::stack::Metal;

use super::NativeMetal;

/// What the user wants L0 to run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MetalChoice {
    /// Native metal where it proves itself, emulated metal otherwise.
    #[default]
    Auto,
    /// Native metal only.
    Native,
    /// Emulated metal only.
    Emulated,
}

/// What a plan is made with.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// What L0 is to run on.
    pub metal: MetalChoice,
    /// Use no image that stands in for another system.
    pub deny_stand_ins: bool,
    /// The profile whose cells are planned, if they are those of one.
    pub profile: Option<RunProfile>,
}

/// A level of a planned cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLevel {
    /// The level as the scenario asks for it.
    pub spec: LevelSpec,
    /// The image, or on native metal for L0 the system of this machine.
    pub choice: Choice,
    /// The recipe and product to boot; none for L0 on native metal, which runs already.
    pub boots: Option<(String, Product)>,
}

/// What becomes of a cell.
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
    Skipped(Vec<String>),
}

/// A cell and what becomes of it.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The cell.
    pub cell: Cell,
    /// What becomes of it.
    pub fate: Fate,
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
    /// Every cell that the profile and the filter let through.
    pub cells: Vec<Planned>,
    /// The profile, if it is a run of one.
    pub profile: Option<PlannedProfile>,
    /// Why native metal is not used, where that was a question.
    pub no_native: Option<String>,
}

/// Typical time of one cold stack of three levels, in seconds, for the estimate that a user is shown before a run: on
/// emulated metal as measured on a machine with 2 cores, on native metal about one per level.
const TYPICAL_SECONDS: [(Metal, u64); 2] = [(Metal::Emulated, 30), (Metal::Native, 6)];

impl RunPlan {
    /// Plans these cells. `native` says what native metal this machine offers, or why none.
    pub fn new(
        cells: impl IntoIterator<Item = Cell>,
        matrix: &Matrix,
        catalog: &Catalog,
        native: Result<&NativeMetal, String>,
        options: &PlanOptions,
    ) -> Self {
        let cells = cells.into_iter().map(|cell| {
            let fate = fate(&cell, matrix, catalog, &native, options);
            Planned { cell, fate }
        });
        let cells = cells.collect();
        let no_native = if options.metal == MetalChoice::Emulated { None } else { native.err() };
        let profile = options.profile.as_ref().map(|profile| PlannedProfile {
            name: profile.name.clone(),
            title: profile.title.clone(),
            of: matrix.cells().len(),
            full: full(matrix),
        });
        Self { cells, profile, no_native }
    }

    /// The cells that boot.
    pub fn boots(&self) -> impl Iterator<Item = &Planned> {
        self.cells.iter().filter(|planned| matches!(planned.fate, Fate::Boots { .. }))
    }

    /// The cells that are skipped, with the reasons.
    pub fn skipped(&self) -> impl Iterator<Item = (&Cell, &[String])> {
        self.cells.iter().filter_map(|planned| match &planned.fate {
            Fate::Skipped(reasons) => Some((&planned.cell, reasons.as_slice())),
            Fate::Boots { .. } => None,
        })
    }

    /// Every recipe and product that is needed, each once.
    pub fn images(&self) -> Vec<(String, Product)> {
        let mut images: Vec<_> = self
            .cells
            .iter()
            .filter_map(|planned| match &planned.fate {
                Fate::Boots { levels, .. } => Some(levels.iter().filter_map(|level| level.boots.clone())),
                Fate::Skipped(_) => None,
            })
            .flatten()
            .collect();
        images.sort();
        images.dedup();
        images
    }

    /// A rough idea of how long the boots will take with this many side by side, in seconds.
    pub fn estimated_seconds(&self, jobs: usize) -> u64 {
        let seconds = |planned: &Planned| match &planned.fate {
            Fate::Skipped(_) => 0,
            Fate::Boots { metal, .. } => {
                TYPICAL_SECONDS.iter().find(|(of, _)| of == metal).map_or(0, |(_, seconds)| *seconds)
            }
        };
        self.cells.iter().map(seconds).sum::<u64>().div_ceil(jobs.max(1) as u64)
    }
}

fn fate(
    cell: &Cell,
    matrix: &Matrix,
    catalog: &Catalog,
    native: &Result<&NativeMetal, String>,
    options: &PlanOptions,
) -> Fate {
    if Profile::of(cell.architecture).is_none() {
        return Fate::Skipped(vec![format!("no way to boot {} stacks yet", cell.architecture)]);
    }
    let on_native = |native: &NativeMetal| levels(cell, matrix, catalog, Some(native), options);
    let on_emulated = || levels(cell, matrix, catalog, None, options);
    let (metal, levels) = match (options.metal, native) {
        (MetalChoice::Native, Err(why)) => return Fate::Skipped(vec![why.clone()]),
        (MetalChoice::Native, Ok(native)) => (Metal::Native, on_native(native)),
        (MetalChoice::Auto, Ok(native)) => match on_native(native) {
            // What this machine's own system can't serve as L0 can still be tried on emulated metal.
            Err(_) => (Metal::Emulated, on_emulated()),
            levels => (Metal::Native, levels),
        },
        (MetalChoice::Auto, Err(_)) | (MetalChoice::Emulated, _) => (Metal::Emulated, on_emulated()),
    };
    match levels {
        Ok(levels) => Fate::Boots { metal, levels },
        Err(reasons) => Fate::Skipped(reasons),
    }
}

/// The profile that takes every cell.
fn full(matrix: &Matrix) -> Option<String> {
    let takes_all = |profile: &&RunProfile| matrix.cells().iter().all(|cell| profile.takes(&cell.name));
    matrix.profiles().find(takes_all).map(|profile| profile.name.clone())
}

/// Finds an image for every level, or every reason why there is none.
fn levels(
    cell: &Cell,
    matrix: &Matrix,
    catalog: &Catalog,
    native: Option<&NativeMetal>,
    options: &PlanOptions,
) -> Result<Vec<PlannedLevel>, Vec<String>> {
    let isa = cell.architecture.isa();
    let available = available_images(catalog, isa);
    let innermost = cell.levels.last().map(|spec| spec.level);
    let mut levels = Vec::new();
    // Levels by what they lack, in the order in which that was found.
    let mut lacking: Vec<(String, Vec<LevelNumber>)> = Vec::new();
    for spec in &cell.levels {
        let this_machine = native.filter(|_| spec.level == LevelNumber::ALL[0]);
        let choice = match this_machine {
            Some(native) => native_choice(native, spec, matrix, options),
            None => {
                let choice = matrix.image_for(&spec.system, &available, options.deny_stand_ins);
                choice.map_err(|missing| missing.to_string())
            }
        };
        match choice {
            Ok(choice) => {
                let product =
                    if Some(spec.level) == innermost { Product::Minimal } else { Product::Hypervisor };
                let recipe = recipe_of(catalog, &choice.image, isa).map(|recipe| recipe.name().to_owned());
                let boots =
                    if this_machine.is_some() { None } else { recipe.map(|recipe| (recipe, product)) };
                levels.push(PlannedLevel { spec: spec.clone(), choice, boots });
            }
            Err(reason) => match lacking.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, levels)) => levels.push(spec.level),
                None => lacking.push((reason, vec![spec.level])),
            },
        }
    }
    if lacking.is_empty() {
        return Ok(levels);
    }
    let name = |(reason, levels): (String, Vec<LevelNumber>)| {
        let levels: Vec<String> = levels.iter().map(ToString::to_string).collect();
        format!("{reason} ({} on {isa})", levels.join(" and "))
    };
    Err(lacking.into_iter().map(name).collect())
}

/// This machine's own system as L0, if it is what the scenario asks for or stands in for it.
fn native_choice(
    native: &NativeMetal,
    spec: &LevelSpec,
    matrix: &Matrix,
    options: &PlanOptions,
) -> Result<Choice, String> {
    let image = native.image().ok_or_else(|| native.unknown_system())?;
    let choice = matrix.image_for(&spec.system, &[image], options.deny_stand_ins);
    choice.map_err(|_| format!("needs {}: this machine runs {}", spec.system, native.system))
}

/// What there are recipes for on an architecture, as the scenario model knows images: `debian-13`.
pub fn available_images(catalog: &Catalog, isa: &str) -> Vec<AvailableImage> {
    let of_isa = catalog.recipes().filter(|recipe| recipe.architecture().debian() == isa);
    of_isa.filter_map(available_image).collect()
}

fn available_image(recipe: &Recipe) -> Option<AvailableImage> {
    let os = recipe.os()?;
    let version: Version = os.version.parse().ok()?;
    Some(AvailableImage { name: format!("{}-{}", os.id, os.version), system: os.id.clone(), version })
}

fn recipe_of<'c>(catalog: &'c Catalog, image: &str, isa: &str) -> Option<&'c Recipe> {
    catalog.recipes().find(|recipe| {
        recipe.architecture().debian() == isa && available_image(recipe).is_some_and(|a| a.name == image)
    })
}
