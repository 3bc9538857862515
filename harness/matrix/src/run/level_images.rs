//! Chooses the image that each level of a cell boots, from the recipes of the catalog.

use nestmatrix_images::{Catalog, Product, Recipe};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, Isa, LevelNumber, Version};

use super::NativeMetal;
use super::emulator_errata::why_barred;
use super::fate::{Planner, no_emulator};
use super::plan::{Alternative, PlannedLevel};
use crate::records::{SkipReason, no_machine};
use crate::scenario::{
    AvailableImage, Cell, ImageChoice, LevelSpec, Matrix, MissingImage, Permitted, Supply, System,
    UnbuildableImage,
};

impl Planner<'_> {
    /// Finds an image for every level, or every reason why there is none.
    pub(super) fn levels(
        &self,
        cell: &Cell,
        native: Option<&NativeMetal>,
    ) -> Result<Vec<PlannedLevel>, Vec<SkipReason>> {
        let isa = cell.architecture.isa();
        let innermost = cell.levels.last().map(|spec| spec.level);
        let permitted = Permitted::of(cell, self.options.denied);
        let mut levels = Vec::new();
        // In the order of discovery. Levels without the same image share one reason.
        let mut reasons: Vec<SkipReason> = Vec::new();
        for spec in &cell.levels {
            let this_machine = native.filter(|_| spec.level == LevelNumber::ALL[0]);
            let available = self.supply.of(cell.architecture, spec.level);
            let choice = match this_machine {
                _ if self.options.suppose_images && !spec.system.is_emulator() => self.supposed(spec, isa),
                Some(native) => native_choice(native, spec, cell.architecture, self.matrix, permitted)
                    .map_err(|why| SkipReason::AnotherSystem { isa: isa.to_string(), why }),
                None => self
                    .matrix
                    .image_from(&self.supply, &spec.system, cell.architecture, spec.level, permitted)
                    .map_err(|missing| SkipReason::NoImage {
                        levels: vec![spec.level],
                        isa: isa.to_string(),
                        missing: Box::new(missing),
                    }),
            };
            match choice {
                Ok(choice) => {
                    let reports = Some(spec.level) == innermost && spec.level.reports();
                    let product = if reports { Product::Minimal } else { Product::Hypervisor };
                    let on_metal = native.is_none() && spec.level == LevelNumber::ALL[0];
                    let variant = ArchInfo::of(cell.architecture).metal.variant().filter(|_| on_metal);
                    let boots = |choice: &ImageChoice| {
                        if self.options.suppose_images {
                            return Some((choice.image.clone(), product));
                        }
                        let recipe = recipe_of(self.catalog, &choice.image, isa, variant)?;
                        Some((recipe.name().to_owned(), product))
                    };
                    let runs_already = this_machine.is_some() || spec.system.is_emulator();
                    let (recipe, others) = if runs_already {
                        (None, Vec::new())
                    } else {
                        let others = self.matrix.other_images(
                            &spec.system,
                            cell.architecture,
                            available,
                            permitted,
                            &choice,
                        );
                        let others = others
                            .into_iter()
                            .filter_map(|choice| Some(Alternative { boots: boots(&choice)?, choice }));
                        (boots(&choice), others.collect())
                    };
                    levels.push(PlannedLevel { spec: spec.clone(), choice, boots: recipe, others });
                }
                Err(reason) => {
                    let same =
                        reasons.iter_mut().find(|known| known.without_levels() == reason.without_levels());
                    match same {
                        Some(SkipReason::NoImage { levels, .. }) => levels.push(spec.level),
                        _ => reasons.push(reason),
                    }
                }
            }
        }
        if reasons.is_empty() { Ok(levels) } else { Err(reasons) }
    }

    /// Supposes an image of the exact system that a level requires. A system that can't be a level still has none.
    fn supposed(&self, spec: &LevelSpec, isa: Isa) -> Result<ImageChoice, SkipReason> {
        let is_level = |system: &System| system.id != spec.system.system || system.no_machine.is_none();
        if spec.system.role.is_none() && self.matrix.systems().iter().all(is_level) {
            return Ok(ImageChoice::product(spec.system.slug()));
        }
        let missing = Box::new(MissingImage::NoImage { requirement: spec.system.clone() });
        Err(SkipReason::NoImage { levels: vec![spec.level], isa: isa.to_string(), missing })
    }
}

/// This machine's own system as L0, if it is the one that the scenario requires or stands in for it.
fn native_choice(
    native: &NativeMetal,
    spec: &LevelSpec,
    architecture: Architecture,
    matrix: &Matrix,
    permitted: Permitted<'_>,
) -> Result<ImageChoice, String> {
    if spec.system.is_emulator() {
        return Err(format!("{} is an emulator, and native metal does without one", spec.system));
    }
    let image = native.image().ok_or_else(|| native.unknown_system())?;
    let name = image.name.clone();
    matrix.image_for(&spec.system, architecture, &[image], permitted).map_err(|missing| {
        let forbidden = missing.what_forbids(&name).map_or(String::new(), |what| format!(", {what}"));
        format!("needs {}: this machine runs {}{forbidden}", spec.system, native.system)
    })
}

/// The images that stacks can boot: for each architecture those whose recipe makes levels and can be built here, by the names of
/// the scenario model (`debian-13`).
pub fn supply(catalog: &Catalog) -> Supply {
    let images = |architecture: Architecture, variant: Option<&str>| {
        let recipes = recipes_for(catalog, architecture.isa(), variant);
        recipes
            .filter(|recipe| catalog.unbuildable(recipe.name()).is_none())
            .filter_map(available_image)
            .collect()
    };
    let unbuildable = |architecture: Architecture, variant: Option<&str>| {
        let recipes = recipes_for(catalog, architecture.isa(), variant);
        let unbuildable = recipes.filter_map(|recipe| {
            let why = catalog.unbuildable(recipe.name())?.to_string();
            Some(UnbuildableImage { image: available_image(recipe)?, why })
        });
        unbuildable.collect()
    };
    let catalog = catalog.clone();
    let on_metal = |architecture: Architecture| ArchInfo::of(architecture).metal.variant();
    Supply::new(|architecture| images(architecture, None))
        .on_metal(|architecture| images(architecture, on_metal(architecture)))
        .with_unbuildable(
            |architecture| unbuildable(architecture, None),
            |architecture| unbuildable(architecture, on_metal(architecture)),
        )
        .barring(move |cell| match &cell.no_machine {
            Some(why) => Some(no_machine(why)),
            None => why_barred(cell).or_else(|| Some(no_emulator(cell, &catalog)?.to_string())),
        })
}

/// The recipes that make levels of this instruction set and variant.
fn recipes_for<'c>(
    catalog: &'c Catalog,
    isa: Isa,
    variant: Option<&str>,
) -> impl Iterator<Item = &'c Recipe> {
    catalog.recipes().filter(move |recipe| {
        let makes_levels = recipe.products().iter().any(|product| *product != Product::Emulator);
        makes_levels && recipe.isa() == isa && recipe.is_variant(variant)
    })
}

fn available_image(recipe: &Recipe) -> Option<AvailableImage> {
    let os = recipe.os()?;
    let version: Version = os.version.parse().ok()?;
    Some(AvailableImage { name: format!("{}-{}", os.id, os.version), system: os.id.clone(), version })
}

/// The recipe of an image that was chosen. Of several, it is one that can be built here.
fn recipe_of<'c>(catalog: &'c Catalog, image: &str, isa: Isa, variant: Option<&str>) -> Option<&'c Recipe> {
    recipes_for(catalog, isa, variant).find(|recipe| {
        catalog.unbuildable(recipe.name()).is_none()
            && available_image(recipe).is_some_and(|a| a.name == image)
    })
}
