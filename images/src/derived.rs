//! Gathers the inputs of a derived recipe: the cached packages of its base's image, and the replacement of some of them.

use crate::apt::{Apt, Archives, Wanted};
use crate::build::{Build, Loose, Materials, now};
use crate::local_files;
use crate::package_source::{self, PackageFormat, PackageIndex as _, file_in, is_package};
use crate::recipe_text::Packages;
use crate::replacement::{
    Component, Derivation, LocalKernel, OfferSource, Offered, Replacement, is_of_kernel,
};
use crate::{Digest, Error, Package, Source, rpm};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};

impl Build<'_> {
    /// All inputs of the derived recipe.
    pub(crate) fn gather(&self, derivation: &Derivation) -> Result<Materials, Error> {
        let folder = self.cache.packages();
        let format = self.recipe.packages().format();
        let in_cache = |packages: Vec<Package>| -> Vec<(Package, PathBuf)> {
            packages.into_iter().map(|one| (one.clone(), file_in(&folder, &one))).collect()
        };
        let (of_this_machine, base): (Vec<Package>, Vec<Package>) =
            derivation.packages.iter().cloned().partition(local_files::is_local);
        intact(&derivation.base, &base, &folder)?;
        let mut archive = "-".to_owned();
        let mut suites = self.recipe.apt().map(|packages| packages.suites.clone()).unwrap_or_default();
        let mut offered = |offered: &Offered| -> Result<Vec<Package>, Error> {
            match &offered.source {
                OfferSource::Image { recipe, packages } => {
                    intact(recipe, packages, &folder)?;
                    Ok(packages.clone())
                }
                OfferSource::Archive { suite, sources } => {
                    archive = sources.iter().map(|(archive, _)| archive.clone()).next().unwrap_or_default();
                    suites = vec![suite.clone()];
                    self.fetch(offered, suite, sources, derivation)
                }
                OfferSource::Rpm { source } => {
                    archive = source.origin().to_string();
                    suites = vec![source.name()];
                    self.fetch_rpm(offered, source, derivation.replacement.component())
                }
            }
        };
        let mut without = 0;
        let (packages, mut loose) = match &derivation.replacement {
            Replacement::Kernel(kernel) => {
                let mut packages = without_kernel(base);
                without = packages.len();
                packages.extend(offered(kernel)?.into_iter().filter(|one| is_of_kernel(&one.name)));
                (in_cache(packages), Vec::new())
            }
            Replacement::Qemu(qemu) => {
                let firmware = self.recipe.text.firmware.as_ref();
                let kept = firmware.map_or(&[][..], |firmware| &firmware.packages.install);
                (in_cache(with_qemu(format, base, without_kernel(offered(qemu)?), kept)), Vec::new())
            }
            Replacement::LocalKernel(kernel) => {
                let mut packages = in_cache(without_kernel(base));
                without = packages.len();
                let (debs, image) = self.local(kernel)?;
                packages.extend(debs);
                (packages, image)
            }
            Replacement::Guest(guest) => return self.gather_guest(guest),
        };
        if of_this_machine.iter().any(local_files::is_busybox) {
            loose.push(local_files::busybox(self.recipe.isa())?);
        }
        if let (Some(firmware), false) =
            (&self.recipe.text.firmware, of_this_machine.iter().all(local_files::is_busybox))
        {
            loose.extend(self.local_firmware(firmware)?);
        }
        let (packages, files) = packages.into_iter().unzip();
        let replaced = Some(derivation.replacement.component());
        Ok(Materials {
            archive,
            suites,
            packages,
            files,
            loose,
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
        derivation: &Derivation,
    ) -> Result<Vec<Package>, Error> {
        let Some(text) = self.recipe.apt() else {
            let message = "it is not a Debian package, but the image is made of such".to_owned();
            return Err(Error::Replacement { what: offered.package.clone(), message });
        };
        let keyring = text.keyring(self.keyring)?;
        let isa = self.recipe.isa();
        let archives = Archives { suites: sources, components: &text.components, keyring: &keyring, isa };
        let lock = self.cache.lock_of_packages()?;
        lock.lock().map_err(Error::io("lock", self.cache.root()))?;
        let mut assumed = derivation.assumed.clone();
        if let Some(release) = offered.package.strip_prefix("linux-image-") {
            // No image needs it, and archives drop it while they still have its kernel.
            assumed.push(format!("linux-base-{release}={}", offered.version));
        }
        let wanted = Wanted {
            install: vec![format!("{}={}", offered.package, offered.version)],
            target: Some(suite.to_owned()),
            assumed,
        };
        let index = Apt::new(self.cache, self.wrapper, &archives, wanted)?;
        index.update(self.reporter)?;
        let resolved = index.resolve(self.reporter)?;
        package_source::fetch(&index, self.cache, &resolved, self.reporter)?;
        index.tidy()?;
        Ok(resolved.into_iter().map(|one| one.package).collect())
    }

    /// Downloads an offered version from a source of RPM packages.
    fn fetch_rpm(
        &self,
        offered: &Offered,
        source: &Source,
        component: Component,
    ) -> Result<Vec<Package>, Error> {
        let Packages::Rpm(packages) = &self.recipe.text.packages else {
            let message = "it is an RPM package, but the image is made of others".to_owned();
            return Err(Error::Replacement { what: offered.package.clone(), message });
        };
        let lock = self.cache.lock_of_packages()?;
        lock.lock().map_err(Error::io("lock", self.cache.root()))?;
        let wanted = (component, offered.version.as_str());
        rpm::fetch_version(&self.host(), source, &packages.text, wanted, self.reporter)
    }

    /// The path of a kernel of this release among the files of packages.
    pub(crate) fn place_of_kernel(&self, release: &str) -> String {
        let patterns = self.recipe.kernel_images();
        let pattern = patterns.first().map_or("boot/vmlinuz-{release}", String::as_str);
        pattern.replace("{release}", release)
    }

    /// The packages of a local kernel, and its image if that is in no package.
    #[allow(clippy::type_complexity, reason = "one call site")]
    pub(crate) fn local(&self, kernel: &LocalKernel) -> Result<(Vec<(Package, PathBuf)>, Vec<Loose>), Error> {
        let mut packages = Vec::new();
        let mut loose = Vec::new();
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
            if is_package(path) {
                packages.push((package, path.clone()));
            } else {
                let place = self.place_of_kernel(&package.version);
                loose.push(Loose { package, file: path.clone(), path: place, executable: false });
            }
        }
        Ok((packages, loose))
    }
}

/// Makes sure that packages are in the cache as they were.
fn intact(recipe: &str, packages: &[Package], folder: &Path) -> Result<(), Error> {
    let gone = |path: &PathBuf, package: &Package| {
        Digest::of_file(path).map_or(true, |digest| digest != package.sha256)
    };
    let files = packages.iter().map(|package| (file_in(folder, package), package));
    let files: Vec<String> = files
        .filter(|(path, package)| gone(path, package))
        .map(|(path, _)| path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .take(3)
        .collect();
    if files.is_empty() { Ok(()) } else { Err(Error::PackagesGone { recipe: recipe.to_owned(), files }) }
}

/// Drops packages whose names are those of kernels: they are large.
fn without_kernel(packages: Vec<Package>) -> Vec<Package> {
    packages.into_iter().filter(|one| !is_of_kernel(&one.name)).collect()
}

/// Packages of the C library: Debian's and RHEL's.
const LIBC: [&str; 2] = ["libc6", "glibc"];

/// The packages of an image with another QEMU and its dependencies. Programs run with newer libraries than those they were built
/// with, but not with older ones. So the higher version of each package wins; and the set with the newer C library wins if two
/// packages of different names hold the same path. The packages in `kept` are not part of QEMU, whatever they are called.
fn with_qemu(
    format: &dyn PackageFormat,
    base: Vec<Package>,
    new: Vec<Package>,
    kept: &[String],
) -> Vec<Package> {
    let is_qemu = |one: &Package| {
        one.name.starts_with("qemu-") && one.name != "qemu-guest-agent" && !kept.contains(&one.name)
    };
    let (qemu, new): (Vec<_>, Vec<_>) = new.into_iter().partition(is_qemu);
    let base: Vec<_> = base.into_iter().filter(|one| !is_qemu(one)).collect();
    let libc = |packages: &[Package]| {
        packages
            .iter()
            .find(|one| LIBC.contains(&one.name.as_str()))
            .map_or(String::new(), |one| one.version.clone())
    };
    let new_is_newer = format.compare_versions(&libc(&new), &libc(&base)) != Ordering::Less;
    let (older, newer) = if new_is_newer { (base, new) } else { (new, base) };
    let mut merged: Vec<Package> = Vec::new();
    for one in older.into_iter().chain(newer).chain(qemu) {
        match merged.iter().position(|other| other.name == one.name) {
            Some(at) if format.compare_versions(&merged[at].version, &one.version) == Ordering::Greater => {}
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
    use crate::deb::Deb;

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
            text(&with_qemu(&Deb, base.clone(), older, &[])),
            "libusb=1 busybox=1 libc6=2.41 libglib=2.84 qemu-guest-agent=10 qemu-system-x86=5 qemu-system-data=5"
        );
        let newer = packages("libc6=2.42 libglib=2.90 qemu-guest-agent=9 qemu-system-x86=11");
        assert_eq!(
            text(&with_qemu(&Deb, base, newer, &[])),
            "busybox=1 qemu-guest-agent=10 libc6=2.42 libglib=2.90 qemu-system-x86=11"
        );
    }

    #[test]
    fn firmware_of_another_system_stays_beside_another_qemu() {
        let base = packages("glibc=2.34 qemu-kvm-core=8.2 qemu-system-data=7.2");
        let new = packages("glibc=2.34 qemu-kvm-core=9.0");
        let merged = with_qemu(&Deb, base, new, &["qemu-system-data".to_owned()]);
        assert_eq!(text(&merged), "qemu-system-data=7.2 glibc=2.34 qemu-kvm-core=9.0");
    }
}
