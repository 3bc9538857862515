//! Images that can't be built because the archive does not deliver their packages. Neither this machine nor the document is at
//! fault, so the cells that boot them use the next best image where there is one, and are skipped with the reason otherwise.

use std::fmt;

use super::{Fate, Planned, PlannedLevel, RunPlan};
use crate::records::UndeliveredImage;

/// How many cells of a plan changed because an image is not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rerouted {
    /// They boot another image.
    pub replaced: usize,
    /// They are skipped.
    pub skipped: usize,
}

impl fmt::Display for Rerouted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = |count: usize, one: &str, more: &str| match count {
            1 => format!("1 cell {one}"),
            _ => format!("{count} cells {more}"),
        };
        let replaced =
            (self.replaced > 0).then(|| cells(self.replaced, "boots another image", "boot another image"));
        let skipped = (self.skipped > 0).then(|| cells(self.skipped, "is skipped", "are skipped"));
        f.write_str(&replaced.into_iter().chain(skipped).collect::<Vec<_>>().join(", "))
    }
}

impl RunPlan {
    /// Removes the last of these images from the plan: each cell that boots it boots another one that is not among them, or is
    /// skipped.
    pub(super) fn do_without(&mut self, undelivered: &[UndeliveredImage]) -> Rerouted {
        let mut rerouted = Rerouted::default();
        let Some(missing) = undelivered.last() else { return rerouted };
        for planned in &mut self.cells {
            let Fate::Boots { levels, .. } = &mut planned.fate else { continue };
            if !levels.iter().any(|level| boots(level, &missing.recipe)) {
                continue;
            }
            if replace(levels, missing, undelivered) {
                rerouted.replaced += 1;
            } else {
                planned.fate = Fate::Skipped(vec![missing.skip_reason()]);
                rerouted.skipped += 1;
            }
        }
        rerouted
    }

    /// Skips every cell that `needs` this image as its emulator. Returns their number.
    pub(super) fn skip_without_emulator(
        &mut self,
        missing: &UndeliveredImage,
        needs: impl Fn(&Planned) -> bool,
    ) -> usize {
        let mut skipped = 0;
        for planned in self.cells.iter_mut().filter(|planned| needs(planned)) {
            planned.fate = Fate::Skipped(vec![missing.skip_reason()]);
            skipped += 1;
        }
        skipped
    }
}

fn boots(level: &PlannedLevel, recipe: &str) -> bool {
    level.boots.as_ref().is_some_and(|(boots, _)| boots == recipe)
}

/// Replaces the missing system by the same other one on all levels that boot it, since the document means one product there.
/// Returns whether there is one.
fn replace(
    levels: &mut [PlannedLevel],
    missing: &UndeliveredImage,
    undelivered: &[UndeliveredImage],
) -> bool {
    let Some(first) = levels.iter().find(|level| boots(level, &missing.recipe)) else { return false };
    let system = first.choice.image.clone();
    let delivered = |recipe: &str| undelivered.iter().all(|image| image.recipe != recipe);
    let affected = |level: &PlannedLevel| level.boots.is_some() && level.choice.image == system;
    let serves = |level: &PlannedLevel, other: &str| {
        level.others.iter().position(|found| found.choice.image == other && delivered(&found.boots.0))
    };
    let mut others = first.others.iter().map(|other| other.choice.image.clone());
    let chosen = others
        .find(|other| levels.iter().filter(|level| affected(level)).all(|l| serves(l, other).is_some()));
    let Some(chosen) = chosen else { return false };
    for level in levels.iter_mut().filter(|level| affected(level)) {
        let Some(at) = serves(level, &chosen) else { continue };
        let other = level.others.remove(at);
        level.choice = other.choice;
        level.choice.reason = Some(missing.replacement_reason(level.choice.reason.as_deref()));
        level.boots = Some(other.boots);
    }
    true
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use nestmatrix_images::Catalog;

    use nestmatrix_images::Undelivered;
    use nestmatrix_model::Fidelity;

    use super::*;
    use crate::one_scenario;
    use crate::records::in_one_line;
    use crate::run::{MetalChoice, NativeMetals, PlanOptions};
    use crate::scenario::{Filter, Matrix};

    const RHEL_8: &str = "rhel-8-preview/amd/rhel-8.2+/rhel-8.2+/rhel-8.2+";
    const RHEL_10: &str = "rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+";

    /// A plan of these cells of the project.
    fn plan(cells: &[&str], options: &PlanOptions) -> RunPlan {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let matrix = Matrix::load(&project.join("scenarios")).unwrap();
        let catalog = Catalog::load(&project.join("images/recipes")).unwrap();
        let filter = Filter::parse(&cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()).unwrap();
        let cells = matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).cloned();
        RunPlan::new(cells, &matrix, &catalog, &NativeMetals::new(), options)
    }

    fn emulated() -> PlanOptions {
        PlanOptions { metal: MetalChoice::Emulated, ..PlanOptions::default() }
    }

    fn undelivered(recipe: &str) -> UndeliveredImage {
        let (suites, packages) =
            (vec!["trixie".to_owned()], vec!["libc6 2.41".to_owned(), "zlib1g 1".to_owned()]);
        UndeliveredImage::new(recipe, Undelivered { suites, packages, output: "404".to_owned() })
    }

    /// The images of the levels of the cell of this name, each with why it is used.
    fn levels(plan: &RunPlan, cell: &str) -> Vec<(String, String, String)> {
        let planned = plan.cells.iter().find(|planned| planned.cell.name.as_str() == cell).unwrap();
        let Fate::Boots { levels, .. } = &planned.fate else { panic!("{planned:#?}") };
        let text = |level: &PlannedLevel| {
            let (recipe, _) = level.boots.clone().unwrap();
            (level.choice.image.clone(), recipe, level.choice.reason.clone().unwrap())
        };
        levels.iter().map(text).collect()
    }

    #[test]
    fn a_cell_boots_the_other_stand_in_of_the_same_generation_at_all_its_levels_and_says_why() {
        let mut plan = plan(&[RHEL_8, RHEL_10], &emulated());
        assert!(levels(&plan, RHEL_8).iter().all(|(image, ..)| image == "debian-11"));
        let before = levels(&plan, RHEL_10);
        let rerouted = plan.do_without(&[undelivered("debian-11-amd64")]);
        assert_eq!(rerouted.to_string(), "1 cell boots another image");
        for (image, recipe, reason) in levels(&plan, RHEL_8) {
            assert_eq!((image.as_str(), recipe.as_str()), ("debian-12", "debian-12-amd64"));
            let why = "; used because there is no image debian-11-amd64: the archive lists 2 packages of trixie that it \
                       cannot deliver, such as libc6 2.41";
            assert!(reason.ends_with(why) && reason.len() > why.len(), "{reason}");
        }
        assert_eq!(levels(&plan, RHEL_10), before, "what does not boot it stays as it is");
    }

    #[test]
    fn a_stand_in_boots_for_a_rebuild_that_can_not_be_built_and_is_marked_as_one() {
        let systems = "[[system]]\nid = \"acme\"\nname = \"Acme\"\n\
                       [[system]]\nid = \"debian\"\nname = \"Debian\"\nrebuild-of = \"acme\"\n\
                       [[stand-in]]\nfor = \"acme 12\"\nimage = \"debian-13\"\nreason = \"the next one\"\n";
        let axes = "architecture = [\"amd\"]\nl0 = [\"acme 12\"]\nl1 = [\"acme 12\"]\n";
        let matrix = Matrix::load(one_scenario::folder(Some(systems), axes).path()).unwrap();
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/recipes");
        let catalog = Catalog::load(&recipes).unwrap();
        let cells = matrix.cells().to_vec();
        let mut plan = RunPlan::new(cells, &matrix, &catalog, &NativeMetals::new(), &emulated());
        let fidelities = |plan: &RunPlan| {
            let Fate::Boots { levels, .. } = &plan.cells[0].fate else { panic!("{plan:#?}") };
            levels.iter().map(|level| level.choice.fidelity).collect::<Vec<_>>()
        };
        assert_eq!(fidelities(&plan), [Fidelity::Rebuild; 2]);
        assert_eq!(plan.do_without(&[undelivered("debian-12-amd64")]).replaced, 1);
        assert_eq!(fidelities(&plan), [Fidelity::StandIn; 2]);
        for (image, recipe, reason) in levels(&plan, "s/amd/acme-12/acme-12") {
            assert_eq!((image.as_str(), recipe.as_str()), ("debian-13", "debian-13-amd64"));
            assert!(
                reason.starts_with("the next one; used because there is no image debian-12-amd64"),
                "{reason}"
            );
        }
    }

    #[test]
    fn a_cell_for_which_no_stand_in_is_left_is_skipped_with_the_reason() {
        let mut plan = plan(&[RHEL_8, RHEL_10], &emulated());
        let both = [undelivered("debian-11-amd64"), undelivered("debian-12-amd64")];
        plan.do_without(&both[..1]);
        assert_eq!(plan.do_without(&both), Rerouted { replaced: 0, skipped: 1 });
        let alone = [undelivered("debian-13-amd64")];
        assert_eq!(plan.do_without(&alone).to_string(), "1 cell is skipped");
        let skipped: Vec<_> =
            plan.skipped().map(|(cell, reasons)| (cell.name.as_str(), in_one_line(reasons))).collect();
        let reason = |recipe: &str| {
            format!(
                "no image {recipe}: the archive lists 2 packages of trixie that it cannot deliver, such as libc6 2.41"
            )
        };
        assert!(skipped.contains(&(RHEL_8, reason("debian-12-amd64"))), "{skipped:?}");
        assert!(skipped.contains(&(RHEL_10, reason("debian-13-amd64"))), "{skipped:?}");
        assert!(plan.images().is_empty());
    }

    #[test]
    fn a_stand_in_that_is_known_to_be_absent_too_is_not_tried() {
        let mut plan = plan(&[RHEL_8], &emulated());
        let both = [undelivered("debian-12-amd64"), undelivered("debian-11-amd64")];
        assert_eq!(plan.do_without(&both[..1]), Rerouted::default());
        assert_eq!(plan.do_without(&both), Rerouted { replaced: 0, skipped: 1 });
    }

    #[test]
    fn one_variant_of_a_system_that_is_absent_takes_its_levels_with_it() {
        let cell = "rhel-8-supported/intel/rhel-8.2+/rhel-8.2+/rhel-8.2+";
        let mut plan = plan(&[cell], &emulated());
        assert_eq!(levels(&plan, cell)[0].1, "debian-11-generic-amd64");
        plan.do_without(&[undelivered("debian-11-generic-amd64")]);
        let recipes: Vec<String> = levels(&plan, cell).into_iter().map(|(_, recipe, _)| recipe).collect();
        assert_eq!(recipes, ["debian-12-generic-amd64", "debian-12-amd64", "debian-12-amd64"]);
    }

    #[test]
    fn a_cell_without_its_emulator_is_skipped() {
        let mut plan = plan(&[RHEL_8, RHEL_10], &emulated());
        let needs = |planned: &Planned| planned.cell.name.as_str() == RHEL_8;
        assert_eq!(plan.skip_without_emulator(&undelivered("qemu-x86-amd64"), needs), 1);
        assert_eq!(plan.skipped().map(|(cell, _)| cell.name.as_str()).collect::<Vec<_>>(), [RHEL_8]);
    }
}
