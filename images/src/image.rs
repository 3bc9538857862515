//! A built product: its files, and `image.toml`, which records its inputs and the SHA-256 of its files.

use crate::disk::DiskRecord;
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
pub(crate) const PACKED_TREE: &str = "tree.cpio";

/// A package of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its full version, with epoch and revision.
    pub version: String,
    /// Its architecture, `all` if it has none.
    pub architecture: String,
    /// SHA-256 of the `.deb`, from the archive's signed index.
    pub sha256: Digest,
}

/// The kernel of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The output of `uname -r`.
    pub release: String,
    /// Name of the package it came from.
    pub package: String,
    /// Full version of that package.
    pub version: String,
}

/// The QEMU in an image, or another emulator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qemu {
    /// Upstream's version: `7.2`. The distribution's changes are only in `version`.
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
    /// The digest of the first `size` bytes.
    pub(crate) sha256: Digest,
    /// Length of the file, if a hole follows these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) padded: Option<u64>,
}

/// A disk that holds a kernel and, after it, the initramfs. All such disks have one size, so that a guest that is restored from a
/// snapshot can get another disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its path on this machine.
    pub path: PathBuf,
    /// The byte range of the kernel.
    pub kernel: Range<u64>,
    /// The byte range of the initramfs.
    pub initramfs: Range<u64>,
}

/// Length of every disk in bytes, mostly a hole.
pub(crate) const DISK_BYTES: u64 = 512 << 20;
/// Alignment in bytes of the initramfs on a disk, so that it can be read in large pieces.
pub(crate) const DISK_ALIGNMENT: u64 = 64 << 10;

/// The contents of `image.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) format: u32,
    pub(crate) name: String,
    pub(crate) product: Product,
    pub(crate) architecture: Isa,
    pub(crate) recipe_sha256: Digest,
    /// When the packages were resolved, in seconds since 1970.
    pub(crate) resolved: u64,
    /// The address of the archive.
    pub(crate) archive: String,
    pub(crate) suites: Vec<String>,
    pub(crate) os: Option<Os>,
    pub(crate) kernel: Option<Kernel>,
    pub(crate) qemu: Option<Qemu>,
    /// Kernel modules of the recipe that are missing from a replaced kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) left_out: Vec<String>,
    pub(crate) files: Vec<FileRecord>,
    pub(crate) packages: Vec<Package>,
    /// What a prepared disk is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk: Option<DiskRecord>,
}

/// A product of a recipe in the cache. The store verified its files.
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

    /// The operating system that it was made from, if it represents one.
    pub fn os(&self) -> Option<&Os> {
        self.metadata.os.as_ref()
    }

    /// Instruction set of its programs.
    pub fn isa(&self) -> Isa {
        self.metadata.architecture
    }

    /// SHA-256 of its inputs: recipe, product and packages. The same digest means the same files.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// SHA-256 of its record, which has that of every file; none if the record can't be read.
    pub fn files_digest(&self) -> Option<Digest> {
        Some(Digest::of_bytes(&fs::read(self.provenance()).ok()?))
    }

    /// Its folder in the cache.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of its record: TOML with versions, packages and the SHA-256 of every file.
    pub fn provenance(&self) -> PathBuf {
        self.folder.join(METADATA)
    }

    /// The kernel to boot; none for an emulator.
    pub fn kernel(&self) -> Option<PathBuf> {
        self.file(KERNEL)
    }

    /// The initramfs of the kernel; none for an emulator.
    pub fn initramfs(&self) -> Option<PathBuf> {
        self.file(INITRAMFS)
    }

    /// The archive with an emulator's program and libraries, for a level that runs it; none if its recipe makes none.
    pub fn packed_tree(&self) -> Option<PathBuf> {
        self.file(PACKED_TREE)
    }

    /// The disk with both, for a guest of a level; none for an emulator.
    pub fn disk(&self) -> Option<Disk> {
        let size = |name: &str| Some(self.metadata.files.iter().find(|file| file.path == name)?.size);
        let (kernel, initramfs) = (size(KERNEL)?, size(INITRAMFS)?);
        let start = kernel.next_multiple_of(DISK_ALIGNMENT);
        let path = self.file(DISK)?;
        Some(Disk { path, kernel: 0..kernel, initramfs: start..start + initramfs })
    }

    /// The kernel's release and package.
    pub fn kernel_version(&self) -> Option<&Kernel> {
        self.metadata.kernel.as_ref()
    }

    /// Kernel modules of its recipe that did not come with a replaced kernel. They may be built in.
    pub fn left_out(&self) -> &[String] {
        &self.metadata.left_out
    }

    /// The version of the QEMU in it, or of another emulator.
    pub fn qemu_version(&self) -> Option<&Qemu> {
        self.metadata.qemu.as_ref()
    }

    /// All packages of its recipe, by name.
    pub fn packages(&self) -> &[Package] {
        &self.metadata.packages
    }

    /// The names and versions of all these packages: `ovmf 2025.02-8`.
    pub fn package_versions(&self) -> String {
        let packages = self.packages().iter().map(|package| format!("{} {}", package.name, package.version));
        packages.collect::<Vec<_>>().join(", ")
    }

    /// The size of its files in bytes.
    pub fn size(&self) -> u64 {
        self.metadata.files.iter().map(|file| file.size).sum()
    }

    /// When its packages were resolved.
    pub fn resolved(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.metadata.resolved)
    }

    /// The address of the archive of its packages.
    pub fn archive(&self) -> &str {
        &self.metadata.archive
    }

    /// What is recorded of a prepared disk.
    pub(crate) fn disk_record(&self) -> Option<&DiskRecord> {
        self.metadata.disk.as_ref()
    }

    /// The path of one of its files.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        self.metadata.files.iter().any(|file| file.path == name).then(|| self.folder.join(name))
    }

    /// Reads the record of an image, and checks the record's SHA-256 if the caller knows it.
    ///
    /// # Errors
    /// A message that says what is wrong.
    pub(crate) fn open(folder: &Path, digest: &Digest, record: Option<&Digest>) -> Result<Self, String> {
        let path = folder.join(METADATA);
        let text = fs::read(&path).map_err(|e| format!("{METADATA}: {e}"))?;
        if record.is_some_and(|expected| *expected != Digest::of_bytes(&text)) {
            return Err(format!("{METADATA} does not match its recorded SHA-256"));
        }
        let metadata = toml::from_slice(&text).map_err(|e| format!("{METADATA}: {e}"))?;
        Ok(Self { folder: folder.to_owned(), digest: digest.clone(), metadata })
    }

    /// Compares every file with its record.
    ///
    /// # Errors
    /// A message that names the first file that differs.
    pub(crate) fn verify(&self) -> Result<(), String> {
        for record in &self.metadata.files {
            let path = self.folder.join(&record.path);
            let size = fs::metadata(&path).map_err(|e| format!("{}: {e}", record.path))?.len();
            let recorded = record.padded.unwrap_or(record.size);
            if size != recorded {
                return Err(format!("{} has {size} bytes instead of {recorded}", record.path));
            }
            if Digest::of_start(&path, record.size).map_err(|e| e.to_string())? != record.sha256 {
                return Err(format!("{} does not match its recorded SHA-256", record.path));
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
