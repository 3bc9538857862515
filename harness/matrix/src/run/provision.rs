//! Makes the images of a plan ready before anything boots: emulators first, then what the levels boot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nestmatrix_images::{Catalog, Error, Image, Product, Progress, Recipe, Store};
use nestmatrix_model::Isa;
use nestmatrix_stack::{Cancellation, Metal};
use tokio::task::JoinSet;

use super::guests;
use super::outermost::{EmulatorSource, emulator_source, outermost_image, outermost_program};
use super::panic::caught;
use super::{DiskPreparation, Fate, Planned, Rerouted, RunError, RunPlan, Setting};
use crate::records::UndeliveredImage;

/// Images by recipe and product, or why one is not available.
#[derive(Debug, Default)]
pub(super) struct Images(BTreeMap<(String, Product), Result<Image, String>>);

impl Images {
    /// The image of this recipe and product, or why it is not available.
    pub(super) fn get(&self, key: &(String, Product)) -> Result<&Image, String> {
        match self.0.get(key) {
            Some(Ok(image)) => Ok(image),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("image {} {} was not made ready", key.0, key.1)),
        }
    }

    /// Notes why an image is not available.
    pub(super) fn refuse(&mut self, key: &(String, Product), why: String) {
        self.0.insert(key.clone(), Err(why));
    }

    /// Name and version of each emulator's package, each once, in order.
    pub(super) fn emulator_packages(&self) -> BTreeSet<String> {
        let emulators = self.0.iter().filter(|((_, product), _)| *product == Product::Emulator);
        let package = |image: &Result<Image, String>| {
            let package = image.as_ref().ok()?.qemu_version()?;
            Some(format!("{} {}", package.package, package.version))
        };
        emulators.filter_map(|(_, image)| package(image)).collect()
    }
}

/// Makes every image of the plan ready. If the archive does not deliver one, the plan is changed to do without it. If an image can't be
/// built for another reason, that is an error of the cells that need it.
pub(super) async fn provision(
    plan: &mut RunPlan,
    setting: &mut Setting,
    cancellation: &Cancellation,
) -> Result<(Images, Vec<(UndeliveredImage, Rerouted)>), RunError> {
    let installed = setting.native_qemu.is_some();
    let mut images = Images::default();
    let mut undelivered: Vec<UndeliveredImage> = Vec::new();
    let mut missing_images = Vec::new();
    let mut has_guests = false;
    loop {
        // Emulators go first: without its emulator, a cell needs no other image.
        let mut wanted = emulators(plan, &setting.catalog, installed)?;
        wanted.retain(|key| !images.0.contains_key(key));
        if wanted.is_empty() {
            wanted.extend(plan.images().into_iter().filter(|key| !images.0.contains_key(key)));
        }
        if wanted.is_empty() && has_guests {
            return Ok((images, missing_images));
        }
        if wanted.is_empty() {
            // The images that they are derived from are there now.
            guests::derive(plan, &mut setting.catalog, &mut images);
            has_guests = true;
            continue;
        }
        let (disks, wanted): (BTreeSet<_>, _) =
            wanted.into_iter().partition(|(_, product)| *product == Product::Disk);
        let (built, missing) = build_images(wanted, setting, builds_side_by_side()).await?;
        images.0.extend(built.0);
        images.0.extend(prepare_disks(disks, plan, setting, cancellation).await);
        for image in missing {
            undelivered.push(image.clone());
            let mut rerouted = plan.do_without(&undelivered);
            let needs = |planned: &Planned| {
                let emulator = outermost_image(planned, &setting.catalog, installed);
                emulator.is_ok_and(|key| key.is_some_and(|(recipe, _)| recipe == image.recipe))
            };
            rerouted.skipped += plan.skip_without_emulator(&image, needs);
            missing_images.push((image, rerouted));
        }
    }
}

/// Builds images, or finds them in the cache, for so many recipes side by side. The second result are those that the archive does not
/// deliver.
pub(super) async fn build_images(
    wanted: BTreeSet<(String, Product)>,
    setting: &Setting,
    side_by_side: usize,
) -> Result<(Images, Vec<UndeliveredImage>), RunError> {
    let mut products: BTreeMap<String, Vec<Product>> = BTreeMap::new();
    for (recipe, product) in wanted {
        products.entry(recipe).or_default().push(product);
    }
    let (mut images, mut undelivered) = (Images::default(), Vec::new());
    let mut waiting = products.into_iter();
    let mut building = JoinSet::new();
    loop {
        while building.len() < side_by_side.max(1)
            && let Some((name, products)) = waiting.next()
        {
            let recipe = setting.catalog.get(&name).cloned();
            let (store, progress) = (Arc::clone(&setting.store), Arc::clone(&setting.progress));
            building
                .spawn_blocking(move || products_of(&name, recipe.as_ref(), products, &store, &*progress));
        }
        let Some(built) = building.join_next().await else { break };
        let (of_recipe, missing) = built.map_err(RunError::Provision)?;
        images.0.extend(of_recipe.0);
        undelivered.extend(missing);
    }
    undelivered.sort_by(|one: &UndeliveredImage, other| one.recipe.cmp(&other.recipe));
    Ok((images, undelivered))
}

/// How many recipes are built side by side while no cell boots: one may be downloading while another one is packed.
pub fn builds_side_by_side() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(2, 4)
}

/// Builds the products of the recipe with this name, or finds them in the cache; or says what the archive does not deliver.
fn products_of(
    name: &str,
    recipe: Option<&Recipe>,
    products: Vec<Product>,
    store: &Store,
    progress: &dyn Progress,
) -> (Images, Option<UndeliveredImage>) {
    let mut images = Images::default();
    let mut undelivered: Option<UndeliveredImage> = None;
    for product in products {
        let image = match (recipe, &undelivered) {
            (None, _) => Err(format!("there is no recipe {name}")),
            // All products of a recipe come from the same packages.
            (Some(_), Some(image)) => Err(image.to_string()),
            (Some(recipe), None) => {
                let built = caught(|| store.ensure(recipe, product, progress));
                built.and_then(|built| {
                    built.map_err(|e| match e {
                        Error::Undelivered(packages) => {
                            let image = UndeliveredImage::new(name, *packages);
                            undelivered.insert(image).to_string()
                        }
                        other => other.to_string(),
                    })
                })
            }
        };
        images.0.insert((name.to_owned(), product), image);
    }
    (images, undelivered)
}

/// Prepares disks, or finds them in the cache.
async fn prepare_disks(
    disks: BTreeSet<(String, Product)>,
    plan: &RunPlan,
    setting: &Setting,
    cancellation: &Cancellation,
) -> Vec<((String, Product), Result<Image, String>)> {
    let is_native = |planned: &Planned| matches!(planned.fate, Fate::Boots { metal: Metal::Native, .. });
    let has_native = plan.cells.iter().any(is_native);
    let mut prepared = Vec::new();
    for key in disks {
        let image = match setting.catalog.get(&key.0) {
            None => Err(format!("there is no recipe {}", key.0)),
            Some(recipe) => {
                let preparation = DiskPreparation {
                    catalog: &setting.catalog,
                    store: Arc::clone(&setting.store),
                    progress: Arc::clone(&setting.progress),
                    installed: setting.native_qemu.clone(),
                    native: has_native && Some(recipe.isa()) == Isa::of_this_machine(),
                    wrapper: setting.wrapper.clone(),
                    timeout_scale: setting.timeout_scale,
                    cancellation: cancellation.clone(),
                };
                preparation.prepare(recipe).await.map_err(|e| e.to_string())
            }
        };
        prepared.push((key, image));
    }
    prepared
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

/// The image of each emulator that runs outermost levels of the plan, but for a QEMU that is installed.
fn emulators(
    plan: &RunPlan,
    catalog: &Catalog,
    installed: bool,
) -> Result<BTreeSet<(String, Product)>, RunError> {
    let image = |planned| outermost_image(planned, catalog, installed).transpose();
    plan.cells.iter().filter_map(image).collect::<Result<_, _>>().map_err(RunError::from)
}

/// The version of the emulator that plays a cell's metal: that of the installed one, or of its package if its image was built.
pub(super) fn emulator_version(planned: &Planned, catalog: &Catalog, images: &Images) -> Option<String> {
    let Fate::Boots { metal, .. } = planned.fate else { return None };
    let program = outermost_program(&planned.cell, metal);
    if let Some(own) = catalog.own(program) {
        return Some(own.upstream().to_owned());
    }
    match emulator_source(catalog, program).ok()? {
        EmulatorSource::Installed(installed) => Some(installed.upstream().to_owned()),
        EmulatorSource::Recipe(recipe) => {
            let image = images.get(&(recipe.to_owned(), Product::Emulator)).ok()?;
            Some(image.qemu_version()?.version.clone())
        }
    }
}
