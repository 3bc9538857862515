//! Who runs the outermost level of a cell: the one place that decides which program that is and from which recipe it comes.

use nestmatrix_images::{Catalog, Image, Product};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Isa, Word as _};
use nestmatrix_stack::Metal;
use nestmatrix_stack::host::Emulator;

use super::{Fate, Planned, RunError};
use crate::scenario::Cell;

/// The program that runs the outermost level that is booted of a cell on this metal.
pub(crate) fn outermost_program(cell: &Cell, metal: Metal) -> &'static str {
    let architecture = ArchInfo::of(cell.architecture);
    match metal {
        Metal::Emulated if !cell.emulator_is_l0() => architecture.metal.program(architecture.qemu),
        Metal::Native | Metal::Emulated => architecture.qemu,
    }
}

/// The image of the emulator that runs the outermost level of a planned cell; none if it is skipped or uses the QEMU that is
/// `installed` on this machine, as native metal may.
///
/// # Errors
/// There is no recipe for the emulator.
pub(super) fn outermost_image(
    planned: &Planned,
    catalog: &Catalog,
    installed: bool,
) -> Result<Option<(String, Product)>, RunError> {
    match planned.fate {
        Fate::Boots { metal: Metal::Native, .. } if installed => Ok(None),
        Fate::Boots { metal, .. } => {
            let recipe = emulator_recipe(catalog, outermost_program(&planned.cell, metal))?;
            Ok(Some((recipe, Product::Emulator)))
        }
        Fate::Skipped(_) => Ok(None),
    }
}

/// Name of this machine's instruction set, for messages: Debian's, or Rust's if no recipe is for it.
pub fn host_isa() -> &'static str {
    Isa::of_this_machine().map_or(std::env::consts::ARCH, Isa::word)
}

/// The recipe of the emulator `program` that runs on this machine.
///
/// # Errors
/// There is none.
pub(crate) fn emulator_recipe(catalog: &Catalog, program: &str) -> Result<String, RunError> {
    let here = Isa::of_this_machine();
    let runs_here = |recipe: &&nestmatrix_images::Recipe| {
        Some(recipe.isa()) == here && recipe.emulator() == Some(program)
    };
    let no_emulator = || RunError::NoEmulator { program: program.to_owned(), isa: host_isa().to_owned() };
    let recipe = catalog.recipes().find(runs_here).ok_or_else(no_emulator)?;
    Ok(recipe.name().to_owned())
}

/// An emulator image as what runs the outermost level.
pub(crate) fn emulator_of(image: Image) -> Option<Emulator> {
    nestmatrix_images::Emulator::new(image).map(|image| Emulator::Image(Box::new(image)))
}
