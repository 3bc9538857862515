//! Builds all products of a recipe: resolve, download, unpack, assemble, write, record, and only then publish.

use crate::apt_packages::AptPackages;
use crate::cache::{Cache, Entry, Reference, remove};
use crate::digest::Hasher;
use crate::image::{
    self, DISK, DISK_BYTES, INITRAMFS, Image, KERNEL, Kernel, METADATA, Metadata, PACKED_TREE, Qemu, TREE,
};
use crate::local_files;
use crate::package_source::{self, Host, PackageSource, Place};
use crate::progress::{Reporter, Step};
use crate::recipe::FORMAT;
use crate::recipe_text::FirmwareText;
use crate::replacement::Component;
use crate::tree::{File, Node, Tree};
use crate::{Digest, Error, Package, Product, Recipe};
use crate::{assemble, pack};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// One build of one recipe. Its caller holds the recipe's lock.
pub(crate) struct Build<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) cache: &'a Cache,
    pub(crate) archive: Option<&'a str>,
    pub(crate) keyring: Option<&'a Path>,
    pub(crate) wrapper: &'a [OsString],
    pub(crate) reporter: Reporter<'a>,
}

/// The inputs of a recipe's products.
#[derive(Debug)]
pub(crate) struct Materials {
    pub(crate) archive: String,
    pub(crate) suites: Vec<String>,
    pub(crate) packages: Vec<Package>,
    /// The packages' files, in the same order.
    pub(crate) files: Vec<PathBuf>,
    /// Files that are in no package.
    pub(crate) loose: Vec<Loose>,
    /// The component that differs from the recipe.
    pub(crate) replaced: Option<Component>,
    /// The kernels of this many packages, from the first, are ignored.
    pub(crate) without_kernel: usize,
    /// When the packages were resolved, in seconds since 1970.
    pub(crate) when: u64,
}

/// A file that is in no package.
#[derive(Debug)]
pub(crate) struct Loose {
    /// The file, described as if it were a package.
    pub(crate) package: Package,
    pub(crate) file: PathBuf,
    /// Its path among the files of packages.
    pub(crate) path: String,
    pub(crate) executable: bool,
}

impl Materials {
    /// No packages.
    pub(crate) fn none() -> Self {
        Self {
            archive: "-".to_owned(),
            suites: Vec::new(),
            packages: Vec::new(),
            files: Vec::new(),
            loose: Vec::new(),
            replaced: None,
            without_kernel: 0,
            when: now(),
        }
    }

    /// All packages, and last the files that are in no package.
    fn all(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().chain(self.loose.iter().map(|loose| &loose.package))
    }
}

impl Build<'_> {
    /// Builds every product of the recipe into the cache, from the archive's current packages.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let started = Instant::now();
        let building = self.cache.fresh_building(self.recipe)?;
        self.reporter.step(Step::Resolving);
        let materials = match &self.recipe.derivation {
            Some(derivation) => self.gather(derivation)?,
            None => self.download()?,
        };
        let mut reference = Reference::default();
        let mut wanted = Vec::new();
        for product in self.recipe.products() {
            let digest = self.image_digest(product, &materials);
            match self.intact(&digest) {
                Some(record) => drop(reference.products.insert(product, Entry { image: digest, record })),
                None => wanted.push((product, digest)),
            }
        }
        if !wanted.is_empty() {
            let packages = self.unpack(&materials)?;
            for (product, digest) in wanted {
                self.reporter.step(Step::Packing { product });
                let folder = building.path().join(product.to_string());
                let record = self.write(product, &packages, &materials, &folder)?;
                self.publish(&folder, &digest)?;
                reference.products.insert(product, Entry { image: digest, record });
            }
        }
        self.cache.refer(self.recipe, &reference)?;
        self.reporter.step(Step::Built { seconds: started.elapsed().as_secs_f64() });
        Ok(())
    }

    fn unpack(&self, materials: &Materials) -> Result<Tree, Error> {
        let names = materials.packages.iter().map(|package| package.name.clone());
        let files: Vec<(String, PathBuf)> = names.zip(materials.files.iter().cloned()).collect();
        let mut packages = package_source::unpack(&files, self.reporter)?;
        packages.remove_kernels(materials.without_kernel);
        for (number, Loose { file, path, executable, .. }) in materials.loose.iter().enumerate() {
            let data = fs::read(file).map_err(Error::io("read", file))?;
            let package = Some(materials.packages.len() + number);
            packages.insert(path, Node::File(File { data: data.into(), executable: *executable, package }));
        }
        if let Some(firmware) = &self.recipe.text.firmware {
            self.place(firmware, materials, &mut packages)?;
        }
        Ok(packages)
    }

    /// Puts the firmware of another system where QEMU looks for it, if it was downloaded.
    fn place(&self, text: &FirmwareText, materials: &Materials, packages: &mut Tree) -> Result<(), Error> {
        if !materials.packages.iter().any(|package| text.packages.install.contains(&package.name)) {
            return Ok(());
        }
        for path in &text.files {
            let message = || format!("no package holds {path}");
            let failed = || Error::Assemble { recipe: self.recipe.name().to_owned(), message: message() };
            let (_, file) = packages.file(path).ok_or_else(failed)?;
            let (file, name) = (Node::File(file.clone()), path.rsplit('/').next().unwrap_or(path));
            packages.insert(&format!("{}/{name}", text.folder), file);
        }
        Ok(())
    }

    /// What this build fetches packages with.
    pub(crate) fn host(&self) -> Host<'_> {
        let Self { recipe, cache, archive, keyring, wrapper, .. } = *self;
        Host { cache, isa: recipe.isa(), archive, keyring, wrapper }
    }

    pub(crate) fn download(&self) -> Result<Materials, Error> {
        // apt and dnf fail if another one works in the same folder, so wait here.
        let lock = self.cache.lock_of_packages()?;
        lock.lock().map_err(Error::io("lock", self.cache.root()))?;
        let mut materials = self.download_from(self.recipe.packages())?;
        if let Some(packages) = &self.recipe.text.busybox {
            let is_added = self.add(packages, &mut materials)?;
            // This machine has no apt.
            if !is_added {
                materials.loose.push(local_files::busybox(self.recipe.isa())?);
            }
        }
        if let Some(firmware) = &self.recipe.text.firmware {
            let is_added = self.add(&firmware.packages, &mut materials)?;
            if !is_added {
                materials.loose.extend(self.local_firmware(firmware)?);
            }
        }
        Ok(materials)
    }

    /// The firmware that came with this machine's QEMU. Without any, guests have the system's own.
    pub(crate) fn local_firmware(&self, firmware: &FirmwareText) -> Result<Vec<Loose>, Error> {
        let Some(qemu) = self.recipe.text.hypervisor.as_ref().and_then(|part| part.qemu_name.as_deref())
        else {
            return Ok(Vec::new());
        };
        local_files::firmware(firmware, qemu, self.recipe.isa(), self.wrapper)
    }

    /// Adds Debian packages to those of another system, unless this machine has no apt.
    fn add(&self, packages: &AptPackages, materials: &mut Materials) -> Result<bool, Error> {
        match self.download_from(packages) {
            Ok(added) => {
                materials.packages.extend(added.packages);
                materials.files.extend(added.files);
                Ok(true)
            }
            Err(Error::NoApt { .. } | Error::NoKeyring(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Downloads the packages from the first place that has them.
    fn download_from(&self, source: &dyn PackageSource) -> Result<Materials, Error> {
        let host = self.host();
        let mut tried = String::new();
        let mut undelivered = None;
        for Place { archive, suites, index } in source.places(&host)? {
            match index.update(self.reporter) {
                Ok(()) => {}
                Err(Error::PackageTool { output, status, .. }) => {
                    tried.push_str(&format!("{archive} ({status}): {output}\n"));
                    index.tidy()?;
                    continue;
                }
                Err(other) => return Err(other),
            }
            let when = now();
            let fetched = index.resolve(self.reporter).and_then(|resolved| {
                let files = package_source::fetch(&*index, self.cache, &resolved, self.reporter)?;
                Ok((resolved, files))
            });
            index.tidy()?;
            let (resolved, files) = match fetched {
                // Another place may be more up to date.
                Err(Error::Undelivered(found)) => {
                    undelivered.get_or_insert(found);
                    continue;
                }
                fetched => fetched?,
            };
            let packages = resolved.into_iter().map(|one| one.package).collect();
            return Ok(Materials {
                archive,
                suites,
                packages,
                files,
                loose: Vec::new(),
                replaced: None,
                without_kernel: 0,
                when,
            });
        }
        if let Some(undelivered) = undelivered {
            return Err(Error::Undelivered(undelivered));
        }
        Err(source.unavailable(tried.trim_end().to_owned()))
    }

    /// The digest of everything that determines an image's bytes.
    pub(crate) fn image_digest(&self, product: Product, materials: &Materials) -> Digest {
        let mut hasher = Hasher::new().field(self.recipe.digest().as_str()).field(product.to_string());
        for Package { name, version, architecture, sha256 } in materials.all() {
            hasher = hasher.field(name).field(version).field(architecture).field(sha256.as_str());
        }
        hasher.finish()
    }

    /// The SHA-256 of an image's record, if the cache has the image and it is undamaged.
    pub(crate) fn intact(&self, digest: &Digest) -> Option<Digest> {
        let image = Image::open(&self.cache.image(digest), digest, None).ok()?;
        image.verify().ok()?;
        Digest::of_file(&image.provenance()).ok()
    }

    /// Writes a product into a new folder. Returns the SHA-256 of its record.
    fn write(
        &self,
        product: Product,
        packages: &Tree,
        materials: &Materials,
        folder: &Path,
    ) -> Result<Digest, Error> {
        fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        let text = &self.recipe.text;
        let failed = |message| Error::Assemble { recipe: self.recipe.name().to_owned(), message };
        let owner = |path: &str| {
            let (_, file) = packages.file(path)?;
            materials.all().nth(file.package?)
        };
        let (mut kernel, mut qemu, mut left_out) = (None, None, Vec::new());
        let layouts = self.recipe.layouts(product);
        if let (false, Some(init)) = (layouts.is_empty(), self.recipe.text.init.get(&product)) {
            let kernels = self.recipe.kernel_images();
            let (release, path) =
                first(kernels.iter().map(|image| assemble::kernel(packages, image))).map_err(failed)?;
            let (_, file) = packages.file(&path).ok_or_else(|| failed(format!("no package holds {path}")))?;
            let to = folder.join(KERNEL);
            fs::write(&to, &file.data).map_err(Error::io("write", &to))?;
            let lenient = materials.replaced == Some(Component::Kernel);
            let isa = self.recipe.isa();
            let part = match (self.recipe.guest_on_image(), layouts.first()) {
                (Some(guest), Some(part)) => {
                    let (name, compression) = (self.recipe.name(), part.compression);
                    guest.write_initramfs(name, packages, compression, &folder.join(INITRAMFS))?;
                    part
                }
                _ => {
                    let made = layouts.iter().map(|part| {
                        let made = assemble::initramfs(packages, part, init, &release, lenient, isa)?;
                        Ok((part, made))
                    });
                    let (part, (mut tree, missing)) = first(made).map_err(failed)?;
                    left_out = missing;
                    if let Some(copy) = &part.kernel_copy {
                        tree.insert(copy, Node::File(file.clone()));
                    }
                    pack::initramfs(&tree, part.compression, &folder.join(INITRAMFS))?;
                    part
                }
            };
            pack::disk(&to, &folder.join(INITRAMFS), &folder.join(DISK))?;
            kernel = owner(&path).map(|package| Kernel {
                release,
                package: package.name.clone(),
                version: package.version.clone(),
            });
            qemu = part.qemu.as_deref().and_then(owner).map(qemu_of);
        }
        if let (Product::Emulator, Some(part)) = (product, &text.emulator) {
            let tree = assemble::emulator(packages, part, self.recipe.isa()).map_err(failed)?;
            pack::folder(&tree, &folder.join(TREE))?;
            if part.packed {
                pack::packed_tree(&tree, &folder.join(PACKED_TREE))?;
            }
            qemu = owner(&part.program).map(qemu_of);
        }
        if let (Product::Firmware, Some(part)) = (product, &text.uefi) {
            part.write(packages, self.recipe, folder)?;
        }
        let mut files = image::record_files(folder)?;
        for disk in files.iter_mut().filter(|file| file.path == DISK) {
            let path = folder.join(DISK);
            let grow = fs::File::options().write(true).open(&path).and_then(|file| file.set_len(DISK_BYTES));
            grow.map_err(Error::io("write", &path))?;
            disk.padded = Some(DISK_BYTES);
        }
        let metadata = Metadata {
            format: FORMAT,
            name: self.recipe.name().to_owned(),
            product,
            architecture: self.recipe.isa(),
            recipe_sha256: self.recipe.digest().clone(),
            resolved: materials.when,
            archive: materials.archive.clone(),
            suites: materials.suites.clone(),
            os: self.recipe.os().cloned(),
            kernel,
            qemu,
            left_out,
            files,
            packages: materials.all().cloned().collect(),
            disk: None,
        };
        let path = folder.join(METADATA);
        let record =
            toml::to_string(&metadata).map_err(io::Error::other).map_err(Error::io("write", &path))?;
        fs::write(&path, &record).map_err(Error::io("write", &path))?;
        Ok(Digest::of_bytes(record.as_bytes()))
    }

    /// Moves a complete image to its place, and replaces a damaged one there.
    fn publish(&self, folder: &Path, digest: &Digest) -> Result<(), Error> {
        let place = self.cache.image(digest);
        if place.exists() {
            remove(&place)?;
        }
        fs::rename(folder, &place).map_err(Error::io("move an image to", &place))
    }
}

/// The first success, or the first error if all fail.
fn first<T>(made: impl Iterator<Item = Result<T, String>>) -> Result<T, String> {
    let mut why = None;
    for made in made {
        match made {
            Ok(made) => return Ok(made),
            Err(reason) => drop(why.get_or_insert(reason)),
        }
    }
    Err(why.unwrap_or_else(|| "the recipe names no kernel".to_owned()))
}

/// The time in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The upstream version of `1:7.2+dfsg-7+deb12u18` is 7.2 (deb-version(7): epoch, upstream version with `+` repacking marks,
/// revision).
fn qemu_of(package: &Package) -> Qemu {
    let version = package.version.split_once(':').map_or(package.version.as_str(), |(_, version)| version);
    let upstream = version.rsplit_once('-').map_or(version, |(upstream, _)| upstream);
    let upstream = upstream.split(['+', '~']).next().unwrap_or(upstream);
    Qemu { upstream: upstream.to_owned(), package: package.name.clone(), version: package.version.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_versions_are_free_of_debian_marks() {
        for (version, upstream) in [
            ("1:7.2+dfsg-7+deb12u18+b3", "7.2"),
            ("1:10.0.13+ds-0+deb13u1", "10.0.13"),
            ("1:11.1.0~rc2+ds-1", "11.1.0"),
            ("9.0", "9.0"),
        ] {
            let sha256 = Digest::of_bytes(b"");
            let package = Package {
                name: "qemu".into(),
                version: version.into(),
                architecture: "amd64".into(),
                sha256,
            };
            assert_eq!(qemu_of(&package).upstream, upstream);
        }
    }
}
