//! Builds all products of the named recipes, or of all recipes, and prints the images.

use std::path::Path;

use nestmatrix_images::{Catalog, Progress, ProgressEvent, Step, Store, StoreOptions};

struct Print;

impl Progress for Print {
    fn event(&self, event: &ProgressEvent<'_>) {
        if !matches!(event.step, Step::Unpacking { .. } | Step::Downloading { .. }) {
            println!("{}: {:?}", event.recipe, event.step);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let catalog = Catalog::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes"))?;
    let store = Store::open(StoreOptions::default())?;
    let names: Vec<String> = std::env::args().skip(1).collect();
    for recipe in
        catalog.recipes().filter(|recipe| names.is_empty() || names.iter().any(|name| name == recipe.name()))
    {
        for product in recipe.products() {
            let image = store.ensure(recipe, product, &Print)?;
            println!("{} {product}: {} bytes in {}", recipe.name(), image.size(), image.folder().display());
        }
    }
    Ok(())
}
