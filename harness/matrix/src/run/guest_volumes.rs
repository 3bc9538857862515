//! Writes the volumes that bring guests into Windows levels, before each boot: the nonce is on that of a guest of Hyper-V.

use std::path::{Path, PathBuf};

use nestmatrix_images::{Error, GuestVolume, WslRoot};
use nestmatrix_stack::{BootFiles, GuestFiles, StackPlan};

use super::ready_cell::ReadyCell;

/// The file names on a volume. The commands of a role use them.
const VHD: &str = "guest.vhd";
const ROOT: &str = "rootfs.tar.gz";

/// Writes the volumes of a stack and what is on them. The levels of the plan are those of the cell.
///
/// # Errors
/// A file can't be written, and why.
pub(super) async fn write(plan: &StackPlan, cell: &ReadyCell) -> Result<(), String> {
    if plan.levels.iter().all(|level| level.guest_volume.is_none()) {
        return Ok(());
    }
    let (plan, roots) = (plan.clone(), roots(plan, cell));
    let written = tokio::task::spawn_blocking(move || write_all(&plan, &roots)).await;
    written.map_err(|e| e.to_string())?
}

/// The initramfs that each root file system for WSL2 is made of, and the archive that is made.
fn roots(plan: &StackPlan, cell: &ReadyCell) -> Vec<(PathBuf, PathBuf)> {
    let root = |level: &nestmatrix_stack::LevelPlan| {
        let BootFiles::WslRoot { archive } = &level.image.files else { return None };
        let ready = cell.levels.iter().find(|ready| ready.planned.spec.level == level.level)?;
        Some((ready.image.as_ref()?.initramfs()?, archive.clone()))
    };
    plan.levels.iter().filter_map(root).collect()
}

fn write_all(plan: &StackPlan, roots: &[(PathBuf, PathBuf)]) -> Result<(), String> {
    let volumes = plan.guest_volumes();
    let volumes =
        volumes.map_err(|level| format!("nothing is planned for the volume that brings {level}"))?;
    for (initramfs, archive) in roots {
        WslRoot { initramfs }.write(archive).map_err(|e| e.to_string())?;
    }
    for (volume, files) in volumes {
        write_volume(volume, files).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn write_volume(volume: &Path, files: GuestFiles<'_>) -> Result<(), Error> {
    let disk = match files {
        GuestFiles::UnifiedKernel { unified, vhd } => {
            unified.write_vhd(vhd)?;
            GuestVolume::new().file(VHD, vhd)
        }
        GuestFiles::WslRoot { archive } => GuestVolume::new().file(ROOT, archive),
    };
    disk.write(volume)
}

#[cfg(test)]
#[path = "guest_volumes_tests.rs"]
mod tests;
