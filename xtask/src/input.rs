//! Reads what every command needs: scenarios, recipes, the image store.

use std::path::{Component, Path};
use std::process::ExitCode;

use nestmatrix::contained;
use nestmatrix::records::PastRun;
use nestmatrix::scenario::{Filter, Matrix};
use nestmatrix_images::{Catalog, Store, StoreOptions};

use crate::cli::{ImageSource, Selection};
use crate::exit::Failure;
use crate::tied;

/// The matrix and the cells that are wanted of it.
pub fn scenarios(selection: &Selection) -> Result<(Matrix, Filter), Failure> {
    let filter = Filter::parse(&selection.filter).map_err(Failure::bad_input)?;
    let matrix = Matrix::load(&short(&selection.scenarios)).map_err(Failure::bad_input)?;
    Ok((matrix, filter))
}

/// The matrix and the cells that are wanted of it, of a profile if one is named.
pub fn selection(selection: &Selection, profile: Option<&str>) -> Result<(Matrix, Filter), Failure> {
    let (matrix, filter) = scenarios(selection)?;
    let filter = match profile {
        Some(name) => filter.within(matrix.profile(name).map_err(Failure::bad_input)?),
        None => filter,
    };
    Ok((matrix, filter))
}

/// Says that no cell matches, and gives the exit code for that.
pub fn no_cell() -> ExitCode {
    eprintln!("no cell matches; `cargo xtask list` shows all of them");
    ExitCode::from(4)
}

/// The image recipes.
pub fn recipes(folder: &Path) -> Result<Catalog, Failure> {
    Catalog::load(&short(folder)).map_err(|e| Failure::bad_input(miette::miette!("{e}")))
}

/// The image store.
pub fn store(source: &ImageSource) -> Result<Store, Failure> {
    let wrapper = tied::wrapper().map_err(Failure::error)?;
    let options = StoreOptions {
        offline: source.offline,
        wrapper: wrapper.words().to_vec(),
        ..StoreOptions::default()
    };
    Store::open(options).map_err(Failure::error)
}

/// The folder of the run that is meant, by itself or by its name in `results`.
///
/// # Errors
/// A sentence, if it is none.
pub fn run(run: &Path, results: &Path) -> Result<std::path::PathBuf, String> {
    let candidates = [run.to_owned(), results.join(run)];
    if let Some(link) = candidates.iter().find(|folder| leads_elsewhere(folder)) {
        return Err(format!("{} is a link that leads out of its folder of results", link.display()));
    }
    let found = candidates.into_iter().find(|folder| contained::is_file(folder, Path::new("run.json")));
    let why = || format!("{} is no run, neither by itself nor in {}", run.display(), results.display());
    // `latest` is a link, and points elsewhere after the next run.
    found.map(|folder| short(&folder)).ok_or_else(why)
}

/// Whether this is a `latest` that names no run beside it. This program makes none such, and results of another machine could name any
/// folder of this one.
fn leads_elsewhere(folder: &Path) -> bool {
    let is_latest = folder.file_name().is_some_and(|name| name == "latest");
    let target = if is_latest { folder.read_link().ok() } else { None };
    target.is_some_and(|run| {
        let mut parts = run.components();
        !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    })
}

/// What the folder of the run that is meant tells.
pub fn past_run(run: &Path, results: &Path) -> Result<PastRun, Failure> {
    let folder = self::run(run, results).map_err(|why| Failure::bad_input(miette::miette!("{why}")))?;
    PastRun::read(&folder).map_err(|e| Failure::bad_input(miette::miette!("{e}")))
}

/// The folder as a user would write it from where they are, for messages.
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
