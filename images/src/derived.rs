//! Gathers the inputs of a derived recipe: the cached packages of its base's image, and the replacement of some of them.

use crate::build::{Build, Materials, now};
use crate::debian_version::compare_versions;
use crate::package_source::{self, Archives, is_package};
use crate::recipe_text::PackagesText;
use crate::replacement::{Derivation, LocalKernel, OfferSource, Offered, Replacement, is_of_kernel};
use crate::{Digest, Error, Package};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

impl Build<'_> {
    /// All inputs of the derived recipe.
    pub(crate) fn gather(&self, derivation: &Derivation) -> Result<Materials, Error> {
        let folder = self.cache.packages();
        let text = &self.recipe.text.packages;
        let in_cache = |packages: Vec<Package>| -> Vec<(Package, PathBuf)> {
            packages.into_iter().map(|one| (one.clone(), folder.join(text.source.file_name(&one)))).collect()
        };
        let base = derivation.packages.clone();
        intact(text, &derivation.base, &base, &folder)?;
        let mut archive = "-".to_owned();
        let mut suites = text.suites.clone();
        let mut offered = |offered: &Offered| -> Result<Vec<Package>, Error> {
            match &offered.source {
                OfferSource::Image { recipe, packages } => {
                    intact(text, recipe, packages, &folder)?;
                    Ok(packages.clone())
                }
                OfferSource::Archive { suite, sources } => {
                    archive = sources.iter().map(|(archive, _)| archive.clone()).next().unwrap_or_default();
                    suites = vec![suite.clone()];
                    self.fetch(offered, suite, sources, text, derivation, &folder)
                }
            }
        };
        let mut without = 0;
        let (packages, kernel_image) = match &derivation.replacement {
            Replacement::Kernel(kernel) => {
                let mut packages = without_kernel(base);
                without = packages.len();
                packages.extend(offered(kernel)?.into_iter().filter(|one| is_of_kernel(&one.name)));
                (in_cache(packages), None)
            }
            Replacement::Qemu(qemu) => (in_cache(with_qemu(base, without_kernel(offered(qemu)?))), None),
            Replacement::LocalKernel(kernel) => {
                let mut packages = in_cache(without_kernel(base));
                without = packages.len();
                let (debs, image) = self.local(kernel)?;
                packages.extend(debs);
                (packages, image)
            }
        };
        let (packages, files) = packages.into_iter().unzip();
        let replaced = Some(derivation.replacement.component());
        Ok(Materials {
            archive,
            suites,
            packages,
            files,
            kernel_image,
            replaced,
            without_kernel: without,
            when: now(),
        })
    }

    /// Downloads an offered version and its dependencies.
    fn fetch(
        &self,
        offered: &Offered,
        suite: &str,
        sources: &[(String, String)],
        text: &PackagesText,
        derivation: &Derivation,
        folder: &Path,
    ) -> Result<Vec<Package>, Error> {
        let keyring = self.keyring()?;
        let isa = self.recipe.isa();
        let archives = Archives { suites: sources, components: &text.components, keyring: &keyring, isa };
        let lock = self.cache.lock_of_packages()?;
        lock.lock().map_err(Error::io("lock", self.cache.root()))?;
        let mut assumed = derivation.assumed.clone();
        if let Some(release) = offered.package.strip_prefix("linux-image-") {
            // No image needs it, and archives drop it while they still have its kernel.
            assumed.push(format!("linux-base-{release}={}", offered.version));
        }
        let index = text.source.open(self.cache, self.wrapper, &archives, &assumed)?;
        index.update(self.reporter)?;
        let install = [format!("{}={}", offered.package, offered.version)];
        let resolved = index.resolve(&install, Some(suite), self.reporter)?;
        let wanted = (install.as_slice(), Some(suite));
        package_source::fetch(&*index, folder, wanted, &resolved, self.reporter)?;
        index.tidy()?;
        Ok(resolved.into_iter().map(|one| one.package).collect())
    }

    /// The packages of a local kernel, and its image if that is in no package.
    #[allow(clippy::type_complexity, reason = "one call site")]
    fn local(
        &self,
        kernel: &LocalKernel,
    ) -> Result<(Vec<(Package, PathBuf)>, Option<(Package, PathBuf)>), Error> {
        let mut packages = Vec::new();
        let mut image = None;
        for (path, digest) in &kernel.files {
            if Digest::of_file(path)? != *digest {
                let message = "it has changed since it was read".to_owned();
                return Err(Error::Replacement { what: path.display().to_string(), message });
            }
            let package = Package {
                name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                version: kernel.release().to_owned(),
                architecture: self.recipe.isa().to_string(),
                sha256: digest.clone(),
            };
            let one = (package, path.clone());
            if is_package(path) { packages.push(one) } else { image = Some(one) }
        }
        Ok((packages, image))
    }
}

/// Makes sure that packages are in the cache as they were.
fn intact(text: &PackagesText, recipe: &str, packages: &[Package], folder: &Path) -> Result<(), Error> {
    let gone = |package: &&Package| {
        Digest::of_file(&folder.join(text.source.file_name(package)))
            .map_or(true, |digest| digest != package.sha256)
    };
    let files: Vec<String> =
        packages.iter().filter(gone).take(3).map(|one| text.source.file_name(one)).collect();
    if files.is_empty() { Ok(()) } else { Err(Error::PackagesGone { recipe: recipe.to_owned(), files }) }
}

/// Drops packages whose names are those of kernels: they are large.
fn without_kernel(packages: Vec<Package>) -> Vec<Package> {
    packages.into_iter().filter(|one| !is_of_kernel(&one.name)).collect()
}

/// The packages of an image with another QEMU and its dependencies. Programs run with newer libraries than those they were built
/// with, but not with older ones. So the higher version of each package wins; and the set with the newer C library wins if two
/// packages of different names hold the same path.
fn with_qemu(base: Vec<Package>, new: Vec<Package>) -> Vec<Package> {
    let is_qemu = |one: &Package| one.name.starts_with("qemu-") && one.name != "qemu-guest-agent";
    let (qemu, new): (Vec<_>, Vec<_>) = new.into_iter().partition(is_qemu);
    let base: Vec<_> = base.into_iter().filter(|one| !is_qemu(one)).collect();
    let libc = |packages: &[Package]| {
        packages.iter().find(|one| one.name == "libc6").map_or(String::new(), |one| one.version.clone())
    };
    let new_is_newer = compare_versions(&libc(&new), &libc(&base)) != Ordering::Less;
    let (older, newer) = if new_is_newer { (base, new) } else { (new, base) };
    let mut merged: Vec<Package> = Vec::new();
    for one in older.into_iter().chain(newer).chain(qemu) {
        match merged.iter().position(|other| other.name == one.name) {
            Some(at) if compare_versions(&merged[at].version, &one.version) == Ordering::Greater => {}
            Some(at) => {
                merged.remove(at);
                merged.push(one);
            }
            None => merged.push(one),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(text: &str) -> Vec<Package> {
        let package = |word: &str| {
            let (name, version) = word.split_once('=').unwrap();
            Package {
                name: name.into(),
                version: version.into(),
                architecture: "amd64".into(),
                sha256: Digest::of_bytes(word.as_bytes()),
            }
        };
        text.split_whitespace().map(package).collect()
    }

    fn text(packages: &[Package]) -> String {
        packages.iter().map(|one| format!("{}={}", one.name, one.version)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn another_qemu_adds_its_libraries_and_removes_none() {
        let base = packages("busybox=1 libc6=2.41 libglib=2.84 qemu-guest-agent=10 qemu-system-x86=10");
        let older = packages("libc6=2.31 libglib=2.66 libusb=1 qemu-system-x86=5 qemu-system-data=5");
        assert_eq!(
            text(&with_qemu(base.clone(), older)),
            "libusb=1 busybox=1 libc6=2.41 libglib=2.84 qemu-guest-agent=10 qemu-system-x86=5 qemu-system-data=5"
        );
        let newer = packages("libc6=2.42 libglib=2.90 qemu-guest-agent=9 qemu-system-x86=11");
        assert_eq!(
            text(&with_qemu(base, newer)),
            "busybox=1 qemu-guest-agent=10 libc6=2.42 libglib=2.90 qemu-system-x86=11"
        );
    }
}
