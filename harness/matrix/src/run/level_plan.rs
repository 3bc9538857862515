//! The plan of one level that boots an image: its files, its firmware, and the files of each boot.

use std::path::Path;
use std::sync::Arc;

use nestmatrix_images::{
    DiskImage, DiskRecipe, Enlightenments, FirmwareSource, Image, Product, UefiFiles, WindowsRole,
};
use nestmatrix_model::{BootKind, Firmware, Launch, LevelNumber};
use nestmatrix_stack::{
    BootFiles, BootImage, LevelPlan, SwtpmArchive, SystemDisk, UefiFirmware, UnifiedKernelDisk, WindowsSystem,
};

use super::PlannedLevel;
use crate::records::UefiRecord;

/// The UEFI firmware of a level.
pub(super) struct LevelUefi<'i> {
    firmware: Firmware,
    /// The image that has its files.
    image: &'i Image,
    files: UefiFiles,
    /// The image that they were built in, if that is known.
    source: Option<FirmwareSource>,
}

impl<'i> LevelUefi<'i> {
    /// That of a level that boots `image`, if it has one. `set` is the image of what its scenario sets.
    pub(super) fn of(
        level: &PlannedLevel,
        image: &'i Image,
        set: Option<&'i Image>,
    ) -> Result<Option<Self>, String> {
        let of_disk = image.disk_image().and_then(|disk| {
            let firmware = disk.hardware.firmware;
            Some(Self { firmware, image, files: disk.uefi?, source: disk.firmware })
        });
        // The variables of a disk may have the entry of its boot loader.
        if let Some(own) = of_disk.filter(|own| level.spec.firmware.is_none_or(|set| set == own.firmware)) {
            return Ok(Some(own));
        }
        let (Some(firmware), Some(image)) = (level.spec.firmware, set) else { return Ok(None) };
        let files =
            image.uefi(firmware).ok_or_else(|| format!("image {} has no {firmware}", image.name()))?;
        Ok(Some(Self { firmware, image, files, source: Some(FirmwareSource::of(image)) }))
    }

    pub(super) fn record(self) -> UefiRecord {
        UefiRecord::new(self.firmware, self.source)
    }
}

/// The plan of a level that boots `image`, with this firmware if its scenario sets one. `recipe` is that of its disk, if it boots one.
pub(super) fn level_plan(
    level: &PlannedLevel,
    image: &Image,
    firmware: Option<&Image>,
    recipe: Option<DiskRecipe<'_>>,
    folder: &Path,
) -> Result<LevelPlan, String> {
    let spec = &level.spec;
    let launch = spec.settings.launch();
    let boots = match image.disk_image() {
        Some(disk) => disk_image(image, disk, recipe, spec.level, folder)?,
        None if launch == Launch::Wsl2 => wsl_root(image, spec.level, folder),
        None => kernel_image(image)?,
    };
    let unified_kernel = match (spec.boots, firmware) {
        (Some(BootKind::UnifiedKernel), Some(firmware)) => {
            Some(unified_kernel(firmware, spec.level, folder)?)
        }
        _ => None,
    };
    let uefi =
        LevelUefi::of(level, image, firmware)?.map(|LevelUefi { firmware, image, files, .. }| UefiFirmware {
            name: format!("{} {firmware}", name_with_digest(image)),
            code: files.code,
            base_variables: files.vars,
            variables: folder.join(format!("{}-variables", spec.level)),
            secure_boot: firmware == Firmware::UefiSecureBoot,
        });
    let mut settings = spec.settings.clone();
    let of_disk = image.disk_image().and_then(|disk| disk.hardware.tpm);
    settings.hardware.tpm = settings.hardware.tpm.or(of_disk);
    if settings.hardware.tpm.is_some() && launch == Launch::Libvirt {
        return Err(format!("{} has a TPM, which a level that libvirt launches can't have", spec.level));
    }
    Ok(LevelPlan {
        level: spec.level,
        image: boots,
        settings,
        disk: spec.disk.then(|| folder.join(disk_name(spec.level))),
        uefi,
        unified_kernel,
        guest_volume: launch.is_by_windows().then(|| folder.join(format!("{}-volume", spec.level))),
        swtpm: None,
    })
}

/// The disk with a level's unified kernel, which is written before each boot.
fn unified_kernel(firmware: &Image, level: LevelNumber, folder: &Path) -> Result<UnifiedKernelDisk, String> {
    let missing = || format!("image {} has no program that starts a unified kernel", firmware.name());
    Ok(UnifiedKernelDisk {
        stub: firmware.uefi_stub().ok_or_else(missing)?,
        path: folder.join(format!("{level}-unified-kernel")),
    })
}

/// swtpm as a level gets it.
pub(super) fn swtpm_archive(image: &Image) -> Option<SwtpmArchive> {
    Some(SwtpmArchive { name: name_with_digest(image), archive: image.packed_tree()? })
}

/// The root file system of a level in WSL, which is written before each boot. Its kernel is that of WSL.
fn wsl_root(image: &Image, level: LevelNumber, folder: &Path) -> BootImage {
    BootImage {
        name: name_with_digest(image),
        kernel_release: String::new(),
        files: BootFiles::WslRoot { archive: folder.join(format!("{level}-rootfs.tar.gz")) },
    }
}

fn kernel_image(image: &Image) -> Result<BootImage, String> {
    let (Some(kernel), Some(release), Some(initramfs), Some(disk)) =
        (image.kernel(), image.kernel_version(), image.initramfs(), image.disk())
    else {
        return Err(format!("image {} has no kernel, initramfs or disk", image.name()));
    };
    Ok(BootImage {
        name: name_with_digest(image),
        kernel_release: release.release.clone(),
        files: BootFiles::Kernel { kernel, initramfs, disk: Some(disk) },
    })
}

fn disk_image(
    image: &Image,
    disk: DiskImage,
    recipe: Option<DiskRecipe<'_>>,
    level: LevelNumber,
    folder: &Path,
) -> Result<BootImage, String> {
    let DiskImage { overlay, hardware, command_channel, kernel_release, os_release, qemu, .. } = disk;
    // A disk that needs no preparation was never booted here, so there is nothing to compare its kernel with.
    Ok(BootImage {
        name: name_with_digest(image),
        kernel_release: kernel_release.unwrap_or_default(),
        files: BootFiles::Disk(SystemDisk {
            base: overlay,
            overlay: folder.join(format!("{level}.qcow2")),
            bus: hardware.bus,
            network_card: hardware.network_card.unwrap_or_default(),
            command_channel,
            // What needed no preparation has not said where its QEMU is.
            qemu: qemu.map(|qemu| qemu.path).or(recipe.and_then(|recipe| recipe.qemu()).map(str::to_owned)),
            memory_mib: hardware.memory_mib,
            cpus: hardware.cpus,
            system: os_release.map(|os| (os.id, os.version)),
            first_boot: None,
            windows: recipe
                .and_then(|recipe| recipe.role())
                .map(|role| windows(role, hardware.enlightenments)),
        }),
    })
}

fn windows(role: &Arc<WindowsRole>, enlightenments: Enlightenments) -> WindowsSystem {
    let Enlightenments { always, nesting, nesting_intel } = enlightenments;
    WindowsSystem {
        role: Arc::clone(role),
        enlightenments: always,
        nesting_enlightenments: nesting,
        nesting_enlightenments_intel: nesting_intel,
    }
}

/// An image's name. The same name means the same files.
pub(super) fn name_with_digest(image: &Image) -> String {
    let name = format!("{} {}", image.name(), image.digest());
    // Each preparation of a disk makes other files of the same inputs.
    match image.files_digest() {
        Some(files) if image.product() == Product::Disk => format!("{name} {files}"),
        _ => name,
    }
}

/// The file name of a level's own disk.
pub(super) fn disk_name(level: LevelNumber) -> String {
    format!("{level}-disk")
}
