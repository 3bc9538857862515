//! The files of one boot: an overlay over each prepared disk, a copy of each firmware's variables, and the disks with unified kernels.
//! They are removed with its folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use nestmatrix_images::{DiskFormat, QemuImg};
use nestmatrix_stack::{Snapshot, StackPlan};

use super::Setting;
use super::ready_cell::ReadyCell;

/// Makes overlays.
pub(super) struct Overlays {
    /// The program that makes them, or why it is missing; absent if the run needs no overlay.
    tool: Option<Result<QemuImg, String>>,
}

impl Overlays {
    /// Finds what these cells need.
    pub(super) async fn find(cells: &[Rc<ReadyCell>], setting: &Setting) -> Self {
        let has_disk = |stack: &StackPlan| stack.levels.iter().any(|level| level.image.disk().is_some());
        if !cells.iter().any(|cell| cell.stack.as_ref().is_ok_and(has_disk)) {
            return Self { tool: None };
        }
        let (store, progress) = (Arc::clone(&setting.store), Arc::clone(&setting.progress));
        let catalog = setting.catalog.clone();
        let find = move || QemuImg::find(&store, &catalog, &*progress).map_err(|e| e.to_string());
        let found = tokio::task::spawn_blocking(find).await;
        Self { tool: Some(found.unwrap_or_else(|e| Err(e.to_string()))) }
    }

    /// Makes the files that the levels of `plan` write to, over those of the snapshot that it is restored from. `saves` says whether
    /// another snapshot is saved: that one must not depend on the first one's files.
    ///
    /// # Errors
    /// A file can't be made, and why.
    pub(super) async fn make(
        &self,
        plan: &StackPlan,
        from: Option<&Snapshot>,
        saves: bool,
    ) -> Result<(), String> {
        write_unified_kernels(plan).await?;
        let saved = |file: &Path| from?.disk(&file.file_name()?.to_string_lossy());
        for level in &plan.levels {
            if let Some(uefi) = &level.uefi {
                let from = saved(&uefi.variables).unwrap_or_else(|| uefi.base_variables.clone());
                copy(&from, &uefi.variables)
                    .map_err(|e| format!("failed to copy {}: {e}", from.display()))?;
            }
            let Some(disk) = level.image.disk() else { continue };
            match saved(&disk.overlay) {
                Some(from) if saves => {
                    let to = disk.overlay.clone();
                    let copied = tokio::task::spawn_blocking(move || copy(&from, &to)).await;
                    let copied = copied.map_err(|e| e.to_string())?;
                    copied.map_err(|e| format!("failed to copy a disk of a snapshot: {e}"))?;
                }
                saved => {
                    let base = saved.unwrap_or_else(|| disk.base.clone());
                    self.overlay(disk.overlay.clone(), base).await?;
                }
            }
        }
        Ok(())
    }

    async fn overlay(&self, new: PathBuf, base: PathBuf) -> Result<(), String> {
        let tool = self.tool.as_ref().ok_or("no program makes overlays")?.clone()?;
        let make = move || tool.create_overlay(&new, &base, DiskFormat::Qcow2).map_err(|e| e.to_string());
        tokio::task::spawn_blocking(make).await.map_err(|e| e.to_string())?
    }
}

/// Writes the disks with unified kernels.
async fn write_unified_kernels(plan: &StackPlan) -> Result<(), String> {
    if plan.unified_kernels().is_empty() {
        return Ok(());
    }
    let plan = plan.clone();
    let write = move || plan.unified_kernels().iter().try_for_each(|(unified, disk)| unified.write_vhd(disk));
    let written = tokio::task::spawn_blocking(write).await;
    written.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// Copies the contents of a file, without its permissions: a file of the cache may be read-only.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::io::copy(&mut fs::File::open(from)?, &mut fs::File::create(to)?).map(drop)
}

#[cfg(test)]
#[path = "overlays_tests.rs"]
mod tests;
