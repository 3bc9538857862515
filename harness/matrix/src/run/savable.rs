//! Which levels of a cell's stack can be saved in a snapshot, and why a cell always boots from its beginning.

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{BootKind, LevelNumber, Stage, StageKind, Step};
use nestmatrix_stack::{Inspector, Metal};

use super::{Fate, Planned};
use crate::scenario::Cell;

/// Why a cell's stack is never saved in a snapshot nor restored from one, if so.
pub(super) fn always_cold(planned: &Planned) -> Option<String> {
    let Fate::Boots { metal, .. } = &planned.fate else { return None };
    let cell = &planned.cell;
    let profile = ArchInfo::of(cell.architecture);
    if *metal == Metal::Native {
        Some("native metal has no snapshots".to_owned())
    } else if let Some(why) = profile.no_snapshot {
        Some(why.to_owned())
    } else if cell.levels.iter().any(|level| level.disk) {
        Some("a level has its own disk".to_owned())
    } else if cell.levels.iter().any(|level| level.boots == Some(BootKind::UnifiedKernel)) {
        Some("the nonce of each boot is on a disk of a level".to_owned())
    } else if cell.steps.iter().any(|step| step.second_machine().is_some()) {
        Some("a level has two machines".to_owned())
    } else if cell.steps.iter().any(Step::is_lifecycle) {
        Some("its steps pause, replace or reset levels".to_owned())
    } else if !cell.levels.iter().any(|level| savable(cell, level.level)) {
        Some("its scenario tests the boot that a snapshot would skip".to_owned())
    } else {
        None
    }
}

/// Whether a snapshot can be taken once `level` is up: it hosts another level, and the scenario has done nothing to the stack
/// until then. A snapshot contains no machine that libvirt launched.
pub(super) fn savable(cell: &Cell, level: LevelNumber) -> bool {
    let up = Stage::Level(level, StageKind::Kvm);
    level < cell.innermost()
        && cell.steps.iter().all(|step| step.after >= up && !matches!(step.after, Stage::Step(_)))
        && !cell.levels.iter().any(|spec| spec.level <= level && cell.is_launched_by_libvirt(spec.level))
        && cell.faults.iter().all(|fault| fault.at > up)
}

/// Whether a debug session pauses the stack before `level` is up: a snapshot with that level would skip the pause.
pub(super) fn is_paused_before(cell: &Cell, level: LevelNumber, inspector: Option<&dyn Inspector>) -> bool {
    let up = Stage::Level(level, StageKind::Kvm);
    let mut earlier = cell.stages().into_iter().filter(|stage| *stage < up);
    inspector.is_some_and(|inspector| earlier.any(|stage| inspector.pauses_after(stage)))
}
