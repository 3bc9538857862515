//! Reads the inputs that commands share: scenarios, recipes, runs, the image store.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::process::ExitCode;

use nestmatrix::contained;
use nestmatrix::records::PastRun;
use nestmatrix::run::{installed_emulators, own_bochs};
use nestmatrix::scenario::{Cell, Filter, Matrix};
use nestmatrix_images::{
    Catalog, HostTools, InstalledEmulator, Media, Product, Recipe, Sources, Store, StoreOptions, Suites,
};
use nestmatrix_model::PROGRAM;
use nestmatrix_model::architecture::BOCHS;

use crate::exit::Failure;
use crate::options::{ImageSource, RecipesFolder, Selection};
use crate::terminal::note;
use crate::{parent_death, settings};

/// The matrix and the filter of its cells.
pub fn scenarios(selection: &Selection) -> Result<(Matrix, Filter), Failure> {
    let filter = Filter::parse(&selection.filter).map_err(Failure::bad_input)?;
    let matrix = Matrix::load(&short(&selection.folder.scenarios)).map_err(Failure::bad_input)?;
    Ok((matrix, filter))
}

/// The matrix and the filter of its cells, within a profile if one is named.
pub fn selection(selection: &Selection, profile: Option<&str>) -> Result<(Matrix, Filter), Failure> {
    let (matrix, filter) = scenarios(selection)?;
    let filter = match profile {
        Some(name) => filter.within(matrix.profile(name).map_err(Failure::bad_input)?),
        None => filter,
    };
    Ok((matrix, filter))
}

/// Most cells that an error message lists.
const LISTED: usize = 10;

/// The only cell that matches; none if no cell matches. `who` needs it: `a debug session needs`.
pub fn one_cell<'m>(matrix: &'m Matrix, filter: &Filter, who: &str) -> Result<Option<&'m Cell>, Failure> {
    let cells: Vec<&Cell> = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).collect();
    if let [] | [_] = cells[..] {
        return Ok(cells.first().copied());
    }
    let names: Vec<&str> = cells.iter().take(LISTED).map(|cell| cell.name.as_str()).collect();
    let more = if cells.len() > LISTED { "\n..." } else { "" };
    let why = format!("{who} one cell, but {} match:\n{}{more}", cells.len(), names.join("\n"));
    Err(Failure::bad_input(miette::miette!("{why}")))
}

/// Prints that no cell matches, and returns the exit code.
pub fn no_cell() -> ExitCode {
    note!("no cell matches; `{PROGRAM} list` lists all cells");
    ExitCode::from(4)
}

/// The image recipes, with those of the user's sources and media.
pub fn recipes(folder: &RecipesFolder) -> Result<Catalog, Failure> {
    recipes_with(folder, &sources()?)
}

/// The setting that names the user's build of Bochs.
const OWN_BOCHS: &str = "NESTMATRIX_BOCHS";

/// The image recipes that came with the program.
pub fn own_recipes() -> Result<Catalog, Failure> {
    recipes(&RecipesFolder { recipes: settings::data().join("images/recipes") })
}

/// The image recipes, with those of these sources and of the user's media, with what is known of disks that are prepared, and with
/// marks at those whose images are not available on this machine.
pub fn recipes_with(folder: &RecipesFolder, sources: &Sources) -> Result<Catalog, Failure> {
    let catalog = Catalog::load(&short(&folder.recipes)).map_err(Failure::bad_input)?.with_sources(sources);
    let catalog = catalog.with_media(&media()?).with_suites(&suites()?).with_own(own_programs()?);
    let mut unbuildable = catalog.unbuildable_with(&HostTools::of_this_machine());
    if unbuildable.is_empty() && catalog.media().next().is_none() {
        return Ok(catalog);
    }
    let mut prepared = BTreeMap::new();
    // A command that needs the cache reports what is wrong with it.
    if let Ok(store) = Store::open(store_options()) {
        let is_cached = |name: &str| catalog.get(name).is_some_and(|recipe| store.has_images_of(recipe));
        unbuildable.retain(|name, why| !why.is_about_build() || !is_cached(name));
        let disk = |recipe: &Recipe| {
            Some((recipe.name().to_owned(), store.recorded(recipe, Product::Disk)?.disk_image()?))
        };
        prepared
            .extend(catalog.recipes_and_extended().filter(|recipe| recipe.disk().is_some()).filter_map(disk));
    }
    let catalog = catalog.with_prepared(prepared);
    if unbuildable.is_empty() {
        return Ok(catalog);
    }
    let catalog = catalog.with_unbuildable(unbuildable);
    let installed = installed_emulators(&catalog);
    Ok(catalog.with_installed(installed))
}

/// The user's builds of emulators' programs, by the names of the programs.
fn own_programs() -> Result<BTreeMap<String, InstalledEmulator>, Failure> {
    let Some(path) = std::env::var_os(OWN_BOCHS).filter(|path| !path.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    let own = own_bochs(Path::new(&path))
        .map_err(|why| Failure::bad_input(miette::miette!("{OWN_BOCHS}: {why}")))?;
    Ok([(BOCHS.to_owned(), own)].into())
}

/// The sources of RPM packages that the user added.
pub fn sources() -> Result<Sources, Failure> {
    Sources::open(None).map_err(|e| Failure::bad_input(miette::miette!("{e}")))
}

/// The disk images that the user added.
pub fn media() -> Result<Media, Failure> {
    Media::open(None).map_err(|e| Failure::bad_input(miette::miette!("{e}")))
}

/// The test suites that the user built.
pub fn suites() -> Result<Suites, Failure> {
    Suites::open(None).map_err(|e| Failure::bad_input(miette::miette!("{e}")))
}

/// The image store.
pub fn store(source: &ImageSource) -> Result<Store, Failure> {
    let wrapper = parent_death::wrapper().map_err(Failure::error)?;
    let options =
        StoreOptions { offline: source.offline, wrapper: wrapper.words().to_vec(), ..store_options() };
    Store::open(options).map_err(Failure::error)
}

/// The image store, for a command that builds no images.
pub fn offline_store() -> Result<Store, Failure> {
    Store::open(StoreOptions { offline: true, ..store_options() }).map_err(Failure::error)
}

/// The options of every store.
fn store_options() -> StoreOptions {
    StoreOptions { shipped: settings::shipped_images(), ..StoreOptions::default() }
}

/// The folder of a run, given by its path or by its name in `results`.
///
/// # Errors
/// A message, if there is no such run.
pub fn run(run: &Path, results: &Path) -> Result<std::path::PathBuf, String> {
    let candidates = [run.to_owned(), results.join(run)];
    if let Some(link) = candidates.iter().find(|folder| leads_elsewhere(folder)) {
        return Err(format!("{} is a link that leads out of its folder of runs", link.display()));
    }
    let found = candidates.into_iter().find(|folder| contained::is_file(folder, Path::new("run.json")));
    let why =
        || format!("{} is not a run: neither a folder nor a name in {}", run.display(), results.display());
    // Resolved, since `latest` points to another run after the next one.
    found.map(|folder| short(&folder)).ok_or_else(why)
}

/// Whether this is a link `latest` to another folder than its own. This program creates no such link, but results from another
/// machine may hold one.
fn leads_elsewhere(folder: &Path) -> bool {
    let is_latest = folder.file_name().is_some_and(|name| name == "latest");
    let target = if is_latest { folder.read_link().ok() } else { None };
    target.is_some_and(|run| {
        let mut parts = run.components();
        !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    })
}

/// Reads a run, given by its path or by its name in `results`.
pub fn past_run(run: &Path, results: &Path) -> Result<PastRun, Failure> {
    let folder = self::run(run, results).map_err(|why| Failure::bad_input(miette::miette!("{why}")))?;
    PastRun::read(&folder).map_err(|e| Failure::bad_input(miette::miette!("{e}")))
}

/// The folder relative to the current one, if it is below that; for messages.
pub fn short(folder: &Path) -> std::path::PathBuf {
    let (Ok(here), Ok(folder)) = (std::env::current_dir(), folder.canonicalize()) else {
        return folder.to_owned();
    };
    match folder.strip_prefix(here) {
        Ok(below) if below.as_os_str().is_empty() => ".".into(),
        Ok(below) => below.to_owned(),
        Err(_) => folder,
    }
}
