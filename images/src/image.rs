//! A built product: its files and `image.toml`, which records what it was made of and what its files must hash to.

use crate::{Digest, Error, Os, Product};
use nestmatrix_model::Isa;
use serde::{Deserialize, Serialize};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub(crate) const METADATA: &str = "image.toml";
pub(crate) const KERNEL: &str = "vmlinuz";
pub(crate) const INITRAMFS: &str = "initramfs.cpio";
pub(crate) const TREE: &str = "tree";
pub(crate) const DISK: &str = "disk";

/// A package that went into an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its full version, with epoch and revision.
    pub version: String,
    /// Its architecture, `all` if it has none.
    pub architecture: String,
    /// SHA-256 of the `.deb`, as the archive's signed index has it.
    pub sha256: Digest,
}

/// The kernel of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// What `uname -r` says.
    pub release: String,
    /// Name of the package it came from.
    pub package: String,
    /// Full version of that package.
    pub version: String,
}

/// The QEMU in an image, or another emulator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qemu {
    /// Its own version: `7.2`. What a distribution added since is only in `version`.
    pub upstream: String,
    /// Name of the package it came from.
    pub package: String,
    /// Full version of that package.
    pub version: String,
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    /// Relative to the image's folder.
    pub(crate) path: String,
    /// In bytes.
    pub(crate) size: u64,
    /// Of so many bytes.
    pub(crate) sha256: Digest,
    /// Length of the file, where what is behind these bytes is a hole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) padded: Option<u64>,
}

/// A disk that holds a kernel and its initramfs, one behind the other and nothing else. All such disks are of one size, so that one
/// can be put in the place of another under a guest whose state was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Where the kernel lies in it, in bytes.
    pub kernel: Range<u64>,
    /// Where the initramfs lies in it, in bytes.
    pub initramfs: Range<u64>,
}

/// Length of every disk, in bytes. It is mostly a hole.
pub(crate) const DISK_BYTES: u64 = 512 << 20;
/// What the initramfs on a disk is aligned to, in bytes, so that it can be read in large pieces.
pub(crate) const DISK_ALIGNMENT: u64 = 64 << 10;

/// What `image.toml` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) format: u32,
    pub(crate) name: String,
    pub(crate) product: Product,
    pub(crate) architecture: Isa,
    pub(crate) recipe_sha256: Digest,
    /// When the packages were resolved, in seconds since 1970.
    pub(crate) resolved: u64,
    /// Where they came from.
    pub(crate) archive: String,
    pub(crate) suites: Vec<String>,
    pub(crate) os: Option<Os>,
    pub(crate) kernel: Option<Kernel>,
    pub(crate) qemu: Option<Qemu>,
    /// Kernel modules that the recipe wants and the kernel has not, where it is not the recipe's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left_out: Vec<String>,
    pub(crate) files: Vec<FileRecord>,
    pub(crate) packages: Vec<Package>,
}

/// A product of a recipe in the cache, its files verified when it was handed out.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
    digest: Digest,
    metadata: Metadata,
}

impl Image {
    /// Name of the recipe.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Which of the recipe's products.
    pub fn product(&self) -> Product {
        self.metadata.product
    }

    /// The operating system it is made of, if it stands for one.
    pub fn os(&self) -> Option<&Os> {
        self.metadata.os.as_ref()
    }

    /// Instruction set of its programs.
    pub fn isa(&self) -> Isa {
        self.metadata.architecture
    }

    /// SHA-256 of everything it is made from: recipe, product and packages. The same digest means the same files.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its folder in the cache.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its record: TOML with versions, packages and the SHA-256 of every file.
    pub fn provenance(&self) -> PathBuf {
        self.folder.join(METADATA)
    }

    /// The kernel image to boot; none in an emulator.
    pub fn kernel(&self) -> Option<PathBuf> {
        self.has(KERNEL)
    }

    /// The initramfs to boot it with; none in an emulator.
    pub fn initramfs(&self) -> Option<PathBuf> {
        self.has(INITRAMFS)
    }

    /// The disk with both, for a guest of a level; none in an emulator.
    pub fn disk(&self) -> Option<Disk> {
        let size = |name: &str| Some(self.metadata.files.iter().find(|file| file.path == name)?.size);
        let (kernel, initramfs) = (size(KERNEL)?, size(INITRAMFS)?);
        let start = kernel.next_multiple_of(DISK_ALIGNMENT);
        let path = self.has(DISK)?;
        Some(Disk { path, kernel: 0..kernel, initramfs: start..start + initramfs })
    }

    /// The kernel's release and package.
    pub fn kernel_version(&self) -> Option<&Kernel> {
        self.metadata.kernel.as_ref()
    }

    /// Kernel modules that its recipe wants and that did not come with its kernel; they may be built in. Only where the
    /// kernel is not the recipe's own.
    pub fn left_out(&self) -> &[String] {
        &self.metadata.left_out
    }

    /// The version of the QEMU in it, or of another emulator.
    pub fn qemu_version(&self) -> Option<&Qemu> {
        self.metadata.qemu.as_ref()
    }

    /// Every package that was resolved for its recipe, by name.
    pub fn packages(&self) -> &[Package] {
        &self.metadata.packages
    }

    /// Bytes of its files.
    pub fn size(&self) -> u64 {
        self.metadata.files.iter().map(|file| file.size).sum()
    }

    /// When its packages' versions were looked up.
    pub fn resolved(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.metadata.resolved)
    }

    /// Address of the archive that its packages came from.
    pub fn archive(&self) -> &str {
        &self.metadata.archive
    }

    fn has(&self, name: &str) -> Option<PathBuf> {
        self.metadata.files.iter().any(|file| file.path == name).then(|| self.folder.join(name))
    }

    /// Reads the record of an image; its own SHA-256 is checked if the caller knows it.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(crate) fn open(folder: &Path, digest: &Digest, record: Option<&Digest>) -> Result<Self, String> {
        let path = folder.join(METADATA);
        let text = fs::read(&path).map_err(|e| format!("{METADATA}: {e}"))?;
        if record.is_some_and(|expected| *expected != Digest::of_bytes(&text)) {
            return Err(format!("{METADATA} has another SHA-256 than was recorded"));
        }
        let metadata = toml::from_slice(&text).map_err(|e| format!("{METADATA}: {e}"))?;
        Ok(Self { folder: folder.to_owned(), digest: digest.clone(), metadata })
    }

    /// Compares every file with its record.
    ///
    /// # Errors
    /// A sentence that names the first that differs.
    pub(crate) fn verify(&self) -> Result<(), String> {
        for record in &self.metadata.files {
            let path = self.folder.join(&record.path);
            let size = fs::metadata(&path).map_err(|e| format!("{}: {e}", record.path))?.len();
            let recorded = record.padded.unwrap_or(record.size);
            if size != recorded {
                return Err(format!("{} has {size} bytes, {recorded} were recorded", record.path));
            }
            if Digest::of_start(&path, record.size).map_err(|e| e.to_string())? != record.sha256 {
                return Err(format!("{} has another SHA-256 than was recorded", record.path));
            }
        }
        Ok(())
    }
}

/// Records every file below an image's folder, sorted by path.
pub(crate) fn record_files(folder: &Path) -> Result<Vec<FileRecord>, Error> {
    let mut records = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current).map_err(Error::io("read folder", &current))? {
            let path = entry.map_err(Error::io("read folder", &current))?.path();
            let metadata = fs::metadata(&path).map_err(Error::io("read", &path))?;
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
            records.push(FileRecord {
                path: relative,
                size: metadata.len(),
                sha256: Digest::of_file(&path)?,
                padded: None,
            });
        }
    }
    records.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(records)
}
