//! One source of RPM packages, opened.

use super::dnf::{Dnf, Repositories, file_url};
use super::dvd::Dvd;
use super::metadata::{self, Listed};
use super::package::check_name;
use super::packages::{RpmText, platform};
use super::{Rpm, keys};
use crate::cache::{Cache, entries, remove};
use crate::package_source::{self, Host, PackageFormat as _, PackageIndex, Resolved};
use crate::progress::{Reporter, Step};
use crate::undelivered::{Undelivered, decoded};
use crate::{Error, Package};
use crate::{Origin, Source};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// What dnf says of a file that a repository lists but does not have: the answer of a server, or the error of a file system.
const ABSENT: [&str; 3] = ["Status code: 404", "Status code: 410", "No such file or directory"];

/// The index of a source, and the packages that a recipe wants from it.
#[derive(Debug)]
pub(crate) struct RpmIndex<'a> {
    wrapper: &'a [OsString],
    cache: &'a Cache,
    source: &'a Source,
    text: &'a RpmText,
    /// Private files for this source.
    folder: PathBuf,
    dnf: Dnf<'a>,
    dvd: Option<Dvd>,
    listed: OnceCell<BTreeMap<String, Listed>>,
}

/// What a source has for a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceCheck {
    /// How many packages it lists.
    pub listed: usize,
    /// How many of them the recipe downloads.
    pub wanted: usize,
    /// Their size in bytes.
    pub bytes: u64,
}

impl<'a> RpmIndex<'a> {
    /// Prepares private folders for a source.
    ///
    /// # Errors
    /// [`Error::SourceFailed`] if its installation image is no longer there, or another one.
    pub(crate) fn open(host: &Host<'a>, source: &'a Source, text: &'a RpmText) -> Result<Self, Error> {
        let folder = host.cache.rpm(source.digest());
        fs::create_dir_all(&folder).map_err(Error::io("create folder", &folder))?;
        let mut dvd = None;
        let repositories = match source.origin() {
            Origin::Dvd(file) => {
                let opened = open_dvd(source, file, host.wrapper)?;
                let on_disk = |name: &String| file_url(&copy_of(&folder, name));
                let urls = opened.repositories.iter().map(on_disk).collect();
                dvd = Some(opened);
                Repositories::Urls(urls)
            }
            Origin::Urls(urls) => Repositories::Urls(urls.clone()),
            Origin::HostRepositories(folder) => Repositories::Folder(folder.clone()),
        };
        let os = source.os();
        let architecture = rpm_architecture(source);
        let dnf = Dnf::new(host.wrapper, &folder, &repositories, &os.version, &platform(os), architecture)?;
        let Host { wrapper, cache, .. } = *host;
        Ok(Self { wrapper, cache, source, text, folder, dnf, dvd, listed: OnceCell::new() })
    }

    /// Reads the source as a build would, and verifies one small package, so that a wrong key is noticed.
    ///
    /// # Errors
    /// As [`PackageIndex`]'s methods.
    pub(crate) fn check(&self, reporter: Reporter<'_>) -> Result<SourceCheck, Error> {
        let checked = self.check_contents(reporter);
        self.tidy()?;
        checked
    }

    fn check_contents(&self, reporter: Reporter<'_>) -> Result<SourceCheck, Error> {
        self.update(reporter)?;
        let resolved = self.resolve(reporter)?;
        let found =
            resolved.iter().map(|one| self.find(&one.package)).collect::<Result<Vec<&Listed>, Error>>()?;
        if let Some((smallest, _)) = resolved.iter().zip(&found).min_by_key(|(_, listed)| listed.size) {
            package_source::fetch(self, self.cache, std::slice::from_ref(smallest), reporter)?;
        }
        let bytes = found.iter().map(|listed| listed.size).sum();
        Ok(SourceCheck { listed: self.listed()?.len(), wanted: found.len(), bytes })
    }

    /// Every version of a package in the source.
    ///
    /// # Errors
    /// [`Error::Metadata`] if its metadata cannot be read.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>, Error> {
        let listed = self.listed()?.values();
        let listed = listed.filter(|one| one.package.name == package && self.is_wanted(&one.package));
        Ok(listed.map(|listed| listed.package.version.clone()).collect())
    }

    /// Every package of the source, by the name of its file.
    fn listed(&self) -> Result<&BTreeMap<String, Listed>, Error> {
        if let Some(listed) = self.listed.get() {
            return Ok(listed);
        }
        // If several repositories have a package, dnf downloads the first one's.
        let mut all = BTreeMap::new();
        match &self.dvd {
            // The location of a package on an image begins with the folder of its repository.
            Some(dvd) => {
                for name in &dvd.repositories {
                    for mut one in metadata::packages(&copy_of(&self.folder, name))? {
                        one.location = in_repository(name, &one.location);
                        all.entry(one.file().to_owned()).or_insert(one);
                    }
                }
            }
            None => {
                for folder in self.dnf.metadata()? {
                    for one in metadata::packages(&folder)? {
                        all.entry(one.file().to_owned()).or_insert(one);
                    }
                }
            }
        }
        Ok(self.listed.get_or_init(|| all))
    }

    /// What the source lists of a resolved package.
    fn find(&self, package: &Package) -> Result<&Listed, Error> {
        let found = self.listed()?.values().find(|listed| listed.package == *package);
        found.ok_or_else(|| self.unlisted(&package.name))
    }

    /// Whether images can have a package. dnf also offers programs for older processors: i686 beside x86_64.
    fn is_wanted(&self, package: &Package) -> bool {
        let architectures = [rpm_architecture(self.source), "noarch"];
        architectures.contains(&package.architecture.as_str()) && !self.text.leave_out.contains(&package.name)
    }

    fn unlisted(&self, file: &str) -> Error {
        let message = format!("it does not list {file}, which dnf wants from it");
        Error::Metadata { path: self.folder.clone(), message }
    }

    /// Downloads packages into an empty folder.
    fn download_into(&self, folder: &Path, wanted: &[&Listed], reporter: Reporter<'_>) -> Result<(), Error> {
        let total: u64 = wanted.iter().map(|listed| listed.size).sum();
        let meanwhile = || report(folder, total, reporter);
        let Some(dvd) = &self.dvd else {
            return self.dnf.download(wanted.iter().map(|listed| listed.nevra()), folder, meanwhile);
        };
        let locations: Vec<String> = wanted.iter().map(|listed| listed.location.clone()).collect();
        dvd.extract(self.wrapper, &locations, folder, meanwhile)
    }

    /// The error of dnf or bsdtar, with the name of this source.
    fn of_source(&self, error: Error) -> Error {
        match error {
            Error::PackageTool { tool, action, status, output } => Error::PackageTool {
                tool,
                action: format!("{action} of {}", self.source.name()),
                status,
                output,
            },
            other => other,
        }
    }

    /// The error of a download: packages that the source does not have, or another one.
    fn undelivered(&self, error: Error, folder: &Path, wanted: &[&Listed]) -> Error {
        let Error::PackageTool { output, .. } = &error else { return error };
        let absent = self.dvd.is_none() && ABSENT.iter().any(|said| output.contains(said));
        let is_named =
            |listed: &&&Listed| output.contains(listed.file()) && !folder.join(listed.file()).exists();
        let missing: Vec<_> = wanted.iter().filter(is_named).collect();
        // Cells are skipped for a package that is missing, but not for another missing file, such as one of dnf's own.
        if !absent || missing.is_empty() {
            return self.of_source(error);
        }
        let packages =
            missing.iter().map(|listed| format!("{} {}", listed.package.name, listed.package.version));
        Error::Undelivered(Box::new(Undelivered {
            suites: vec![self.source.name()],
            packages: packages.collect(),
            output: output.clone(),
        }))
    }
}

impl PackageIndex for RpmIndex<'_> {
    fn update(&self, _reporter: Reporter<'_>) -> Result<(), Error> {
        if let Some(dvd) = &self.dvd {
            let copies = self.folder.join("dvd");
            if copies.exists() {
                remove(&copies)?;
            }
            fs::create_dir_all(&copies).map_err(Error::io("create folder", &copies))?;
            let paths: Vec<String> =
                dvd.repositories.iter().map(|name| in_repository(name, "repodata")).collect();
            dvd.extract(self.wrapper, &paths, &copies, || {})?;
        }
        self.dnf.refresh()
    }

    fn resolve(&self, _reporter: Reporter<'_>) -> Result<Vec<Resolved>, Error> {
        let listed = self.listed()?;
        let available: BTreeSet<&str> = listed.values().map(|one| one.package.name.as_str()).collect();
        let optional = self.text.if_available.iter().filter(|name| available.contains(name.as_str()));
        let alone: Vec<String> = self.text.without_dependencies.iter().chain(optional).cloned().collect();
        let urls =
            |names: &[String], resolve| self.dnf.urls(names, resolve).map_err(|error| self.of_source(error));
        let mut urls_of_all = urls(&self.text.install, true)?;
        urls_of_all.extend(urls(&alone, false)?);
        let mut resolved = BTreeMap::new();
        for url in urls_of_all {
            let file = decoded(url.rsplit('/').next().unwrap_or(&url));
            let package = &listed.get(&file).ok_or_else(|| self.unlisted(&file))?.package;
            if self.is_wanted(package) {
                let file = Rpm.file_name(package);
                resolved.insert(file.clone(), Resolved { package: package.clone(), file });
            }
        }
        Ok(resolved.into_values().collect())
    }

    fn download(&self, missing: &[&Resolved], reporter: Reporter<'_>) -> Result<(), Error> {
        // In the folder of packages, since that may be on another file system than this state.
        let packages = self.cache.packages();
        let staging = tempfile::tempdir_in(&packages).map_err(Error::io("create a folder in", &packages))?;
        let wanted =
            missing.iter().map(|one| self.find(&one.package)).collect::<Result<Vec<&Listed>, Error>>()?;
        let downloaded = self.download_into(staging.path(), &wanted, reporter);
        downloaded.map_err(|error| self.undelivered(error, staging.path(), &wanted))?;
        let files = files_under(staging.path())?;
        for (one, listed) in missing.iter().zip(&wanted) {
            let from = files.get(listed.file()).ok_or_else(|| Error::PackageMissing {
                name: self.source.name(),
                file: listed.file().to_owned(),
            })?;
            let to = packages.join(&one.file);
            fs::rename(from, &to).map_err(Error::io("move a package to", &to))?;
        }
        Ok(())
    }

    fn verify(&self, files: &[PathBuf], _reporter: Reporter<'_>) -> Result<(), Error> {
        keys::verify(self.wrapper, &self.folder, self.source.key(), files)?;
        files.iter().try_for_each(|file| check_name(file))
    }

    /// Removes the metadata, which is read again whenever the source is used.
    fn tidy(&self) -> Result<(), Error> {
        for name in ["cache", "dvd", "log", "root"] {
            let path = self.folder.join(name);
            if path.exists() {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// The installation image of a source, which may have changed since the source was added.
fn open_dvd(source: &Source, file: &Path, wrapper: &[OsString]) -> Result<Dvd, Error> {
    let failed = |tried: String| Error::SourceFailed { name: source.name(), tried };
    let dvd = Dvd::open(file, wrapper).map_err(|error| match error {
        Error::Io { .. } | Error::NotADvd { .. } => failed(error.to_string()),
        other => other,
    })?;
    let wrong = |reason: String| failed(format!("{}: {reason}", file.display()));
    source.check_dvd(&dvd).map_err(wrong).map(|()| dvd)
}

/// The folder with the metadata of an image's repository.
fn copy_of(folder: &Path, repository: &str) -> PathBuf {
    folder.join("dvd").join(in_repository(repository, ""))
}

/// A path in a repository, as a path in the image. The repository may be the root folder, `.`.
fn in_repository(repository: &str, path: &str) -> String {
    if repository == "." { path.to_owned() } else { format!("{}/{path}", repository.trim_end_matches('/')) }
}

/// RPM has the kernel's names of architectures.
fn rpm_architecture(source: &Source) -> &'static str {
    source.isa().info().machines.first().copied().unwrap_or_default()
}

/// Reports how much of a download is there.
fn report(folder: &Path, total: u64, reporter: Reporter<'_>) {
    let sizes = files_under(folder).unwrap_or_default();
    let there: u64 = sizes.values().filter_map(|path| path.metadata().ok()).map(|data| data.len()).sum();
    let detail = format!("{} of {} MiB", there >> 20, total >> 20);
    let percent = if total == 0 { 0.0 } else { (there as f32 / total as f32 * 100.0).min(100.0) };
    reporter.step(Step::Downloading { percent, detail: &detail });
}

/// All files below a folder, by their names. Links are not followed.
fn files_under(folder: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let mut found = BTreeMap::new();
    for path in entries(folder)? {
        let kind = path.symlink_metadata().map_err(Error::io("read", &path))?.file_type();
        if kind.is_dir() {
            found.extend(files_under(&path)?);
        } else if kind.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.insert(name, path);
        }
    }
    Ok(found)
}
