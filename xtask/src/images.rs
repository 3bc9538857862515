//! `images`: builds, lists and removes the images that levels boot.

use std::io::stdout;
use std::panic::resume_unwind;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nestmatrix::report::{Entry, Line, Role, Table};
use nestmatrix::run::builds_side_by_side;
use nestmatrix_images::{Cached, Catalog, Error, Image, Product, Recipe, Store};
use nestmatrix_model::PROGRAM;

use crate::cli::{Images, ImagesCommand};
use crate::exit::{ERROR, Failure};
use crate::input;
use crate::progress::{BuildProgress, print_above};
use crate::terminal::{note, print, style_of};

pub fn run(arguments: &Images) -> Result<ExitCode, Failure> {
    let catalog = input::recipes(&arguments.source.folder)?;
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
    let heading = |text: &str| Entry::new(text, Role::Heading);
    let mut table = Table::default();
    table.push(Line::Entries(vec![
        heading("recipe"),
        heading("product"),
        heading("status"),
        Entry::right("MiB", Role::Heading),
        heading("made of"),
    ]));
    for recipe in catalog.recipes_and_extended() {
        for product in recipe.products() {
            let of_product =
                |c: &&Cached| c.image.name() == recipe.name() && c.image.product() == product && c.referenced;
            let (status, size, made_of) = match cached.iter().find(of_product) {
                None if product == Product::Disk => ("not prepared", String::new(), String::new()),
                // Those with an addition are many, and few cells need one.
                None if recipe.addition().is_some() => continue,
                None => ("not built", String::new(), String::new()),
                Some(Cached { image, .. }) => ("cached", mib(image.size()).to_string(), made_of(image)),
            };
            table.push(Line::Entries(vec![
                Entry::new(recipe.name(), Role::Plain),
                Entry::new(product.to_string(), Role::Plain),
                Entry::new(status, Role::Plain),
                Entry::right(size, Role::Plain),
                Entry::new(made_of, Role::Plain),
            ]));
        }
    }
    print(&format!("cache: {}\n\n{}", store.cache().display(), table.render(0, &style_of(&stdout()))));
    let unused: Vec<&Cached> = cached.iter().filter(|cached| !cached.referenced).collect();
    if !unused.is_empty() {
        let size: u64 = unused.iter().map(|cached| cached.image.size()).sum();
        print(&format!(
            "\n{} older images ({} MiB) are no longer used; remove them with `{PROGRAM} images prune`\n",
            unused.len(),
            mib(size)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn made_of(image: &Image) -> String {
    if let Some(disk) = image.disk_image() {
        let kernel = disk.kernel_release.map(|release| format!("kernel {release}"));
        let medium = Some(format!("medium {}", disk.medium_name));
        return [medium, kernel].into_iter().flatten().collect::<Vec<_>>().join(", ");
    }
    if image.product() == Product::Firmware {
        return image.package_versions();
    }
    let kernel = image.kernel_version().map(|kernel| format!("kernel {}", kernel.release));
    let emulator = image.qemu_version().map(|program| format!("{} {}", program.package, program.version));
    [kernel, emulator].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// The recipe with this name.
pub fn find<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Recipe, Failure> {
    catalog.get(name).ok_or_else(|| {
        let known: Vec<&str> = catalog.recipes_and_extended().map(Recipe::name).collect();
        Failure::bad_input(miette::miette!(
            "there is no recipe {name:?}; the recipes are:\n  {}",
            known.join("\n  ")
        ))
    })
}

fn build(catalog: &Catalog, store: &Store, names: &[String], refresh: bool) -> Result<ExitCode, Failure> {
    let recipes: Vec<&Recipe> = if names.is_empty() {
        // A disk has to be booted once.
        catalog.recipes().filter(|recipe| recipe.disk().is_none()).collect()
    } else {
        names.iter().map(|name| find(catalog, name)).collect::<Result<_, _>>()?
    };
    let progress = Arc::new(BuildProgress::new());
    let (mut images, mut undelivered) = (Vec::new(), Vec::new());
    let built = side_by_side(&recipes, |recipe| {
        if refresh {
            return store.refresh(recipe, &*progress);
        }
        let wanted: Vec<_> = recipe.products().into_iter().map(|product| (recipe, product)).collect();
        store.ensure_all(&wanted, &*progress)
    });
    for (recipe, built) in recipes.iter().zip(built) {
        match built {
            Ok(built) => images.extend(built),
            // The other recipes can still be built.
            Err(Error::Undelivered(packages)) => {
                print_above(progress.bars(), &format!("no image {}: {packages}", recipe.name()));
                undelivered.push(recipe.name());
            }
            Err(other) => return Err(Failure::error(other)),
        }
    }
    progress.finish();
    for image in images {
        print(&format!(
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
    note!("not built: {names}; try again later, or choose another archive");
    Ok(ExitCode::from(ERROR))
}

/// The result of `build` for each recipe, in order. Several are built at the same time: one may be downloading while another one is
/// packed.
fn side_by_side<T: Send>(recipes: &[&Recipe], build: impl Fn(&Recipe) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(recipe) = recipes.get(number) else { return done };
            done.push((number, build(recipe)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let builders: Vec<_> = (0..builds_side_by_side()).map(|_| scope.spawn(work)).collect();
        let results = builders.into_iter().map(|builder| builder.join());
        results.flat_map(|result| result.unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

fn show(catalog: &Catalog, store: &Store, name: &str) -> Result<ExitCode, Failure> {
    let recipe = find(catalog, name)?;
    print(&format!("recipe {} ({})\n", recipe.name(), recipe.path().display()));
    let cached = store.list().map_err(Failure::error)?;
    let mut current = cached.iter().filter(|c| c.referenced && c.image.name() == recipe.name()).peekable();
    if current.peek().is_none() {
        match recipe.disk() {
            Some(disk) => {
                let medium = disk.medium().name();
                print(&format!("not prepared yet; prepare it with `{PROGRAM} media prepare {medium}`\n"));
            }
            None => {
                print(&format!("not built yet; build it with `{PROGRAM} images build {}`\n", recipe.name()));
            }
        }
    }
    for Cached { image, .. } in current {
        print(&format!("\n{}: {} MiB, {}\n", image.product(), mib(image.size()), made_of(image)));
        print(&format!("  folder     {}\n", image.folder().display()));
        print(&format!("  provenance {}\n", image.provenance().display()));
        print(&format!("  packages   {}\n", image.packages().len()));
        for package in image.packages() {
            print(&format!(
                "    {} {} {} {}\n",
                package.name, package.version, package.architecture, package.sha256
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(catalog: &Catalog, store: &Store) -> Result<ExitCode, Failure> {
    let keep: Vec<&Recipe> = catalog.recipes_and_extended().collect();
    let freed = store.prune(&keep).map_err(|e: Error| Failure::error(e))?;
    print(&format!("freed {} MiB\n", mib(freed)));
    Ok(ExitCode::SUCCESS)
}
