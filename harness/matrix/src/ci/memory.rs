//! How much memory a machine needs to run a cell, known before its images are built.

use nestmatrix_images::Catalog;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_stack::Metal;

use crate::run::{Fate, Planned, PlannedLevel};

/// Memory for the harness, the emulator and the system around them, in MiB.
const OUTSIDE_MIB: u64 = 1024;

/// Memory in MiB that is enough for a cell. The plan of its stack says it exactly, but only when its images are there.
pub(super) fn memory_mib(planned: &Planned, catalog: &Catalog) -> u64 {
    let Fate::Boots { metal, levels } = &planned.fate else { return OUTSIDE_MIB };
    let ArchInfo { innermost_memory_mib, overhead_memory_mib, .. } = *ArchInfo::of(planned.cell.architecture);
    let innermost = planned.cell.innermost();
    let this_machine = planned.cell.this_machine();
    let is_guest = |level: &&PlannedLevel| *metal == Metal::Emulated || level.spec.level > this_machine;
    let outermost = levels.iter().filter(is_guest).rev().fold(0, |inside: u32, level| {
        let own = if level.spec.level == innermost { innermost_memory_mib } else { overhead_memory_mib };
        let own = own.max(disk_memory_mib(level, catalog));
        let settings = &level.spec.settings;
        let profile = ArchInfo::of(planned.cell.architecture);
        let crash = settings.kdump.as_ref();
        let crash = crash.map(|kdump| kdump.crashkernel_mib.unwrap_or(profile.crash_kernel.memory_mib));
        let own = own + crash.unwrap_or_default();
        let memory = settings.memory_mib.unwrap_or(own + inside);
        memory.max(settings.hardware.max_memory_mib.unwrap_or_default())
    });
    // While a level is migrated, it exists twice.
    2 * u64::from(outermost) + OUTSIDE_MIB
}

/// The memory of an installed system, if the level boots one.
fn disk_memory_mib(level: &PlannedLevel, catalog: &Catalog) -> u32 {
    let recipe = level.boots.as_ref().and_then(|(recipe, _)| catalog.get(recipe));
    recipe.and_then(|recipe| Some(recipe.disk()?.hardware().memory_mib)).unwrap_or_default()
}
