//! Makes all products of a recipe in one go: resolve, download, unpack, assemble, write, record, and only then publish.

use crate::apt::{Apt, Resolved, Source};
use crate::cache::{Cache, Entry, Reference, remove};
use crate::digest::Hasher;
use crate::image::{
    self, DISK, DISK_BYTES, INITRAMFS, Image, KERNEL, Kernel, METADATA, Metadata, Qemu, TREE,
};
use crate::progress::{Reporter, Step};
use crate::recipe::{FORMAT, InitramfsText};
use crate::tree::Tree;
use crate::{Digest, Error, Package, Product, Recipe};
use crate::{archive, assemble, deb, pack};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// Where Debian's and its derivatives' keyring packages put their files.
const KEYRINGS: &str = "/usr/share/keyrings";

/// One build of one recipe. Its caller holds the recipe's lock.
pub(crate) struct Build<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) cache: &'a Cache,
    pub(crate) archive: Option<&'a str>,
    pub(crate) keyring: Option<&'a Path>,
    pub(crate) wrapper: &'a [OsString],
    pub(crate) reporter: Reporter<'a>,
}

/// What apt brought.
struct Downloaded {
    archive: String,
    resolved: Vec<Resolved>,
    when: u64,
}

impl Build<'_> {
    /// Leaves every product of the recipe in the cache, made of the archive's current packages.
    pub(crate) fn run(&self) -> Result<(), Error> {
        let started = Instant::now();
        let building = self.cache.fresh_building(self.recipe)?;
        self.reporter.step(Step::Resolving);
        let downloaded = self.download()?;
        let mut reference = Reference::default();
        let mut wanted = Vec::new();
        for product in self.recipe.products() {
            let digest = self.image_digest(product, &downloaded.resolved);
            match self.intact(&digest) {
                Some(record) => drop(reference.products.insert(product, Entry { image: digest, record })),
                None => wanted.push((product, digest)),
            }
        }
        if !wanted.is_empty() {
            let folder = self.cache.packages();
            let files: Vec<(String, PathBuf)> = downloaded
                .resolved
                .iter()
                .map(|one| (one.package.name.clone(), folder.join(&one.file)))
                .collect();
            let packages = deb::unpack(&files, self.reporter)?;
            for (product, digest) in wanted {
                self.reporter.step(Step::Packing { product });
                let folder = building.path().join(product.to_string());
                let record = self.write(product, &packages, &downloaded, &folder)?;
                self.publish(&folder, &digest)?;
                reference.products.insert(product, Entry { image: digest, record });
            }
        }
        self.cache.refer(self.recipe, &reference)?;
        self.reporter.step(Step::Built { seconds: started.elapsed().as_secs_f64() });
        Ok(())
    }

    fn download(&self) -> Result<Downloaded, Error> {
        let text = &self.recipe.text.packages;
        // apt would give up at once if another apt worked in the same folder; so wait before it is started.
        let lock = self.cache.lock_of_packages()?;
        lock.lock().map_err(Error::io("lock", self.cache.root()))?;
        let keyring = match self.keyring {
            Some(keyring) => keyring.to_owned(),
            None => Path::new(KEYRINGS).join(&text.keyring),
        };
        let keyring = keyring.canonicalize().map_err(|_| Error::NoKeyring(keyring))?;
        let archives = match self.archive {
            Some(archive) => vec![archive.trim_end_matches('/').to_owned()],
            None => archive::candidates(&text.origin, &text.suites, self.wrapper)?,
        };
        let downloads = self.cache.packages();
        let mut tried = String::new();
        for archive in archives {
            let source = Source {
                archive: &archive,
                suites: &text.suites,
                components: &text.components,
                keyring: &keyring,
                architecture: self.recipe.architecture(),
            };
            let key = [&text.suites[..], &text.components[..]].concat();
            let key = key.iter().fold(Hasher::new().field(&archive), Hasher::field);
            let state = self.cache.apt(&key.field(source.architecture.debian()).finish());
            let apt = Apt::new(&state, &downloads, self.wrapper, &source, &text.assume_installed)?;
            match apt.update(self.reporter) {
                Ok(()) => {}
                Err(Error::Apt { output, status, .. }) => {
                    tried.push_str(&format!("{archive} ({status}): {output}\n"));
                    continue;
                }
                Err(other) => return Err(other),
            }
            let when =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let resolved = apt.resolve(&text.install, self.reporter)?;
            apt.download(&text.install, &resolved, self.reporter)?;
            apt.tidy()?;
            return Ok(Downloaded { archive, resolved, when });
        }
        Err(Error::ArchiveFailed { suites: text.suites.join(", "), tried: tried.trim_end().to_owned() })
    }

    /// Everything that decides about an image's bytes.
    fn image_digest(&self, product: Product, resolved: &[Resolved]) -> Digest {
        let mut hasher = Hasher::new().field(self.recipe.digest().as_str()).field(product.to_string());
        for Resolved { package: Package { name, version, architecture, sha256 }, .. } in resolved {
            hasher = hasher.field(name).field(version).field(architecture).field(sha256.as_str());
        }
        hasher.finish()
    }

    /// The SHA-256 of the record of an image that is in the cache and undamaged.
    fn intact(&self, digest: &Digest) -> Option<Digest> {
        let image = Image::open(&self.cache.image(digest), digest, None).ok()?;
        image.verify().ok()?;
        Digest::of_file(&image.provenance()).ok()
    }

    /// Writes a product into a new folder. Returns the SHA-256 of its record.
    fn write(
        &self,
        product: Product,
        packages: &Tree,
        downloaded: &Downloaded,
        folder: &Path,
    ) -> Result<Digest, Error> {
        fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        let text = &self.recipe.text;
        let lacks = |message| Error::Assemble { recipe: self.recipe.name().to_owned(), message };
        let owner = |path: &str| {
            let (_, file) = packages.file(path)?;
            Some(&downloaded.resolved.get(file.package?)?.package)
        };
        let (mut kernel, mut qemu) = (None, None);
        let initramfs: BTreeMap<Product, &InitramfsText> =
            [(Product::Hypervisor, &text.hypervisor), (Product::Minimal, &text.minimal)]
                .into_iter()
                .filter_map(|(product, part)| Some((product, part.as_ref()?)))
                .collect();
        if let (Some(part), Some(init), Some(kernel_text)) =
            (initramfs.get(&product), self.recipe.init.get(&product), &text.kernel)
        {
            let (release, path) = assemble::kernel(packages, &kernel_text.image).map_err(lacks)?;
            let (_, file) = packages.file(&path).ok_or_else(|| lacks(format!("no package holds {path}")))?;
            let to = folder.join(KERNEL);
            fs::write(&to, &file.data).map_err(Error::io("write", &to))?;
            let tree = assemble::initramfs(packages, part, init, &release, self.recipe.architecture())
                .map_err(lacks)?;
            pack::initramfs(&tree, part.compression, &folder.join(INITRAMFS))?;
            pack::disk(&to, &folder.join(INITRAMFS), &folder.join(DISK))?;
            kernel = owner(&path).map(|package| Kernel {
                release,
                package: package.name.clone(),
                version: package.version.clone(),
            });
            qemu = part.qemu.as_deref().and_then(owner).map(qemu_of);
        }
        if let (Product::Emulator, Some(part)) = (product, &text.emulator) {
            let tree = assemble::emulator(packages, part, self.recipe.architecture()).map_err(lacks)?;
            pack::folder(&tree, &folder.join(TREE))?;
            qemu = owner(&part.program).map(qemu_of);
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
            architecture: self.recipe.architecture(),
            recipe_sha256: self.recipe.digest().clone(),
            resolved: downloaded.when,
            archive: downloaded.archive.clone(),
            suites: text.packages.suites.clone(),
            os: self.recipe.os().cloned(),
            kernel,
            qemu,
            files,
            packages: downloaded.resolved.iter().map(|one| one.package.clone()).collect(),
        };
        let path = folder.join(METADATA);
        let record =
            toml::to_string(&metadata).map_err(io::Error::other).map_err(Error::io("write", &path))?;
        fs::write(&path, &record).map_err(Error::io("write", &path))?;
        Ok(Digest::of_bytes(record.as_bytes()))
    }

    /// Moves a complete image to its place; what is there already is damaged.
    fn publish(&self, folder: &Path, digest: &Digest) -> Result<(), Error> {
        let place = self.cache.image(digest);
        if place.exists() {
            remove(&place)?;
        }
        fs::rename(folder, &place).map_err(Error::io("move an image to", &place))
    }
}

/// `1:7.2+dfsg-7+deb12u18` is upstream's 7.2 (deb-version(7): epoch, upstream version with `+` repacking marks, revision).
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
