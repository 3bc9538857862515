//! What a cell's record says about a level that booted from a disk, or with UEFI.

use std::fmt;

use nestmatrix_images::{FirmwareSource, Image, Product};
use nestmatrix_model::Firmware;
use serde::{Deserialize, Serialize};

use super::ImageRecord;

/// How many digits of a digest a text shows.
const DIGITS: usize = 12;

/// The disk that a level booted from. The digest of the level's image covers all that its preparation was made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DiskRecord {
    /// Name of its medium.
    pub medium: String,
    /// SHA-256 of the medium's file.
    pub medium_sha256: String,
    /// `ID` and `VERSION_ID` of its os-release when it was prepared; absent if it was not prepared.
    pub system: Option<String>,
    /// The release of its kernel when it was prepared.
    pub kernel: Option<String>,
    /// The version of its QEMU; absent if it has none, or if it was not prepared.
    pub qemu: Option<String>,
    /// What preparation changed, a line for each.
    pub changes: Vec<String>,
}

/// The UEFI firmware of a level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UefiRecord {
    /// Whether it starts only signed boot loaders.
    pub secure_boot: bool,
    /// The recipe of its image; absent for a disk that an older version prepared.
    pub recipe: Option<String>,
    /// The digest of its image.
    pub digest: Option<String>,
    /// The packages in its image, with their versions: `ovmf 2025.02-8`.
    pub version: Option<String>,
}

impl DiskRecord {
    /// The disk of an image, if it is one.
    pub fn of(image: &Image) -> Option<Self> {
        let disk = image.disk_image()?;
        Some(Self {
            medium: disk.medium_name,
            medium_sha256: disk.medium_sha256.to_string(),
            system: disk.os_release.map(|os| format!("{} {}", os.id, os.version)),
            kernel: disk.kernel_release,
            qemu: disk.qemu.map(|qemu| qemu.version),
            changes: disk.changes,
        })
    }
}

impl UefiRecord {
    /// The record of a firmware from this image, if that is known.
    pub fn new(firmware: Firmware, source: Option<FirmwareSource>) -> Self {
        let secure_boot = firmware == Firmware::UefiSecureBoot;
        let (recipe, digest, version) = match source {
            Some(FirmwareSource { recipe, digest, version }) => {
                (Some(recipe), Some(digest.to_string()), Some(version))
            }
            None => (None, None, None),
        };
        Self { secure_boot, recipe, digest, version }
    }
}

impl UefiRecord {
    /// Its image, if that is known.
    pub fn image(&self) -> Option<ImageRecord> {
        let (recipe, digest) = (self.recipe.clone()?, self.digest.clone()?);
        Some(ImageRecord { recipe, product: Product::Firmware.to_string(), digest })
    }
}

impl DiskRecord {
    /// The same as its text, with all digits.
    pub fn in_full(&self) -> String {
        format!("medium {}, SHA-256 {}, {}", self.medium, self.medium_sha256, self.preparation())
    }

    fn preparation(&self) -> String {
        match (self.changes.len(), &self.kernel) {
            (0, None) => "as it is".to_owned(),
            (1, _) => "prepared with 1 change".to_owned(),
            (changes, _) => format!("prepared with {changes} changes"),
        }
    }
}

/// `medium rhel-9.4 (SHA-256 63fd3d733f34...), prepared with 48 changes`.
impl fmt::Display for DiskRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.medium_sha256.chars().take(DIGITS).collect();
        write!(f, "medium {} (SHA-256 {digits}...), {}", self.medium, self.preparation())
    }
}

/// `ovmf 2025.02-8, with secure boot`.
impl fmt::Display for UefiRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version.as_deref().unwrap_or("UEFI of an unknown version"))?;
        f.write_str(if self.secure_boot { ", with secure boot" } else { ", without secure boot" })
    }
}
