//! `images`: what levels boot, in recipes and in the cache.

use std::process::ExitCode;
use std::sync::Arc;

use nestmatrix_images::{Cached, Catalog, Error, Image, Recipe, Store};

use crate::cli::{Images, ImagesCommand};
use crate::exit::Failure;
use crate::input;
use crate::live::Builds;

pub fn run(arguments: &Images) -> Result<ExitCode, Failure> {
    let catalog = input::recipes(&arguments.source.recipes)?;
    let store = input::store(&arguments.source)?;
    match &arguments.command {
        ImagesCommand::List => list(&catalog, &store),
        ImagesCommand::Build { recipe, refresh } => build(&catalog, &store, recipe, *refresh),
        ImagesCommand::Show { recipe } => show(&catalog, &store, recipe),
        ImagesCommand::Prune => prune(&catalog, &store),
    }
}

fn list(catalog: &Catalog, store: &Store) -> Result<ExitCode, Failure> {
    let cached = store.list().map_err(Failure::error)?;
    println!("cache: {}\n", store.cache().display());
    println!("{:<20} {:<11} {:<14} {:>6}  made of", "recipe", "product", "state", "MiB");
    for recipe in catalog.recipes() {
        for product in recipe.products() {
            let of_product =
                |c: &&Cached| c.image.name() == recipe.name() && c.image.product() == product && c.referenced;
            let (name, product_name) = (recipe.name(), product.to_string());
            match cached.iter().find(of_product) {
                None => println!("{name:<20} {product_name:<11} {:<14}", "not built"),
                Some(Cached { image, .. }) => {
                    println!(
                        "{name:<20} {product_name:<11} {:<14} {:>6}  {}",
                        "cached",
                        mib(image.size()),
                        made_of(image)
                    );
                }
            }
        }
    }
    let unused: Vec<&Cached> = cached.iter().filter(|cached| !cached.referenced).collect();
    if !unused.is_empty() {
        let size: u64 = unused.iter().map(|cached| cached.image.size()).sum();
        println!(
            "\n{} older images ({} MiB) are no longer used: `cargo xtask images prune`",
            unused.len(),
            mib(size)
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn made_of(image: &Image) -> String {
    let kernel = image.kernel_version().map(|kernel| format!("kernel {}", kernel.release));
    let emulator = image.qemu_version().map(|program| format!("{} {}", program.package, program.version));
    [kernel, emulator].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn find<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Recipe, Failure> {
    catalog.get(name).ok_or_else(|| {
        let known: Vec<&str> = catalog.recipes().map(Recipe::name).collect();
        Failure::bad_input(miette::miette!("there is no recipe {name:?}; there are: {}", known.join(", ")))
    })
}

fn build(catalog: &Catalog, store: &Store, names: &[String], refresh: bool) -> Result<ExitCode, Failure> {
    let recipes: Vec<&Recipe> = if names.is_empty() {
        catalog.recipes().collect()
    } else {
        names.iter().map(|name| find(catalog, name)).collect::<Result<_, _>>()?
    };
    let progress = Arc::new(Builds::new());
    let mut images = Vec::new();
    for recipe in recipes {
        let built = if refresh {
            store.refresh(recipe, &*progress)
        } else {
            let wanted: Vec<_> = recipe.products().into_iter().map(|product| (recipe, product)).collect();
            store.ensure_all(&wanted, &*progress)
        };
        images.extend(built.map_err(Failure::error)?);
    }
    progress.finish();
    for image in images {
        println!("{} {}: {} MiB, {}", image.name(), image.product(), mib(image.size()), made_of(&image));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(catalog: &Catalog, store: &Store, name: &str) -> Result<ExitCode, Failure> {
    let recipe = find(catalog, name)?;
    println!("recipe {} ({})", recipe.name(), recipe.path().display());
    let cached = store.list().map_err(Failure::error)?;
    let mut current = cached.iter().filter(|c| c.referenced && c.image.name() == recipe.name()).peekable();
    if current.peek().is_none() {
        println!("not built yet: `cargo xtask images build {}`", recipe.name());
    }
    for Cached { image, .. } in current {
        println!("\n{}: {} MiB, {}", image.product(), mib(image.size()), made_of(image));
        println!("  folder     {}", image.folder().display());
        println!("  provenance {}", image.provenance().display());
        println!("  packages   {}", image.packages().len());
        for package in image.packages() {
            println!("    {} {} {} {}", package.name, package.version, package.architecture, package.sha256);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(catalog: &Catalog, store: &Store) -> Result<ExitCode, Failure> {
    let keep: Vec<&Recipe> = catalog.recipes().collect();
    let freed = store.prune(&keep).map_err(|e: Error| Failure::error(e))?;
    println!("freed {} MiB", mib(freed));
    Ok(ExitCode::SUCCESS)
}
