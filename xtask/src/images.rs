//! `images`: what levels boot, in recipes and in the cache.

use std::process::ExitCode;
use std::sync::Arc;

use nestmatrix_images::{Cached, Catalog, Error, Image, Recipe, Store};

use crate::cli::{Images, ImagesCommand};
use crate::exit::{ERROR, Failure};
use crate::input;
use crate::live::{Builds, say as say_above};
use crate::run_matrix::say;

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
    let width = catalog.recipes().map(|recipe| recipe.name().len()).max().unwrap_or(0);
    let line = |name: &str, product: &str, state: &str, size: &str, made_of: &str| {
        let line = format!("{name:<width$} {product:<11} {state:<10} {size:>6}  {made_of}");
        line.trim_end().to_owned() + "\n"
    };
    say(&format!("cache: {}\n\n", store.cache().display()));
    say(&line("recipe", "product", "state", "MiB", "made of"));
    for recipe in catalog.recipes() {
        for product in recipe.products() {
            let of_product =
                |c: &&Cached| c.image.name() == recipe.name() && c.image.product() == product && c.referenced;
            let (name, product_name) = (recipe.name(), product.to_string());
            say(&match cached.iter().find(of_product) {
                None => line(name, &product_name, "not built", "", ""),
                Some(Cached { image, .. }) => {
                    line(name, &product_name, "cached", &mib(image.size()).to_string(), &made_of(image))
                }
            });
        }
    }
    let unused: Vec<&Cached> = cached.iter().filter(|cached| !cached.referenced).collect();
    if !unused.is_empty() {
        let size: u64 = unused.iter().map(|cached| cached.image.size()).sum();
        say(&format!(
            "\n{} older images ({} MiB) are no longer used: `cargo xtask images prune`\n",
            unused.len(),
            mib(size)
        ));
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
    let (mut images, mut undelivered) = (Vec::new(), Vec::new());
    for recipe in recipes {
        let built = if refresh {
            store.refresh(recipe, &*progress)
        } else {
            let wanted: Vec<_> = recipe.products().into_iter().map(|product| (recipe, product)).collect();
            store.ensure_all(&wanted, &*progress)
        };
        match built {
            Ok(built) => images.extend(built),
            // The others can be built all the same.
            Err(Error::Undelivered(packages)) => {
                say_above(progress.bars(), &format!("no image {}: {packages}", recipe.name()));
                undelivered.push(recipe.name());
            }
            Err(other) => return Err(Failure::error(other)),
        }
    }
    progress.finish();
    for image in images {
        say(&format!(
            "{} {}: {} MiB, {}\n",
            image.name(),
            image.product(),
            mib(image.size()),
            made_of(&image)
        ));
    }
    if undelivered.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let names = undelivered.join(", ");
    eprintln!("not built: {names}; try again later, or name another archive with NESTMATRIX_ARCHIVE");
    Ok(ExitCode::from(ERROR))
}

fn show(catalog: &Catalog, store: &Store, name: &str) -> Result<ExitCode, Failure> {
    let recipe = find(catalog, name)?;
    say(&format!("recipe {} ({})\n", recipe.name(), recipe.path().display()));
    let cached = store.list().map_err(Failure::error)?;
    let mut current = cached.iter().filter(|c| c.referenced && c.image.name() == recipe.name()).peekable();
    if current.peek().is_none() {
        say(&format!("not built yet: `cargo xtask images build {}`\n", recipe.name()));
    }
    for Cached { image, .. } in current {
        say(&format!("\n{}: {} MiB, {}\n", image.product(), mib(image.size()), made_of(image)));
        say(&format!("  folder     {}\n", image.folder().display()));
        say(&format!("  provenance {}\n", image.provenance().display()));
        say(&format!("  packages   {}\n", image.packages().len()));
        for package in image.packages() {
            say(&format!(
                "    {} {} {} {}\n",
                package.name, package.version, package.architecture, package.sha256
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(catalog: &Catalog, store: &Store) -> Result<ExitCode, Failure> {
    let keep: Vec<&Recipe> = catalog.recipes().collect();
    let freed = store.prune(&keep).map_err(|e: Error| Failure::error(e))?;
    say(&format!("freed {} MiB\n", mib(freed)));
    Ok(ExitCode::SUCCESS)
}
