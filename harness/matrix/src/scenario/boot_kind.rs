//! Which levels of a cell can boot a disk, and which images.

use nestmatrix_model::architecture::{ArchInfo, BareMachine};
use nestmatrix_model::{BootKind, LevelNumber, Step};
use nestmatrix_stack::Metal;

use super::cell::Cell;
use super::images::AvailableImage;
use super::level::LevelSpec;
use super::role::Role;

/// Why this level of a cell can't boot a disk with an installed system on this metal, whatever disks there are, if so.
pub(super) fn why_no_disk(cell: &Cell, spec: &LevelSpec, metal: Metal) -> Option<&'static str> {
    if Role::of_launch(spec.settings.launch()).is_some() {
        Some("nestmatrix gives Windows no disk for its guests")
    } else if metal == Metal::Emulated && !metal_has_disks(cell) && !spec.system.is_windows() {
        // No cell with Windows runs on emulated metal, whatever that has.
        Some("the emulated machine gets no disks")
    } else if !spec.settings.kernel_parameters.is_empty() {
        Some("its scenario sets kernel parameters, and those of a disk are on the disk")
    } else if spec.settings.kdump.is_some() {
        Some("a kernel parameter reserves memory for its crash kernel, and those of a disk are on the disk")
    } else if lets_guests_host(cell, spec)
        && ArchInfo::of(cell.architecture).nesting_switch.kernel_parameter().is_some()
    {
        Some("a kernel parameter lets its guests host, and those of a disk are on the disk")
    } else if spec.disk {
        Some("its scenario gives it another disk for its configuration")
    } else if cell.steps.iter().any(|step| step.second_machine().is_some()) {
        Some("its scenario runs two machines of a level, and both would write to the disk")
    } else if spec.level == cell.innermost() && cell.steps.iter().any(|step| boots_again(step, spec.level)) {
        Some("its scenario has it boot again, and an installed innermost level reports only once")
    } else if !cell.innermost().reports() {
        Some("it is a level alone, which returns its nonce from its kernel command line")
    } else {
        None
    }
}

fn boots_again(step: &Step, level: LevelNumber) -> bool {
    step.on == level && step.action.actions().iter().any(|action| action.boots_again())
}

/// Whether the emulated metal of a cell has virtio disks. Only that of QEMU does.
fn metal_has_disks(cell: &Cell) -> bool {
    cell.emulator_is_l0() || matches!(ArchInfo::of(cell.architecture).metal, BareMachine::Qemu(_))
}

/// Whether this level of a cell boots images of this kind, as far as its scenario and the metal say.
pub(super) fn boots_in(image: &AvailableImage, cell: &Cell, spec: &LevelSpec, metal: Metal) -> bool {
    match image.boots {
        BootKind::Kernel | BootKind::UnifiedKernel => spec.boots != Some(BootKind::Disk),
        BootKind::Disk => {
            matches!(spec.boots, None | Some(BootKind::Disk)) && why_no_disk(cell, spec, metal).is_none()
        }
    }
}

/// Whether a level runs guests that run guests.
fn lets_guests_host(cell: &Cell, spec: &LevelSpec) -> bool {
    cell.innermost().below().is_some_and(|host_of_innermost| spec.level < host_of_innermost)
}
