//! Which other versions of a kernel or of QEMU can be had: those of every suite that recipes of the same origin and
//! architecture know, with the suites beside them, and those that images in the cache were made of.

use crate::archive;
use crate::build::keyring;
use crate::cache::Cached;
use crate::debian_version::compare_versions;
use crate::linux;
use crate::package_source::{Archives, PackageIndex};
use crate::progress::{Reporter, Step};
use crate::replacement::{Offered, Part, Whence, is_of_kernel};
use crate::{Catalog, Error, Progress, Recipe, Store};
use std::collections::BTreeSet;

/// What a suite has beside it, by the end of its name.
const BESIDE: [&str; 4] = ["", "-updates", "-security", "-backports"];
/// Suites that nothing is beside, and what they lean on where that is another one.
const ROLLING: [(&str, Option<&str>); 4] =
    [("testing", None), ("sid", None), ("unstable", None), ("experimental", Some("sid"))];
/// What becomes the next release, and what comes before it: no recipe need name them.
const ALWAYS: [&str; 2] = ["testing", "experimental"];

/// The versions that can be had.
#[derive(Debug, Clone, Default)]
pub struct Offers {
    /// Each once, the lowest version first.
    pub offered: Vec<Offered>,
    /// Suites that were looked through.
    pub suites: Vec<String>,
    /// Suites that could not be had, each with apt's words.
    pub unreachable: Vec<(String, String)>,
}

impl Store {
    /// Every version of `part` that can take the place of the one in `recipe`'s images. In an offline store, only those that
    /// images in the cache were made of.
    ///
    /// # Errors
    /// [`Error::Replacement`] if the recipe has no such part, or why the archive can't be asked.
    pub fn offers(
        &self,
        recipe: &Recipe,
        part: Part,
        catalog: &Catalog,
        progress: &dyn Progress,
    ) -> Result<Offers, Error> {
        let wanted = Wanted::new(recipe, part)?;
        let mut offers = Offers::default();
        if !self.is_offline() {
            let reporter = Reporter { recipe: recipe.name(), to: progress };
            self.offers_of_archive(recipe, &wanted, catalog, &mut offers, reporter)?;
        }
        for Cached { image, referenced } in self.list()? {
            let of_like = catalog.get(image.name()).filter(|other| is_like(recipe, other));
            let (Some(other), true) = (of_like, referenced) else { continue };
            let Some(offered) = wanted.of_image(other, &image) else { continue };
            let known = offers.offered.iter().any(|known| known.version == offered.version);
            if !known {
                offers.offered.push(offered);
            }
        }
        offers
            .offered
            .sort_by(|a, b| compare_versions(&a.version, &b.version).then_with(|| a.package.cmp(&b.package)));
        Ok(offers)
    }

    fn offers_of_archive(
        &self,
        recipe: &Recipe,
        wanted: &Wanted,
        catalog: &Catalog,
        offers: &mut Offers,
        reporter: Reporter<'_>,
    ) -> Result<(), Error> {
        let text = &recipe.text.packages;
        let (cache, options) = self.parts();
        reporter.step(Step::Resolving);
        let lock = cache.lock_of_packages()?;
        lock.lock().map_err(Error::io("lock", cache.root()))?;
        let keyring = keyring(options.keyring.as_deref(), text)?;
        let known: Vec<&Recipe> = catalog.recipes().filter(|other| is_like(recipe, other)).collect();
        let mut suites: BTreeSet<String> = ALWAYS.iter().map(|suite| (*suite).to_owned()).collect();
        for suite in known.iter().flat_map(|recipe| &recipe.text.packages.suites) {
            let ends = if rolling(suite).is_some() { &BESIDE[..1] } else { &BESIDE[..] };
            suites.extend(ends.iter().map(|end| format!("{suite}{end}")));
        }
        let main = match &options.archive {
            Some(archive) => archive.trim_end_matches('/').to_owned(),
            None => {
                let candidates = text.source.archives(&text.origin, &text.suites, &options.wrapper)?;
                candidates.into_iter().next().unwrap_or_default()
            }
        };
        let mut sources = Vec::new();
        for suite in &suites {
            let beside = text.source.archive_of_suite(&text.origin, suite, &options.wrapper)?;
            sources.push((beside.unwrap_or_else(|| main.clone()), suite.clone()));
        }
        let archives =
            Archives { suites: &sources, components: &text.components, keyring: &keyring, isa: recipe.isa() };
        let index = text.source.open(cache, &options.wrapper, &archives, &text.assume_installed)?;
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
        let names = wanted.names(&*index, &known, reporter)?;
        let versions = if names.is_empty() { Vec::new() } else { index.versions(&names, reporter)? };
        for (package, version, suite) in versions {
            let belongs = wanted.belongs(&package, &suite, &known);
            let known =
                offers.offered.iter().any(|known| known.package == package && known.version == version);
            if known || !belongs {
                continue;
            }
            let leans_on = leans_on(&suite);
            let needed = |(_, of): &&(String, String)| *of == suite || Some(of.as_str()) == leans_on;
            let sources = sources.iter().filter(needed).cloned().collect();
            offers.offered.push(Offered { package, version, whence: Whence::Archive { suite, sources } });
        }
        index.tidy()
    }
}

/// What is looked for.
enum Wanted {
    /// Kernels of a flavour: `cloud-amd64`.
    Kernel { flavour: String },
    /// QEMU, in whichever package that a recipe's suite has it; else in this one.
    Qemu { package: String },
}

impl Wanted {
    fn new(recipe: &Recipe, part: Part) -> Result<Self, Error> {
        let lacks = |what: &str| Error::Replacement {
            what: recipe.name().to_owned(),
            message: format!("it installs no {what} by that name, so no other version can be looked for"),
        };
        match part {
            Part::Kernel => {
                let flavour = flavour(recipe).ok_or_else(|| lacks("linux-image package"))?;
                Ok(Self::Kernel { flavour: flavour.to_owned() })
            }
            Part::Qemu => {
                let package = qemu(recipe).ok_or_else(|| lacks("qemu-system package"))?;
                Ok(Self::Qemu { package: package.to_owned() })
            }
        }
    }

    /// Names of the packages that have it.
    fn names(
        &self,
        index: &dyn PackageIndex,
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
        }
    }

    /// Whether a package of this suite is the right one: QEMU's have other names in other releases.
    fn belongs(&self, package: &str, suite: &str, known: &[&Recipe]) -> bool {
        let Self::Qemu { package: own } = self else { return true };
        let whole = leans_on(suite).unwrap_or(suite);
        let of_suite = known.iter().find(|recipe| recipe.text.packages.suites.iter().any(|of| of == whole));
        of_suite.and_then(|recipe| qemu(recipe)).unwrap_or(own) == package
    }

    /// The version that an image was made with.
    fn of_image(&self, recipe: &Recipe, image: &crate::Image) -> Option<Offered> {
        let whence = |packages| Whence::Image { recipe: recipe.name().to_owned(), packages };
        match self {
            Self::Kernel { flavour: wanted } => {
                let kernel = image.kernel_version().filter(|_| flavour(recipe) == Some(wanted))?;
                let of_kernel = image.packages().iter().filter(|one| is_of_kernel(&one.name));
                let (package, version) = (kernel.package.clone(), kernel.version.clone());
                Some(Offered { package, version, whence: whence(of_kernel.cloned().collect()) })
            }
            Self::Qemu { .. } => {
                let qemu = image.qemu_version()?;
                let (package, version) = (qemu.package.clone(), qemu.version.clone());
                Some(Offered { package, version, whence: whence(image.packages().to_vec()) })
            }
        }
    }
}

/// Whether recipes are of one origin and architecture, and both have levels.
fn is_like(recipe: &Recipe, other: &Recipe) -> bool {
    other.isa() == recipe.isa()
        && other.text.packages.origin == recipe.text.packages.origin
        && other.text.hypervisor.is_some()
}

/// Of `linux-image-cloud-amd64`, which a recipe installs.
fn flavour(recipe: &Recipe) -> Option<&str> {
    recipe.text.packages.install.iter().find_map(|name| name.strip_prefix("linux-image-"))
}

fn qemu(recipe: &Recipe) -> Option<&str> {
    recipe.text.packages.install.iter().map(String::as_str).find(|name| name.starts_with("qemu-system-"))
}

/// Whether a package is that of one kernel of this flavour, and not one that leads to the newest of a line (`6.1`), nor of a
/// flavour that ends like it (`cloud-amd64` where `amd64` is wanted).
fn is_kernel(name: &str, flavour: &str) -> bool {
    let release = name.strip_prefix("linux-image-").and_then(|rest| rest.strip_suffix(flavour));
    let Some(abi) = release.and_then(|rest| rest.strip_suffix('-')) else { return false };
    let numbers = |part: &str| part.starts_with(|c: char| c.is_ascii_digit()) || part.starts_with("rc");
    let a_line = abi.split('.').count() < 3 && !abi.contains(['-', '+']);
    linux::is_release(abi) && abi.split('-').all(numbers) && !a_line
}

fn rolling(suite: &str) -> Option<Option<&'static str>> {
    ROLLING.iter().find(|(name, _)| *name == suite).map(|(_, leans_on)| *leans_on)
}

/// The suite without which this one is not whole.
fn leans_on(suite: &str) -> Option<&str> {
    match rolling(suite) {
        Some(leans_on) => leans_on,
        None => Some(archive::whole(suite)).filter(|whole| *whole != suite),
    }
}

/// What apt says of a suite, in one line.
fn complaint(complaints: &str, suite: &str) -> String {
    let names =
        |line: &&str| line.contains(&format!(" {suite} ")) || line.contains(&format!("dists/{suite}/"));
    let said = complaints.lines().find(names).unwrap_or("it has no index of this architecture there");
    said.trim_start_matches("E: ").trim_start_matches("W: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_from_what_leads_to_them_and_from_other_flavours() {
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
    fn a_suite_leans_on_the_one_it_belongs_to() {
        assert_eq!(leans_on("trixie-backports"), Some("trixie"));
        assert_eq!(leans_on("experimental"), Some("sid"));
        assert_eq!((leans_on("trixie"), leans_on("sid")), (None, None));
    }

    #[test]
    fn what_apt_says_of_a_suite_is_found() {
        let said = "W: something else\n\
            E: The repository 'http://a.example/debian bullseye-backports Release' does not have a Release file.\n\
            E: Release file for http://a.example/debian/dists/sid/InRelease is expired (invalid since 16d).";
        assert!(complaint(said, "bullseye-backports").ends_with("does not have a Release file."));
        assert!(complaint(said, "sid").starts_with("Release file for"));
        assert_eq!(complaint(said, "trixie"), "it has no index of this architecture there");
    }
}
