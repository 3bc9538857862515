//! Who runs the outermost level of a cell: the one place that decides which program that is and from which recipe it comes.

use std::collections::BTreeSet;

use nestmatrix_images::{Catalog, Image, InstalledEmulator, Product, Recipe, Unbuildable};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Isa, Word as _};
use nestmatrix_stack::Metal;
use nestmatrix_stack::host::Emulator;
use nestmatrix_vmm::qemu::SWTPM;

use super::installed_emulator::can_be_installed;
use super::{Fate, Planned, RunPlan};
use crate::scenario::Cell;

/// The program that runs the outermost level that is booted of a cell on this metal.
pub(crate) fn outermost_program(cell: &Cell, metal: Metal) -> &'static str {
    let architecture = ArchInfo::of(cell.architecture);
    match metal {
        Metal::Emulated if !cell.emulator_is_l0() => architecture.metal.program(architecture.qemu),
        Metal::Native | Metal::Emulated => architecture.qemu,
    }
}

/// The image of the emulator that runs the outermost level of a planned cell; none if it is skipped, or uses an emulator that is
/// installed on this machine. `installed` says whether native metal has a QEMU of its own.
///
/// # Errors
/// There is no emulator.
pub(super) fn outermost_image(
    planned: &Planned,
    catalog: &Catalog,
    installed: bool,
) -> Result<Option<(String, Product)>, NoEmulator> {
    match planned.fate {
        Fate::Boots { metal: Metal::Native, .. } if installed => Ok(None),
        Fate::Boots { metal, .. } => {
            let source = emulator_source(catalog, outermost_program(&planned.cell, metal))?;
            Ok(source.recipe().map(|recipe| (recipe.to_owned(), Product::Emulator)))
        }
        Fate::Skipped(_) => Ok(None),
    }
}

/// Where an emulator comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmulatorSource<'c> {
    /// The recipe of this name.
    Recipe(&'c str),
    /// It is installed on this machine.
    Installed(&'c InstalledEmulator),
}

impl<'c> EmulatorSource<'c> {
    /// The recipe that it comes from, if any.
    pub(crate) fn recipe(self) -> Option<&'c str> {
        match self {
            Self::Recipe(recipe) => Some(recipe),
            Self::Installed(_) => None,
        }
    }

    /// The installed emulator, if it is one.
    pub(crate) fn installed(self) -> Option<&'c InstalledEmulator> {
        match self {
            Self::Recipe(_) => None,
            Self::Installed(installed) => Some(installed),
        }
    }
}

/// Why an emulator is not available on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEmulator {
    /// There is no recipe for it.
    #[error("no recipe for {program} on {isa} machines")]
    NoRecipe {
        /// The emulator.
        program: String,
        /// This machine's instruction set.
        isa: String,
    },
    /// Its image can't be built, and none that is installed can be used instead.
    #[error("no {program}{}: {}the image {recipe} {why}", purpose(.program), clause(.installed))]
    Unbuildable {
        /// The emulator.
        program: String,
        /// Name of its recipe.
        recipe: String,
        /// Why that can't be built.
        why: Unbuildable,
        /// Why no installed one can be used; none if this program can only come from an image.
        installed: Option<String>,
    },
}

/// What a program of this machine is for, if that is not plain from its name.
fn purpose(program: &str) -> &'static str {
    if program == SWTPM { " for a TPM" } else { " for emulated metal" }
}

fn clause(text: &Option<String>) -> String {
    text.as_ref().map_or(String::new(), |text| format!("{text}; "))
}

impl RunPlan {
    /// The installed emulators that play the metal of its cells, each once: `qemu-system-x86_64 9.2.3, installed as /usr/bin/...`.
    pub(super) fn installed_emulators_in(&self, catalog: &Catalog) -> BTreeSet<String> {
        let of_cell = |planned: &Planned| {
            let Fate::Boots { metal: Metal::Emulated, .. } = planned.fate else { return None };
            let program = outermost_program(&planned.cell, Metal::Emulated);
            let installed = emulator_source(catalog, program).ok()?.installed();
            let InstalledEmulator { path, version } = installed.or_else(|| catalog.own(program))?;
            Some(format!("{program} {version}, installed as {}", path.display()))
        };
        self.cells.iter().filter_map(of_cell).collect()
    }
}

/// Name of this machine's instruction set, for messages: Debian's, or Rust's if no recipe is for it.
pub fn host_isa() -> &'static str {
    Isa::of_this_machine().map_or(std::env::consts::ARCH, Isa::word)
}

/// Where the emulator `program` of this machine comes from: a recipe whose image is in the cache or can be built here, Debian's
/// first, otherwise an installed one.
///
/// # Errors
/// There is neither.
pub(crate) fn emulator_source<'c>(
    catalog: &'c Catalog,
    program: &str,
) -> Result<EmulatorSource<'c>, NoEmulator> {
    let here = Isa::of_this_machine();
    let runs_here = |recipe: &&Recipe| Some(recipe.isa()) == here && recipe.emulator() == Some(program);
    let mut recipes: Vec<&Recipe> = catalog.recipes().filter(runs_here).collect();
    // Of several versions of a system, the latest one.
    recipes.reverse();
    recipes.sort_by_key(|recipe| recipe.source().is_some());
    let unbuildable = |recipe: &Recipe| catalog.unbuildable(recipe.name());
    if let Some(recipe) = recipes.iter().find(|recipe| unbuildable(recipe).is_none()) {
        return Ok(EmulatorSource::Recipe(recipe.name()));
    }
    let installed = catalog.installed(program);
    if let Some(Ok(installed)) = installed {
        return Ok(EmulatorSource::Installed(installed));
    }
    let program = program.to_owned();
    Err(match recipes.first().and_then(|recipe| Some((recipe, unbuildable(recipe)?))) {
        Some((recipe, why)) => NoEmulator::Unbuildable {
            installed: why_not_installed(&program, installed),
            program,
            recipe: recipe.name().to_owned(),
            why: why.clone(),
        },
        None => NoEmulator::NoRecipe { program, isa: host_isa().to_owned() },
    })
}

/// Why no installed emulator can be used; none if no installed one is ever used instead of `program`.
fn why_not_installed(program: &str, found: Option<Result<&InstalledEmulator, &str>>) -> Option<String> {
    match found {
        Some(Err(why)) => Some(why.to_owned()),
        _ if program == SWTPM => Some("none is installed (package swtpm)".to_owned()),
        _ => can_be_installed(program).then(|| "none is installed".to_owned()),
    }
}

/// An emulator image as what runs the outermost level.
pub(crate) fn emulator_of(image: Image) -> Option<Emulator> {
    nestmatrix_images::Emulator::new(image).map(|image| Emulator::Image(Box::new(image)))
}
