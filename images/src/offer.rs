//! Lists the available versions of a kernel or of QEMU: from the suites of all recipes of the same origin and architecture, from
//! their related suites, and from the images in the cache.

use crate::apt::{self, Apt, Archives};
use crate::apt_packages::AptPackages;
use crate::archive;
use crate::cache::Cached;
use crate::linux;
use crate::package_source::PackageIndex as _;
use crate::progress::{Reporter, Step};
use crate::recipe_text::Packages;
use crate::replacement::{Component, OfferSource, Offered, is_of_kernel};
use crate::{Catalog, Error, Progress, Recipe, Store};
use std::collections::BTreeSet;

/// Suffixes of a suite's related suites.
const RELATED: [&str; 4] = ["", "-updates", "-security", "-backports"];
/// Suites without related suites, and the suite that they depend on, if any.
const ROLLING: [(&str, Option<&str>); 4] =
    [("testing", None), ("sid", None), ("unstable", None), ("experimental", Some("sid"))];
/// The next release, and what comes before it; they are searched even if no recipe names them.
const ALWAYS: [&str; 2] = ["testing", "experimental"];

/// The available versions.
#[derive(Debug, Clone, Default)]
pub struct Offers {
    /// The versions without duplicates, the lowest first.
    pub offered: Vec<Offered>,
    /// The searched suites or sources.
    pub suites: Vec<String>,
    /// Suites or sources that are not available, each with the tool's error.
    pub unreachable: Vec<(String, String)>,
}

impl Store {
    /// All versions of `component` that can replace the one in `recipe`'s images. An offline store offers only those of images in
    /// the cache.
    ///
    /// # Errors
    /// [`Error::Replacement`] if the recipe has no such component, or why the archive is not available.
    pub fn offers(
        &self,
        recipe: &Recipe,
        component: Component,
        catalog: &Catalog,
        progress: &dyn Progress,
    ) -> Result<Offers, Error> {
        let wanted = Wanted::new(recipe, component)?;
        let mut offers = Offers::default();
        let reporter = Reporter { recipe: recipe.name(), to: progress };
        match recipe.apt() {
            _ if self.is_offline() => {}
            Some(text) => self.offers_of_archive((recipe, text), &wanted, catalog, &mut offers, reporter)?,
            None => self.offers_of_sources(recipe, wanted.package(), catalog, &mut offers, reporter)?,
        }
        for Cached { image, referenced } in self.list()? {
            let of_like = catalog.get(image.name()).filter(|other| is_alike(recipe, other));
            let (Some(other), true) = (of_like, referenced) else { continue };
            let Some(offered) = wanted.of_image(other, &image) else { continue };
            let known = offers.offered.iter().any(|known| known.version == offered.version);
            if !known {
                offers.offered.push(offered);
            }
        }
        offers.offered.sort_by(|a, b| {
            recipe.compare_versions(&a.version, &b.version).then_with(|| a.package.cmp(&b.package))
        });
        Ok(offers)
    }

    fn offers_of_archive(
        &self,
        (recipe, text): (&Recipe, &AptPackages),
        wanted: &Wanted,
        catalog: &Catalog,
        offers: &mut Offers,
        reporter: Reporter<'_>,
    ) -> Result<(), Error> {
        let (cache, options) = self.parts();
        reporter.step(Step::Resolving);
        let lock = cache.lock_of_packages()?;
        lock.lock().map_err(Error::io("lock", cache.root()))?;
        let keyring = text.keyring(options.keyring.as_deref())?;
        let known: Vec<&Recipe> = catalog.recipes().filter(|other| is_alike(recipe, other)).collect();
        let mut suites: BTreeSet<String> = ALWAYS.iter().map(|suite| (*suite).to_owned()).collect();
        for suite in known.iter().filter_map(|recipe| recipe.apt()).flat_map(|packages| &packages.suites) {
            let ends = if rolling(suite).is_some() { &RELATED[..1] } else { &RELATED[..] };
            suites.extend(ends.iter().map(|end| format!("{suite}{end}")));
        }
        let main = match &options.archive {
            Some(archive) => archive.trim_end_matches('/').to_owned(),
            None => {
                let candidates = archive::candidates(&text.origin, &text.suites, &options.wrapper)?;
                candidates.into_iter().next().unwrap_or_default()
            }
        };
        let mut sources = Vec::new();
        for suite in &suites {
            let beside = archive::separate(&text.origin, suite, &options.wrapper)?;
            sources.push((beside.unwrap_or_else(|| main.clone()), suite.clone()));
        }
        let archives =
            Archives { suites: &sources, components: &text.components, keyring: &keyring, isa: recipe.isa() };
        let request = apt::Wanted { assumed: text.assume_installed.clone(), ..apt::Wanted::default() };
        let index = Apt::new(cache, &options.wrapper, &archives, request)?;
        let complaints = match index.update(reporter) {
            Ok(()) => String::new(),
            // The suites that are available are enough.
            Err(Error::PackageTool { output, .. }) => output,
            Err(other) => return Err(other),
        };
        let there = index.suites(reporter)?;
        for suite in suites {
            if there.contains(&suite) {
                offers.suites.push(suite);
            } else {
                let why = complaint(&complaints, &suite);
                offers.unreachable.push((suite, why));
            }
        }
        let names = wanted.names(&index, &known, reporter)?;
        let versions = if names.is_empty() { Vec::new() } else { index.versions(&names, reporter)? };
        for (package, version, suite) in versions {
            let belongs = wanted.belongs(&package, &suite, &known);
            let known =
                offers.offered.iter().any(|known| known.package == package && known.version == version);
            if known || !belongs {
                continue;
            }
            let depends_on = depends_on(&suite);
            let needed = |(_, of): &&(String, String)| *of == suite || Some(of.as_str()) == depends_on;
            let sources = sources.iter().filter(needed).cloned().collect();
            offers.offered.push(Offered {
                package,
                version,
                source: OfferSource::Archive { suite, sources },
            });
        }
        index.tidy()
    }
}

/// What to search for.
enum Wanted {
    /// Kernels of a flavour, such as `cloud-amd64`.
    Kernel { flavour: String },
    /// QEMU, in the package that a suite's recipe installs, or by default in this one.
    Qemu { package: String },
    /// Kernel or QEMU of RPM packages, in this one.
    Rpm { component: Component, package: String },
}

impl Wanted {
    fn new(recipe: &Recipe, component: Component) -> Result<Self, Error> {
        let missing = |what: &str| Error::Replacement {
            what: recipe.name().to_owned(),
            message: format!("it installs no {what}, so other versions cannot be found"),
        };
        if let Packages::Rpm(packages) = &recipe.text.packages {
            let package = packages.text.package_of(component);
            let package = package.ok_or_else(|| missing("such package"))?.to_owned();
            return Ok(Self::Rpm { component, package });
        }
        match component {
            Component::Kernel => {
                let flavour = flavour(recipe).ok_or_else(|| missing("linux-image package"))?;
                Ok(Self::Kernel { flavour: flavour.to_owned() })
            }
            Component::Qemu => {
                let package = qemu(recipe).ok_or_else(|| missing("qemu-system package"))?;
                Ok(Self::Qemu { package: package.to_owned() })
            }
        }
    }

    /// The one package that has it, or by default has it.
    fn package(&self) -> &str {
        match self {
            Self::Kernel { flavour: package } | Self::Qemu { package } | Self::Rpm { package, .. } => package,
        }
    }

    /// Names of the packages that have it.
    fn names(
        &self,
        index: &Apt<'_>,
        known: &[&Recipe],
        reporter: Reporter<'_>,
    ) -> Result<Vec<String>, Error> {
        match self {
            Self::Kernel { flavour } => {
                let names = index.names("linux-image-", reporter)?;
                Ok(names.into_iter().filter(|name| is_kernel(name, flavour)).collect())
            }
            Self::Qemu { package } => {
                let mut names: Vec<String> =
                    known.iter().filter_map(|recipe| qemu(recipe)).map(str::to_owned).collect();
                names.push(package.clone());
                names.sort();
                names.dedup();
                Ok(names)
            }
            Self::Rpm { package, .. } => Ok(vec![package.clone()]),
        }
    }

    /// Whether this package of this suite is the right one: QEMU's packages have different names in different releases.
    fn belongs(&self, package: &str, suite: &str, known: &[&Recipe]) -> bool {
        let Self::Qemu { package: own } = self else { return true };
        let whole = depends_on(suite).unwrap_or(suite);
        let has = |packages: &AptPackages| packages.suites.iter().any(|of| of == whole);
        let of_suite = known.iter().find(|recipe| recipe.apt().is_some_and(has));
        of_suite.and_then(|recipe| qemu(recipe)).unwrap_or(own) == package
    }

    /// The version in an image.
    fn of_image(&self, recipe: &Recipe, image: &crate::Image) -> Option<Offered> {
        let source = |packages| OfferSource::Image { recipe: recipe.name().to_owned(), packages };
        match self {
            Self::Kernel { flavour: wanted } if flavour(recipe) != Some(wanted) => None,
            Self::Kernel { .. } | Self::Rpm { component: Component::Kernel, .. } => {
                let kernel = image.kernel_version()?;
                let of_kernel = image.packages().iter().filter(|one| is_of_kernel(&one.name));
                let (package, version) = (kernel.package.clone(), kernel.version.clone());
                Some(Offered { package, version, source: source(of_kernel.cloned().collect()) })
            }
            Self::Qemu { .. } | Self::Rpm { component: Component::Qemu, .. } => {
                let qemu = image.qemu_version()?;
                let (package, version) = (qemu.package.clone(), qemu.version.clone());
                Some(Offered { package, version, source: source(image.packages().to_vec()) })
            }
        }
    }
}

/// Whether recipes are of one origin and architecture, and both have levels.
pub(crate) fn is_alike(recipe: &Recipe, other: &Recipe) -> bool {
    let origin = |recipe: &Recipe| recipe.apt().map(|packages| packages.origin.clone());
    other.isa() == recipe.isa() && origin(other) == origin(recipe) && other.text.hypervisor.is_some()
}

/// `cloud-amd64` of `linux-image-cloud-amd64`, which a recipe installs.
fn flavour(recipe: &Recipe) -> Option<&str> {
    recipe.apt()?.install.iter().find_map(|name| name.strip_prefix("linux-image-"))
}

fn qemu(recipe: &Recipe) -> Option<&str> {
    recipe.apt()?.install.iter().map(String::as_str).find(|name| name.starts_with("qemu-system-"))
}

/// Whether a package holds a kernel of this flavour. It is not a metapackage for the newest kernel of a series (`6.1`), and not
/// of a flavour with the same end (`cloud-amd64` instead of `amd64`).
fn is_kernel(name: &str, flavour: &str) -> bool {
    let release = name.strip_prefix("linux-image-").and_then(|rest| rest.strip_suffix(flavour));
    let Some(abi) = release.and_then(|rest| rest.strip_suffix('-')) else { return false };
    let numbers = |part: &str| part.starts_with(|c: char| c.is_ascii_digit()) || part.starts_with("rc");
    let is_series = abi.split('.').count() < 3 && !abi.contains(['-', '+']);
    linux::is_release(abi) && abi.split('-').all(numbers) && !is_series
}

fn rolling(suite: &str) -> Option<Option<&'static str>> {
    ROLLING.iter().find(|(name, _)| *name == suite).map(|(_, depends_on)| *depends_on)
}

/// The suite that this one is incomplete without.
fn depends_on(suite: &str) -> Option<&str> {
    match rolling(suite) {
        Some(depends_on) => depends_on,
        None => Some(archive::whole(suite)).filter(|whole| *whole != suite),
    }
}

/// apt's error about a suite, in one line.
fn complaint(complaints: &str, suite: &str) -> String {
    let names =
        |line: &&str| line.contains(&format!(" {suite} ")) || line.contains(&format!("dists/{suite}/"));
    let said = complaints
        .lines()
        .find(names)
        .unwrap_or("the archive has no index of this suite for this architecture");
    said.trim_start_matches("E: ").trim_start_matches("W: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_distinguished_from_metapackages_and_other_flavours() {
        for name in [
            "linux-image-6.1.0-47-amd64",
            "linux-image-6.12.90+deb13.1-amd64",
            "linux-image-6.1.0-0.deb11.52-amd64",
            "linux-image-7.4-rc3-amd64",
            "linux-image-7.2+deb14-amd64",
        ] {
            assert!(is_kernel(name, "amd64"), "{name}");
        }
        for name in [
            "linux-image-amd64",
            "linux-image-6.1-amd64",
            "linux-image-6.1.0-47-cloud-amd64",
            "linux-image-6.1.0-47-rt-amd64",
            "linux-image-6.1.0-47-amd64-dbg",
            "linux-image-6.1.0-47-amd64-unsigned",
        ] {
            assert!(!is_kernel(name, "amd64"), "{name}");
        }
        assert!(is_kernel("linux-image-6.1.0-47-cloud-amd64", "cloud-amd64"));
        assert!(!is_kernel("linux-image-6.1-cloud-amd64", "cloud-amd64"));
    }

    #[test]
    fn a_suite_depends_on_its_main_suite() {
        assert_eq!(depends_on("trixie-backports"), Some("trixie"));
        assert_eq!(depends_on("experimental"), Some("sid"));
        assert_eq!((depends_on("trixie"), depends_on("sid")), (None, None));
    }

    #[test]
    fn the_error_about_a_suite_is_found() {
        let said = "W: something else\n\
            E: The repository 'http://a.example/debian bullseye-backports Release' does not have a Release file.\n\
            E: Release file for http://a.example/debian/dists/sid/InRelease is expired (invalid since 16d).";
        assert!(complaint(said, "bullseye-backports").ends_with("does not have a Release file."));
        assert!(complaint(said, "sid").starts_with("Release file for"));
        assert_eq!(complaint(said, "trixie"), "the archive has no index of this suite for this architecture");
    }
}
