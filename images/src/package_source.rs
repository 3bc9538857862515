//! Where packages come from: the seam between recipes and the package tools of distributions. Everything else in this crate knows
//! these traits only.
//!
//! A new source is a type that implements [`PackageSource`] with a table of recipes that selects it. A new kind of package files is
//! a [`PackageFormat`] and its line in [`FORMATS`].

use crate::cache::Cache;
use crate::deb::Deb;
use crate::progress::{Reporter, Step};
use crate::rpm::Rpm;
use crate::tree::Tree;
use crate::{Digest, Error, Package};
use nestmatrix_model::Isa;
use std::cmp::Ordering;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

/// Every kind of package files.
const FORMATS: &[&dyn PackageFormat] = &[&Deb, &Rpm];

/// A kind of package files.
pub(crate) trait PackageFormat: fmt::Debug + Sync {
    /// Name of a package's file in the cache.
    fn file_name(&self, package: &Package) -> String;

    /// The order of two versions.
    fn compare_versions(&self, a: &str, b: &str) -> Ordering;

    /// Whether a file is such a package, by its name.
    fn is_package(&self, path: &Path) -> bool;

    /// Unpacks one package. Its files are marked as those of package number `number`.
    fn read(&self, path: &Path, number: usize) -> Result<Tree, Error>;
}

/// The packages that a recipe wants, and where they come from.
pub(crate) trait PackageSource: fmt::Debug {
    /// The kind of its packages.
    fn format(&self) -> &'static dyn PackageFormat;

    /// Every place that may have the packages, the likeliest first.
    fn places<'a>(&'a self, host: &Host<'a>) -> Result<Vec<Place<'a>>, Error>;

    /// The error if no place has the packages; `tried` names each with its error.
    fn unavailable(&self, tried: String) -> Error;
}

/// No packages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoPackages;

impl PackageSource for NoPackages {
    fn format(&self) -> &'static dyn PackageFormat {
        &Deb
    }

    fn places<'a>(&'a self, _: &Host<'a>) -> Result<Vec<Place<'a>>, Error> {
        Ok(Vec::new())
    }

    fn unavailable(&self, tried: String) -> Error {
        Error::ArchiveFailed { suites: "no packages".to_owned(), tried }
    }
}

/// What packages are fetched with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Host<'a> {
    pub(crate) cache: &'a Cache,
    /// The instruction set of the packages.
    pub(crate) isa: Isa,
    /// The archive that the user chose.
    pub(crate) archive: Option<&'a str>,
    /// The keyring that the user chose.
    pub(crate) keyring: Option<&'a Path>,
    /// Words that go before every command.
    pub(crate) wrapper: &'a [OsString],
}

/// One place that may have the packages.
pub(crate) struct Place<'a> {
    /// Its address, for messages and records.
    pub(crate) archive: String,
    /// The parts of it that are searched.
    pub(crate) suites: Vec<String>,
    pub(crate) index: Box<dyn PackageIndex + 'a>,
}

/// A package as the index names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) package: Package,
    /// Name of its file in the folder of downloads.
    pub(crate) file: String,
}

/// The index of one place, and the packages that are wanted from it.
pub(crate) trait PackageIndex {
    /// Brings the index up to date and checks its signature, if it has one.
    ///
    /// # Errors
    /// [`Error::PackageTool`] if the place does not have it, or its signature is wrong.
    fn update(&self, reporter: Reporter<'_>) -> Result<(), Error>;

    /// The wanted packages and everything that they need.
    fn resolve(&self, reporter: Reporter<'_>) -> Result<Vec<Resolved>, Error>;

    /// Downloads what [`PackageIndex::resolve`] gave. `missing` are the ones that are not in the cache. Callers use [`fetch`],
    /// which also verifies them.
    ///
    /// # Errors
    /// [`Error::Undelivered`] if the place does not have packages that its index lists, and nothing else went wrong.
    fn download(&self, missing: &[&Resolved], reporter: Reporter<'_>) -> Result<(), Error>;

    /// Verifies the signatures of package files, where the index is not signed.
    fn verify(&self, files: &[PathBuf], reporter: Reporter<'_>) -> Result<(), Error>;

    /// Removes temporary files that the next use makes again.
    fn tidy(&self) -> Result<(), Error>;
}

/// Downloads packages into the cache, and verifies that each one is what the index says.
///
/// # Errors
/// As [`PackageIndex::download`], [`PackageIndex::verify`], and [`Error::PackageDigest`].
pub(crate) fn fetch(
    index: &dyn PackageIndex,
    cache: &Cache,
    resolved: &[Resolved],
    reporter: Reporter<'_>,
) -> Result<Vec<PathBuf>, Error> {
    let folder = cache.packages();
    // A tool may trust a file of the right size, so files that changed since they were downloaded are removed first.
    let mut missing = Vec::new();
    for one in resolved {
        let path = folder.join(&one.file);
        if !path.exists() {
            missing.push(one);
        } else if Digest::of_file(&path)? != one.package.sha256 {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            missing.push(one);
        }
    }
    if !missing.is_empty() {
        index.download(&missing, reporter)?;
    }
    for one in &missing {
        let path = folder.join(&one.file);
        let found = Digest::of_file(&path)?;
        if found != one.package.sha256 {
            let (found, expected) = (found.to_string(), one.package.sha256.to_string());
            return Err(Error::PackageDigest { path, found, expected });
        }
    }
    let files: Vec<PathBuf> = resolved.iter().map(|one| folder.join(&one.file)).collect();
    index.verify(&files, reporter)?;
    Ok(files)
}

/// Unpacks packages, given with their names, into one tree. If two have the same path, the later one's file stays.
pub(crate) fn unpack(packages: &[(String, PathBuf)], reporter: Reporter<'_>) -> Result<Tree, Error> {
    let next = AtomicUsize::new(0);
    let mut trees = Vec::new();
    thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Relaxed);
                let Some((name, path)) = packages.get(index) else { return Ok::<_, Error>(done) };
                reporter.step(Step::Unpacking { package: name, number: index + 1, of: packages.len() });
                let no_format = || Error::Package {
                    path: path.clone(),
                    message: "its name is not that of a package".to_owned(),
                };
                let format = FORMATS.iter().find(|format| format.is_package(path)).ok_or_else(no_format)?;
                done.push((index, format.read(path, index)?));
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(done) => trees.extend(done?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok::<_, Error>(())
    })?;
    trees.sort_by_key(|(index, _)| *index);
    let mut all = Tree::default();
    for (_, tree) in trees {
        all.extend(tree);
    }
    Ok(all)
}

/// Whether a file is a package of any kind, by its name.
pub(crate) fn is_package(path: &Path) -> bool {
    FORMATS.iter().any(|format| format.is_package(path))
}

/// A package's file in a folder, by the name that its kind has: an image may have packages of several kinds.
pub(crate) fn file_in(folder: &Path, package: &Package) -> PathBuf {
    let mut names = file_names(package).map(|name| folder.join(name));
    let first = names.next().unwrap_or_else(|| folder.to_owned());
    if first.exists() { first } else { names.find(|path| path.exists()).unwrap_or(first) }
}

/// Every name that a package's file may have in the cache: an image's record does not say of which kind its packages are.
pub(crate) fn file_names(package: &Package) -> impl Iterator<Item = String> {
    FORMATS.iter().map(|format| format.file_name(package))
}
