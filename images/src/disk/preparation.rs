//! The preparation of a disk: a draft in the cache, which the caller boots once, and which then becomes an image.

use super::image::{DiskRecord, FirmwareSource, OVERLAY, QemuInside};
use super::text::DiskRecipe;
use super::{DiskGuest, PreparationReport, seed};
use crate::build::Materials;
use crate::cache::{Entry, Reference, entries, remove};
use crate::config::is_part;
use crate::image::{self, METADATA, Metadata};
use crate::media::QemuImg;
use crate::progress::{Reporter, Silent};
use crate::recipe::FORMAT;
use crate::uefi::{CODE, UefiFiles, VARS};
use crate::windows::{self, WindowsRole};
use crate::{Digest, DiskFormat, DiskHardware, Error, Image, Medium, Os, Product, Recipe, Store};
use nestmatrix_model::CommandChannel;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const SEED: &str = "seed.img";
const PACKAGES: &str = "packages.img";

/// What [`Store::begin_preparation`] found.
#[derive(Debug)]
pub enum Begun {
    /// The image, which is in the cache, or needs no boot.
    Ready(Box<Image>),
    /// The disk has to be booted.
    Preparation(Box<Preparation>),
}

/// A disk that is being prepared. No other process prepares it meanwhile. Dropping it removes what it wrote.
#[derive(Debug)]
pub struct Preparation {
    store: Store,
    recipe: Recipe,
    medium: Arc<Medium>,
    hardware: DiskHardware,
    command_channel: CommandChannel,
    tool: QemuImg,
    digest: Digest,
    materials: Materials,
    firmware: Option<FirmwareSource>,
    has_packages: bool,
    // Removed before the lock is released.
    folder: TempDir,
    _lock: File,
}

/// What a preparation is made of.
pub(super) struct Draft {
    pub(super) store: Store,
    pub(super) recipe: Recipe,
    pub(super) tool: QemuImg,
    pub(super) digest: Digest,
    pub(super) materials: Materials,
    pub(super) uefi: Option<(UefiFiles, FirmwareSource)>,
    pub(super) folder: TempDir,
    pub(super) lock: File,
}

impl Preparation {
    /// Writes the draft's files.
    pub(super) fn write(draft: Draft) -> Result<Self, Error> {
        let Draft { store, recipe, tool, digest, materials, uefi, folder, lock } = draft;
        let disk = disk_of(&recipe)?;
        let medium = Arc::clone(disk.medium());
        let (hardware, command_channel) = (disk.hardware().clone(), disk.command_channel());
        let path = |name: &str| folder.path().join(name);
        match disk.install().filter(|_| medium.format() == DiskFormat::Iso) {
            Some(install) => tool.create_disk(&path(OVERLAY), install.disk_gib)?,
            None => tool.create_overlay(&path(OVERLAY), medium.file(), medium.format())?,
        }
        if let Some((UefiFiles { code, vars }, _)) = &uefi {
            for (from, to) in [(code, CODE), (vars, VARS)] {
                fs::copy(from, path(to)).map_err(Error::io("copy", from))?;
            }
        }
        match (disk.install(), disk.role()) {
            (Some(install), Some(role)) => {
                windows::write_seed(&path(SEED), install, role, &files_of(role, &medium)?)?;
            }
            _ => seed::write_seed(&path(SEED), &disk)?,
        }
        let has_packages = !materials.files.is_empty();
        if has_packages {
            seed::write_packages(&path(PACKAGES), &materials.files)?;
        }
        Ok(Self {
            store,
            recipe,
            medium,
            hardware,
            command_channel,
            tool,
            digest,
            materials,
            firmware: uefi.map(|(_, source)| source),
            has_packages,
            folder,
            _lock: lock,
        })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The medium.
    pub fn medium(&self) -> &Arc<Medium> {
        &self.medium
    }

    /// The least hardware that the system needs.
    pub fn hardware(&self) -> &DiskHardware {
        &self.hardware
    }

    /// How commands will run in the system.
    pub fn command_channel(&self) -> CommandChannel {
        self.command_channel
    }

    /// The folder of the draft, for files that the caller needs while the disk is booted. They are not kept.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What is on the disk, if that is not asked through a POSIX shell.
    pub fn guest(&self) -> Option<DiskGuest> {
        self.recipe.disk().and_then(|disk| disk.guest())
    }

    /// The CD images that the machine needs, the one that it boots first: the installation image, and the drivers.
    pub fn cds(&self) -> Vec<PathBuf> {
        let install = (self.medium.format() == DiskFormat::Iso).then(|| self.medium.file());
        install.into_iter().chain(self.medium.drivers()).map(Path::to_owned).collect()
    }

    /// Whether the machine boots from the first of the CDs as long as its disk is empty.
    pub fn boots_cd(&self) -> bool {
        self.medium.format() == DiskFormat::Iso
    }

    /// The disk to boot: a qcow2 image over the medium, or an empty one. All that the system writes goes there.
    pub fn overlay(&self) -> PathBuf {
        self.folder.path().join(OVERLAY)
    }

    /// The seed for cloud-init or Windows Setup, a disk image (raw, read-only).
    pub fn seed(&self) -> PathBuf {
        self.folder.path().join(SEED)
    }

    /// The volume with the packages to install, a disk image (raw, read-only); none if none are installed.
    pub fn packages(&self) -> Option<PathBuf> {
        self.has_packages.then(|| self.folder.path().join(PACKAGES))
    }

    /// The firmware, and its variables, which the system may change; none if the machine's own firmware boots the disk.
    pub fn uefi(&self) -> Option<UefiFiles> {
        let [code, vars] = [CODE, VARS].map(|name| self.folder.path().join(name));
        code.exists().then_some(UefiFiles { code, vars })
    }

    /// Makes the image. Every process that writes to the draft has ended.
    ///
    /// # Errors
    /// [`Error::Preparation`] if the report is not that of a success, [`Error::OtherSystem`] if the disk holds another system or
    /// version than its name says, [`Error::Medium`] if the overlay is damaged or the medium has changed, or [`Error::Io`].
    pub fn finish(self, report: PreparationReport) -> Result<Image, Error> {
        let failed = |reason: String| Error::Preparation { medium: self.medium.name(), reason };
        let os = report.system.clone().zip(report.version.clone());
        let os = os.map(|(id, version)| Os { id, version, variant: None });
        // The cause of other errors: packages of one version can't be installed on another.
        if let Some(Os { id, version, .. }) = os.as_ref().filter(|os| !is_system(self.medium.os(), os)) {
            let (system, version) = (id.clone(), version.clone());
            return Err(Error::OtherSystem { medium: self.medium.name(), system, version });
        }
        match report.status {
            Some(0) => {}
            None => return Err(failed("the system reported no end".to_owned())),
            Some(status) if report.errors.is_empty() => {
                return Err(failed(format!("the script ended with status {status} and no reason")));
            }
            Some(_) => return Err(failed(report.errors.join("; "))),
        }
        if os.is_none() {
            return Err(failed("the system did not report its name and version".to_owned()));
        }
        if report.kernel.is_none() {
            return Err(failed("the system did not report its kernel".to_owned()));
        }
        if disk_of(&self.recipe)?.installs_qemu() && report.qemu.is_none() {
            return Err(failed("its QEMU reported no version".to_owned()));
        }
        self.publish(report, os)
    }

    /// Makes the image of a disk that is not booted.
    pub(super) fn finish_unbooted(self) -> Result<Image, Error> {
        self.publish(PreparationReport::default(), None)
    }

    fn publish(self, report: PreparationReport, os_release: Option<Os>) -> Result<Image, Error> {
        self.medium.ensure_unchanged(&Silent)?;
        let reporter = Reporter { recipe: self.recipe.name(), to: &Silent };
        self.tool.check(&self.overlay(), DiskFormat::Qcow2, reporter)?;
        let kept = [OVERLAY, CODE, VARS].map(|name| self.folder.path().join(name));
        for path in entries(self.folder.path())?.iter().filter(|path| !kept.contains(path)) {
            remove(path)?;
        }
        let disk = disk_of(&self.recipe)?;
        let qemu = disk.qemu().map(str::to_owned).zip(report.qemu);
        let record = DiskRecord {
            command_channel: disk.command_channel(),
            kernel_release: report.kernel,
            changes: report.changes,
            hardware: disk.hardware().clone(),
            medium: self.medium.to_record(),
            firmware: self.firmware.clone(),
            os_release,
            qemu: qemu.map(|(path, version)| QemuInside { path, version }),
            role: disk.role().map(|role| role.name().to_owned()),
        };
        let metadata = Metadata {
            format: FORMAT,
            name: self.recipe.name().to_owned(),
            product: Product::Disk,
            architecture: self.recipe.isa(),
            recipe_sha256: self.recipe.digest().clone(),
            resolved: self.materials.when,
            archive: self.materials.archive.clone(),
            suites: self.materials.suites.clone(),
            os: self.recipe.os().cloned(),
            kernel: None,
            qemu: None,
            left_out: Vec::new(),
            files: image::record_files(self.folder.path())?,
            packages: self.materials.packages.clone(),
            disk: Some(record),
        };
        let path = self.folder.path().join(METADATA);
        let text = toml::to_string(&metadata).map_err(io::Error::other).map_err(Error::io("write", &path))?;
        fs::write(&path, &text).map_err(Error::io("write", &path))?;
        let (cache, _) = self.store.parts();
        let place = cache.image(&self.digest);
        if place.exists() {
            remove(&place)?;
        }
        fs::rename(self.folder.path(), &place).map_err(Error::io("move an image to", &place))?;
        let record = Digest::of_bytes(text.as_bytes());
        let mut reference = Reference::default();
        reference
            .products
            .insert(Product::Disk, Entry { image: self.digest.clone(), record: record.clone() });
        cache.refer(&self.recipe, &reference)?;
        Image::open(&place, &self.digest, Some(&record))
            .map_err(|reason| Error::Corrupted { path: place, reason })
    }
}

/// What the recipe of a preparation says of its disk.
fn disk_of(recipe: &Recipe) -> Result<DiskRecipe<'_>, Error> {
    recipe
        .disk()
        .ok_or_else(|| Error::NoSuchProduct { recipe: recipe.name().to_owned(), product: Product::Disk })
}

/// The user's files that a role needs, by their names.
fn files_of(role: &WindowsRole, medium: &Medium) -> Result<Vec<(String, PathBuf)>, Error> {
    let file = |name: &String| match medium.user_files().find(|(given, _)| given == name) {
        Some((_, path)) => Ok((name.clone(), path.to_owned())),
        None => Err(Error::MissingUserFile {
            medium: medium.name(),
            role: role.name().to_owned(),
            file: name.clone(),
        }),
    };
    role.files().iter().map(file).collect()
}

/// Whether a system is the one that a medium's name says, in its version or a more exact one.
fn is_system(named: &Os, found: &Os) -> bool {
    // CentOS Stream calls itself centos.
    let id = if named.id == "centos-stream" { "centos" } else { &named.id };
    id == found.id && is_part(&found.version, &named.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_the_named_system_in_the_named_version() {
        let os =
            |id: &str, version: &str| Os { id: id.to_owned(), version: version.to_owned(), variant: None };
        for (named, found, is_it) in [
            (os("rhel", "9.4"), os("rhel", "9.4"), true),
            (os("rhel", "9"), os("rhel", "9.4"), true),
            (os("rhel", "9.4"), os("rhel", "9"), false),
            (os("rhel", "9.4"), os("rhel", "9.40"), false),
            (os("rhel", "9.4"), os("almalinux", "9.4"), false),
            (os("centos-stream", "9"), os("centos", "9"), true),
        ] {
            assert_eq!(is_system(&named, &found), is_it, "{named:?} {found:?}");
        }
    }
}
