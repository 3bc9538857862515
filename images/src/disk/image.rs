//! The record of a prepared disk in `image.toml`, and what a level needs to boot from it.

use super::DiskHardware;
use crate::image::Image;
use crate::media::MediumRecord;
use crate::uefi::{CODE, UefiFiles, VARS};
use crate::{Digest, DiskFormat, Error, Os, Product};
use nestmatrix_model::CommandChannel;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The overlay of a prepared disk, in its image's folder.
pub(crate) const OVERLAY: &str = "disk.qcow2";

/// The part of an image's record that is about its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DiskRecord {
    pub(crate) command_channel: CommandChannel,
    /// The kernel's release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kernel_release: Option<String>,
    /// What preparation changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changes: Vec<String>,
    pub(crate) hardware: DiskHardware,
    pub(crate) medium: MediumRecord,
    /// The image that its UEFI firmware was copied from; absent without UEFI, and in older images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) firmware: Option<FirmwareSource>,
    /// What its os-release(5) says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) os_release: Option<Os>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) qemu: Option<QemuInside>,
    /// The role of the Windows on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<String>,
}

/// The image that the UEFI firmware of a disk was copied from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FirmwareSource {
    /// Its recipe.
    pub recipe: String,
    /// Its digest.
    pub digest: Digest,
    /// Its packages and their versions: `ovmf 2025.02-8`.
    pub version: String,
}

impl FirmwareSource {
    /// An image of firmware.
    pub fn of(image: &Image) -> Self {
        let version = image.package_versions();
        Self { recipe: image.name().to_owned(), digest: image.digest().clone(), version }
    }
}

/// The QEMU that a prepared disk has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QemuInside {
    /// Its path on the disk.
    pub path: String,
    /// What it prints as its version: `QEMU emulator version 8.2.0 (qemu-kvm-8.2.0-11.el9_4)`.
    pub version: String,
}

/// A prepared disk, from which levels boot. Each boot writes to an overlay of its own over [`DiskImage::overlay`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskImage {
    /// What preparation changed on the medium: a qcow2 image whose backing file is the medium, or the disk that was installed from it.
    pub overlay: PathBuf,
    /// The medium's file.
    pub medium: PathBuf,
    /// The medium's format.
    pub medium_format: DiskFormat,
    /// The medium's name: `rhel-9.4`.
    pub medium_name: String,
    /// The medium's SHA-256.
    pub medium_sha256: Digest,
    /// The firmware and its variables; none if the machine's own firmware boots the disk.
    pub uefi: Option<UefiFiles>,
    /// The image that this firmware was copied from, if that is known.
    pub firmware: Option<FirmwareSource>,
    /// The least hardware that the level needs.
    pub hardware: DiskHardware,
    /// How commands run in the level.
    pub command_channel: CommandChannel,
    /// The kernel's release, if the disk was prepared.
    pub kernel_release: Option<String>,
    /// System and version by the disk's os-release(5), if it was prepared.
    pub os_release: Option<Os>,
    /// The QEMU on the disk. Without one, the level can only be the innermost.
    pub qemu: Option<QemuInside>,
    /// What preparation changed, a line for each.
    pub changes: Vec<String>,
    /// The role of the Windows on it, if it is one: `guest`, `hyper-v`.
    pub role: Option<String>,
}

impl Image {
    /// The disk to boot from; none unless its product is [`Product::Disk`].
    pub fn disk_image(&self) -> Option<DiskImage> {
        if self.product() != Product::Disk {
            return None;
        }
        let DiskRecord {
            command_channel,
            kernel_release,
            changes,
            hardware,
            medium,
            firmware,
            os_release,
            qemu,
            role,
        } = self.disk_record()?.clone();
        let file = |name: &str| self.file(name);
        let uefi = match (file(CODE), file(VARS)) {
            (Some(code), Some(vars)) => Some(UefiFiles { code, vars }),
            _ => None,
        };
        Some(DiskImage {
            overlay: file(OVERLAY)?,
            medium: medium.image.file,
            medium_format: medium.image.format,
            medium_name: medium.name,
            medium_sha256: medium.image.sha256,
            uefi,
            firmware,
            hardware,
            command_channel,
            kernel_release,
            os_release,
            qemu,
            changes,
            role,
        })
    }

    /// Makes sure that the medium below a disk is the one that it was prepared from. Its contents are read only if its size or time has
    /// changed. Other images have none.
    ///
    /// # Errors
    /// [`Error::Medium`] if it is not.
    pub fn check_medium(&self) -> Result<(), Error> {
        self.disk_record().map_or(Ok(()), |record| record.medium.ensure_unchanged())
    }
}
