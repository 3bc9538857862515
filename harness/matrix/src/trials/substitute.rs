//! Changes a plan so that its cells boot another kernel or another QEMU at a level, instead of the one in the level's image.

use std::collections::BTreeSet;

use nestmatrix_images::{Catalog, Error, Part, Progress, Recipe, Replacement, Store};
use nestmatrix_model::{Fidelity, LevelNumber};

use crate::records::SkipReason;
use crate::run::{Fate, RunPlan};
use crate::scenario::Family;

/// Another kernel or QEMU for a level.
#[derive(Debug, Clone)]
pub struct Substitute {
    /// The level.
    pub level: LevelNumber,
    /// What replaces a part of its image.
    pub replacement: Replacement,
}

impl RunPlan {
    /// The recipes of the images that cells boot at this level.
    pub fn recipes_at(&self, level: LevelNumber) -> BTreeSet<String> {
        let levels = self.cells.iter().filter_map(|planned| match &planned.fate {
            Fate::Boots { levels, .. } => levels.iter().find(|planned| planned.spec.level == level),
            Fate::Skipped(_) => None,
        });
        levels.filter_map(|level| Some(level.boots.as_ref()?.0.clone())).collect()
    }

    /// Makes each cell that boots `base` at this level boot the recipe that was derived from it.
    fn boot_instead(&mut self, level: LevelNumber, base: &str, derived: &Recipe, what: &str, reason: &str) {
        for planned in &mut self.cells {
            let Fate::Boots { levels, .. } = &mut planned.fate else { continue };
            for planned in levels.iter_mut().filter(|planned| planned.spec.level == level) {
                let Some((recipe, _)) = planned.boots.as_mut().filter(|(recipe, _)| recipe == base) else {
                    continue;
                };
                *recipe = derived.name().to_owned();
                // No recipe is derived from the other stand-ins.
                planned.others.clear();
                let choice = &mut planned.choice;
                choice.image = format!("{}+{what}", choice.image);
                // With a replaced part it is not the required system, whatever the rest of its image is.
                choice.reason = Some(match choice.reason.take() {
                    Some(before) => format!("{reason}; {before}"),
                    None => reason.to_owned(),
                });
                choice.fidelity = Fidelity::StandIn;
            }
        }
    }

    /// Skips the cells that have no such level, or boot nothing there.
    pub(crate) fn skip_without(&mut self, level: LevelNumber, part: Part) {
        for planned in &mut self.cells {
            let Fate::Boots { levels, .. } = &planned.fate else { continue };
            let found = levels.iter().find(|planned| planned.spec.level == level && planned.boots.is_some());
            let family = found.and_then(|planned| planned.spec.system.family);
            let why = if family == Some(Family::Windows) {
                match part {
                    Part::Kernel => format!("{level} has Windows, whose kernel can't be replaced"),
                    Part::Qemu => format!("{level} has Windows: there is no QEMU in it"),
                }
            } else if family == Some(Family::Wsl) {
                format!("{level} runs in WSL, which has its own kernel")
            } else if let (Part::Kernel, Some(guest)) =
                (part, found.and_then(|one| one.spec.settings.guest.as_ref()))
            {
                format!("{level} boots the payload {}, which says what its kernel is", guest.payload)
            } else if found.is_none() {
                format!("it boots no {level} that could have another {}", name(part))
            } else if part == Part::Qemu && planned.cell.innermost() == level {
                format!("{level} runs no guest: there is no QEMU in it")
            } else {
                continue;
            };
            planned.fate = Fate::Skipped(vec![SkipReason::NoSuchPart { why }]);
        }
    }
}

/// Puts substitutes into a plan, and the recipes for them into the catalog. Blocks while images are built that recipes are
/// derived from.
///
/// # Errors
/// Such an image is not available, or the substitute does not fit it.
pub fn substitute(
    plan: &mut RunPlan,
    substitutes: &[Substitute],
    catalog: &mut Catalog,
    store: &Store,
    progress: &dyn Progress,
) -> Result<(), Error> {
    for Substitute { level, replacement } in substitutes {
        let part = replacement.part();
        plan.skip_without(*level, part);
        for base in plan.recipes_at(*level) {
            let Some(recipe) = catalog.get(&base).cloned() else { continue };
            let derived = store.derive(&recipe, replacement.clone(), catalog, progress)?;
            let local = matches!(replacement, Replacement::LocalKernel(_));
            let what = if local { "local-kernel" } else { name(part) };
            let (version, place) = (replacement.version(), replacement.place());
            let reason = match part {
                Part::Kernel => format!("its kernel is not its own but {version} ({place})"),
                Part::Qemu => format!("the QEMU in it is not its own but {version} ({place})"),
            };
            plan.boot_instead(*level, &base, &derived, what, &reason);
            catalog.add(derived);
        }
    }
    Ok(())
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Kernel => "kernel",
        Part::Qemu => "qemu",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::run::{MetalChoice, NativeMetals, PlanOptions};
    use crate::scenario::{Filter, Matrix};

    /// A plan of the project's own cells that match.
    fn plan(cells: &str) -> RunPlan {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let matrix = Matrix::load(&project.join("scenarios")).unwrap();
        let catalog = Catalog::load(&project.join("images/recipes")).unwrap();
        let filter = Filter::parse(&[cells.to_owned()]).unwrap();
        let cells = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).cloned();
        let options = PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() };
        RunPlan::new(cells, &matrix, &catalog, &NativeMetals::new(), &options)
    }

    const AMD: &str = "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+";

    fn skipped(plan: &RunPlan) -> Vec<String> {
        plan.skipped().flat_map(|(_, reasons)| reasons.iter().map(ToString::to_string)).collect()
    }

    #[test]
    fn recipes_are_those_of_the_level_on_its_metal() {
        let level = LevelNumber::ALL;
        let plan = plan("rhel-10-preview/intel/rhel-10.0+/rhel-10.0+/rhel-10.0+");
        assert_eq!(plan.recipes_at(level[0]), BTreeSet::from(["debian-13-generic-amd64".to_owned()]));
        assert_eq!(plan.recipes_at(level[1]), BTreeSet::from(["debian-13-amd64".to_owned()]));
        assert!(plan.recipes_at(level[3]).is_empty());
    }

    #[test]
    fn a_cell_without_such_a_part_is_skipped_and_not_run_as_it_is() {
        let level = LevelNumber::ALL;
        let mut without_l3 = plan(AMD);
        without_l3.skip_without(level[3], Part::Kernel);
        assert_eq!(skipped(&without_l3), ["it boots no L3 that could have another kernel"]);
        let mut without_guest = plan(AMD);
        without_guest.skip_without(level[2], Part::Qemu);
        assert_eq!(skipped(&without_guest), ["L2 runs no guest: there is no QEMU in it"]);
        let mut fits = plan(AMD);
        fits.skip_without(level[2], Part::Kernel);
        fits.skip_without(level[1], Part::Qemu);
        assert!(skipped(&fits).is_empty());
    }
}
