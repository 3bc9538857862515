//! Checks of memory and disk space.

use nestmatrix_model::PROGRAM;
use nestmatrix_stack::Metal;

use super::subject::{Inventory, Place, Subject};
use crate::doctor::finding::{Check, Finding};

/// Memory that an emulator takes in addition to its machine's memory, plus what is left to other programs, in MiB.
const BESIDE_EMULATED_MIB: u64 = 384 + 512;
/// The same for a QEMU with KVM.
const BESIDE_NATIVE_MIB: u64 = 128;
/// Disk space of all images, including the packages that they are built from, in MiB.
const IMAGES_MIB: u64 = 5 << 10;
/// The most disk space that snapshots take without `--saved-limit`, in MiB.
const SNAPSHOTS_MIB: u64 = 10 << 10;
/// The least disk space that a run needs for its records, in MiB.
const RECORDS_MIB: u64 = 256;

impl Subject<'_> {
    pub(super) fn memory(&self) -> Finding {
        let (check, profile) = (Check::Memory, self.profile());
        let (leaf, own) = (u64::from(profile.innermost_memory_mib), u64::from(profile.overhead_memory_mib));
        let available = self.probe.available_memory_mib;
        let (native, emulated) = match self.place {
            // L0 and L1 are hypervisors; on native metal, L0 is running already.
            Place::ThisMachine(_) => (leaf + own + BESIDE_NATIVE_MIB, leaf + 2 * own + BESIDE_EMULATED_MIB),
            Place::Level { level, innermost } => {
                let inside = u64::from(innermost.number().saturating_sub(level.number()));
                let need = if inside == 0 { 0 } else { leaf + own * (inside - 1) };
                (need, need)
            }
        };
        let what =
            |need: u64| format!("{} of memory free, of which a stack takes {}", size(available), size(need));
        if available == 0 {
            Finding::warning(check, "the amount of free memory is unknown")
        } else if available >= emulated {
            Finding::ok(check, what(emulated))
        } else if available >= native {
            Finding::missing(check, &[Metal::Emulated], what(emulated))
                .advise("stop other programs; native metal takes less memory")
        } else {
            Finding::missing(check, &[Metal::Native, Metal::Emulated], what(native))
                .advise("stop other programs, or use a larger machine")
        }
    }

    pub(super) fn disk(&self, inventory: &Inventory) -> Finding {
        let (check, disks) = (Check::Disk, &self.probe.disks);
        let (Some(cache), Some(snapshots)) = (disks.get("cache"), disks.get("snapshots")) else {
            return Finding::warning(check, "the amount of free disk space is unknown");
        };
        let both = [Metal::Native, Metal::Emulated];
        let images = match (inventory.wanted, inventory.missing.len()) {
            (0, _) | (_, 0) => RECORDS_MIB,
            (wanted, missing) => RECORDS_MIB.max(IMAGES_MIB * missing as u64 / wanted as u64),
        };
        let prune = format!("{PROGRAM} images prune");
        if *cache < images {
            let what = format!("{} of disk space free; images take {}", size(*cache), size(images));
            return Finding::missing(check, &both, what).fixed_by([prune]);
        }
        if *snapshots < SNAPSHOTS_MIB {
            let what = format!(
                "{} of disk space free; snapshots take up to {}",
                size(*snapshots),
                size(SNAPSHOTS_MIB)
            );
            let limit = snapshots >> 11;
            let advice =
                format!("delete snapshots, or limit them: `run-matrix --saved-limit {limit}` or `--cold`");
            return Finding::warning(check, what)
                .advise(advice)
                .fixed_by([format!("{PROGRAM} snapshots clear")]);
        }
        Finding::ok(check, format!("{} of disk space free", size(*cache.min(snapshots))))
    }
}

/// `22.2 GiB`, `512 MiB`.
pub(crate) fn size(mib: u64) -> String {
    if mib < 1024 { format!("{mib} MiB") } else { format!("{:.1} GiB", mib as f64 / 1024.0) }
}
