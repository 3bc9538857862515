//! The images that a test boots. They are built before the boot, so that its time limits do not include downloads. If the
//! archive does not deliver the images of a test today, the test is ignored with that reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nestmatrix::run::{MetalChoice, NativeMetals, PlanOptions, RunPlan, images_of};
use nestmatrix::scenario::{Filter, Matrix};
use nestmatrix_images::{
    Catalog, Error, Image, Product, Progress, ProgressEvent, Recipe, Step, Store, StoreOptions,
};

use super::trials::ignore;

/// Images by recipe and product.
pub type Images = BTreeSet<(String, Product)>;

/// The images of the matching cells in the folder `scenarios`, and their emulators.
pub fn of_cells(scenarios: &Path, cells: &[&str]) -> Images {
    let matrix = Matrix::load(scenarios).unwrap_or_else(|e| panic!("{e}"));
    let globs: Vec<String> = cells.iter().map(|glob| (*glob).to_owned()).collect();
    let filter = Filter::parse(&globs).unwrap();
    let cells = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).cloned();
    let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
    let catalog = catalog();
    let plan = RunPlan::new(cells, &matrix, &catalog, &NativeMetals::new(), &options);
    assert!(!plan.cells.is_empty(), "no cell matches {globs:?}");
    images_of(&plan, &catalog, false).unwrap()
}

/// Every product of these recipes.
pub fn of_recipes(recipes: &[&str]) -> Images {
    let catalog = catalog();
    let products = |name: &&str| {
        let recipe = catalog.get(name).unwrap_or_else(|| panic!("there is no recipe {name}"));
        recipe.products().into_iter().map(|product| (recipe.name().to_owned(), product)).collect::<Vec<_>>()
    };
    recipes.iter().flat_map(products).collect()
}

/// Builds the missing images. Ends the test as ignored if the archive does not deliver one.
pub fn require(images: &Images) {
    if let Some(reason) = undelivered(images) {
        ignore(&reason);
    }
}

/// Builds the missing images. Returns in words what the archive does not deliver.
pub fn undelivered(images: &Images) -> Option<String> {
    static BUILT: Mutex<BTreeMap<String, Option<String>>> = Mutex::new(BTreeMap::new());
    // A test that panicked while it held the lock says nothing about the others.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let catalog = catalog();
    let recipes: BTreeSet<&str> = images.iter().map(|(recipe, _)| recipe.as_str()).collect();
    let mut reasons = Vec::new();
    for name in recipes {
        let of_recipe = built.entry(name.to_owned()).or_insert_with(|| {
            let recipe = catalog.get(name).unwrap_or_else(|| panic!("there is no recipe {name}"));
            // All products of a recipe are built together, and each is verified before it is booted.
            build(recipe, recipe.products()[0]).err()
        });
        reasons.extend(of_recipe.clone());
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// One image, for a test that boots it itself. Ends the test as ignored if the archive does not deliver it.
pub fn image(recipe: &Recipe, product: Product) -> Image {
    build(recipe, product).unwrap_or_else(|reason| ignore(&reason))
}

/// Any other reason that prevents a build fails the test.
fn build(recipe: &Recipe, product: Product) -> Result<Image, String> {
    let store = Store::open(StoreOptions::default()).unwrap_or_else(|e| panic!("{e}"));
    match store.ensure(recipe, product, &Built) {
        Ok(image) => Ok(image),
        Err(Error::Undelivered(packages)) => Err(format!("no image {}: {packages}", recipe.name())),
        Err(other) => panic!("image {} can't be built: {other}", recipe.name()),
    }
}

pub fn catalog() -> Catalog {
    let recipes: PathBuf = super::checkout().join("images/recipes");
    Catalog::load(&recipes).unwrap_or_else(|e| panic!("{e}"))
}

/// Prints which images are built, since the first run waits for them.
struct Built;

impl Progress for Built {
    fn event(&self, event: &ProgressEvent<'_>) {
        if let Step::Built { seconds } = event.step {
            eprintln!("built image {} in {seconds:.0} s", event.recipe);
        }
    }
}
