//! Where packages come from: the seam between recipes and a distribution's package tools. Everything else in this crate knows
//! these traits only.
//!
//! A new source is a file that implements both traits, and its line in [`SOURCES`].

use crate::apt::AptSource;
use crate::cache::Cache;
use crate::digest::Hasher;
use crate::progress::{Reporter, Step};
use crate::tree::Tree;
use crate::{Digest, Error, Package};
use nestmatrix_model::{Isa, UnknownWord};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Every source. A recipe names one (`source` in `[packages]`); the first one is the default.
const SOURCES: &[&dyn PackageSource] = &[&AptSource];

/// The archives that packages are taken from.
#[derive(Debug, Clone)]
pub(crate) struct Archives<'a> {
    /// Suites, each after the address of its archive.
    pub(crate) suites: &'a [(String, String)],
    pub(crate) components: &'a [String],
    pub(crate) keyring: &'a Path,
    pub(crate) isa: Isa,
}

/// A package as the archive's signed index names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) package: Package,
    /// Name of its file in the folder of downloads.
    pub(crate) file: String,
}

/// A kind of packages, with the tools of this host that fetch them.
pub(crate) trait PackageSource: fmt::Debug + Sync {
    /// Its name in recipes.
    fn name(&self) -> &'static str;

    /// The folder in which this host keeps keyrings.
    fn keyrings(&self) -> &'static Path;

    /// Addresses of archives of this origin that this host uses, the likeliest first.
    fn archives(&self, origin: &str, suites: &[String], wrapper: &[OsString]) -> Result<Vec<String>, Error>;

    /// Address of the archive of a suite that is not in the origin's main archive.
    fn archive_of_suite(
        &self,
        origin: &str,
        suite: &str,
        wrapper: &[OsString],
    ) -> Result<Option<String>, Error>;

    /// The index of archives. Its packages are downloaded into the cache. `assumed` are packages that count as installed, as
    /// `NAME` or `NAME=VERSION`.
    fn open<'a>(
        &self,
        cache: &Cache,
        wrapper: &'a [OsString],
        archives: &Archives<'_>,
        assumed: &[String],
    ) -> Result<Box<dyn PackageIndex + 'a>, Error>;

    /// Name of a package's file in the cache.
    fn file_name(&self, package: &Package) -> String;

    /// Whether a file is such a package, by its name.
    fn is_package(&self, path: &Path) -> bool;

    /// Unpacks one package. Its files are marked as those of package number `number`.
    fn read(&self, path: &Path, number: usize) -> Result<Tree, Error>;
}

/// The packages of some suites, for one instruction set.
pub(crate) trait PackageIndex {
    /// Brings the index up to date and checks its signature.
    ///
    /// # Errors
    /// [`Error::PackageTool`] if a suite is not available, or its signature is wrong.
    fn update(&self, reporter: Reporter<'_>) -> Result<(), Error>;

    /// Names of the suites that are available.
    fn suites(&self, reporter: Reporter<'_>) -> Result<Vec<String>, Error>;

    /// Names of packages that begin with `start`.
    fn names(&self, start: &str, reporter: Reporter<'_>) -> Result<Vec<String>, Error>;

    /// Every version of these packages: name, version, suite.
    fn versions(
        &self,
        names: &[String],
        reporter: Reporter<'_>,
    ) -> Result<Vec<(String, String, String)>, Error>;

    /// Everything that must be installed for these packages, in the archive's current versions, or in those of the suite
    /// `target`.
    fn resolve(
        &self,
        install: &[String],
        target: Option<&str>,
        reporter: Reporter<'_>,
    ) -> Result<Vec<Resolved>, Error>;

    /// Downloads what [`PackageIndex::resolve`] gave and is not in the cache. Callers use [`fetch`], which also verifies it.
    ///
    /// # Errors
    /// [`Error::Undelivered`] if the archive does not have packages that its index lists, and nothing else went wrong.
    fn download(&self, install: &[String], target: Option<&str>, reporter: Reporter<'_>)
    -> Result<(), Error>;

    /// Removes temporary files that the next use makes again.
    fn tidy(&self) -> Result<(), Error>;
}

impl Archives<'_> {
    /// Names what a source keeps for these suites.
    pub(crate) fn key(&self) -> Digest {
        let mut hasher = Hasher::new();
        for (archive, suite) in self.suites {
            hasher = hasher.field(archive).field(suite);
        }
        let hasher = self.components.iter().fold(hasher, Hasher::field);
        hasher.field(self.isa.info().debian).finish()
    }
}

/// Downloads packages into the folder `downloads` and verifies that each one is what the index says.
///
/// # Errors
/// As [`PackageIndex::download`], and [`Error::PackageDigest`].
pub(crate) fn fetch(
    index: &dyn PackageIndex,
    downloads: &Path,
    (install, target): (&[String], Option<&str>),
    resolved: &[Resolved],
    reporter: Reporter<'_>,
) -> Result<(), Error> {
    // A tool may trust a file of the right size, so files that changed since they were downloaded are removed first.
    let mut complete = true;
    for one in resolved {
        let path = downloads.join(&one.file);
        if !path.exists() {
            complete = false;
        } else if Digest::of_file(&path)? != one.package.sha256 {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            complete = false;
        }
    }
    if complete {
        return Ok(());
    }
    index.download(install, target, reporter)?;
    for one in resolved {
        let path = downloads.join(&one.file);
        let found = Digest::of_file(&path)?;
        if found != one.package.sha256 {
            let (found, expected) = (found.to_string(), one.package.sha256.to_string());
            return Err(Error::PackageDigest { path, found, expected });
        }
    }
    Ok(())
}

/// Unpacks packages, given with their names, into one tree. If two have the same path, the later one's file stays.
pub(crate) fn unpack(packages: &[(String, PathBuf)], reporter: Reporter<'_>) -> Result<Tree, Error> {
    let next = AtomicUsize::new(0);
    let mut trees = Vec::new();
    thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some((name, path)) = packages.get(index) else { return Ok::<_, Error>(done) };
                reporter.step(Step::Unpacking { package: name, number: index + 1, of: packages.len() });
                let no_source = || Error::Package {
                    path: path.clone(),
                    message: "its name is not that of a package".to_owned(),
                };
                let source = SOURCES.iter().find(|source| source.is_package(path)).ok_or_else(no_source)?;
                done.push((index, source.read(path, index)?));
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

/// Whether a file is a package of any source, by its name.
pub(crate) fn is_package(path: &Path) -> bool {
    SOURCES.iter().any(|source| source.is_package(path))
}

/// Every name that a package's file may have in the cache: an image's record does not say which source its packages are of.
pub(crate) fn file_names(package: &Package) -> impl Iterator<Item = String> {
    SOURCES.iter().map(|source| source.file_name(package))
}

/// The source that a recipe names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceName(&'static dyn PackageSource);

impl std::ops::Deref for SourceName {
    type Target = dyn PackageSource;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl Default for SourceName {
    fn default() -> Self {
        Self(SOURCES[0])
    }
}

impl SourceName {
    /// The source of this name.
    pub(crate) fn parse(name: &str) -> Result<Self, UnknownWord> {
        SOURCES.iter().find(|source| source.name() == name).map(|source| Self(*source)).ok_or_else(|| {
            UnknownWord {
                what: "package source",
                given: name.to_owned(),
                known: SOURCES.iter().map(|source| source.name().to_owned()).collect(),
            }
        })
    }
}
