//! Which cells boot before all images are built, so that a new machine soon has its first verdict.

use std::collections::BTreeSet;

use nestmatrix_images::Product;
use nestmatrix_stack::Metal;

use super::outermost::outermost_image;
use super::{Fate, Planned, RunError, RunPlan, Setting};

/// What is built, by recipe: all products of a recipe are built together.
type Recipes = BTreeSet<String>;

/// The part of a plan that needs the fewest new images, if others need more. Cells on native metal are no part of it, since they should
/// have the machine to themselves, and cells with a disk are none, since it takes minutes to prepare.
///
/// # Errors
/// There is no emulator.
pub(super) fn first_cells(plan: &RunPlan, setting: &Setting) -> Result<Option<RunPlan>, RunError> {
    if setting.store.is_offline() {
        // Nothing is built.
        return Ok(None);
    }
    let cells = plan.boots().map(|planned| Ok((planned, needs(planned, plan, setting)?)));
    let cells: Vec<(&Planned, Needs)> = cells.collect::<Result<_, RunError>>()?;
    let first = choose(&cells).map(|first| first.into_iter().cloned().collect());
    Ok(first.map(|cells| RunPlan { cells, ..plan.clone() }))
}

/// What a cell needs before it boots.
struct Needs {
    /// The recipes that are built for it.
    new: Recipes,
    /// Whether it can be one of the first.
    may_be_first: bool,
}

fn needs(planned: &Planned, plan: &RunPlan, setting: &Setting) -> Result<Needs, RunError> {
    let Setting { catalog, store, native_qemu, .. } = setting;
    let alone = RunPlan { cells: vec![planned.clone()], ..plan.clone() };
    let emulator = outermost_image(planned, catalog, native_qemu.is_some())?;
    let images: Vec<(String, Product)> = alone.images().into_iter().chain(emulator).collect();
    let is_new = |(name, product): &&(String, Product)| {
        catalog.get(name).is_some_and(|recipe| store.recorded(recipe, *product).is_none())
    };
    let emulated = matches!(planned.fate, Fate::Boots { metal: Metal::Emulated, .. });
    let has_disk = images.iter().any(|(_, product)| *product == Product::Disk);
    let new = images.iter().filter(is_new).map(|(name, _)| name.clone()).collect();
    Ok(Needs { new, may_be_first: emulated && !has_disk })
}

/// The cells that need nothing but what the one with the fewest needs has built, if others need more.
fn choose<T: Copy>(cells: &[(T, Needs)]) -> Option<Vec<T>> {
    let candidates = cells.iter().filter(|(_, needs)| needs.may_be_first);
    let fewest = candidates.clone().map(|(_, needs)| &needs.new).min_by_key(|new| new.len())?;
    let is_ready = |needs: &Needs| needs.new.is_subset(fewest);
    let others_wait = cells.iter().any(|(_, needs)| !is_ready(needs));
    others_wait.then(|| candidates.filter(|(_, needs)| is_ready(needs)).map(|(cell, _)| *cell).collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::everything_is_there(&[("a", ""), ("b", "")], &[])]
    #[case::all_need_the_same(&[("a", "qemu 13"), ("b", "13 qemu")], &[])]
    #[case::the_fewest(&[("a", "qemu 12 13"), ("b", "qemu 13"), ("c", "qemu 13 12")], &["b"])]
    #[case::with_those_that_need_no_more(&[("a", "qemu 13"), ("b", "bochs 13"), ("c", "qemu")], &["c"])]
    #[case::of_those_that_need_nothing(&[("a", ""), ("b", "bochs"), ("c", "")], &["a", "c"])]
    #[case::on_native_metal(&[("a", "native"), ("b", "qemu 13"), ("c", "qemu 12 13")], &["b"])]
    #[case::on_native_metal_alone(&[("a", "native"), ("b", "native 13")], &[])]
    fn the_cells_that_need_the_fewest_new_images_are_first_if_others_need_more(
        #[case] cells: &[(&str, &str)],
        #[case] expected: &[&str],
    ) {
        let needs = |words: &str| Needs {
            new: words.split_whitespace().map(str::to_owned).collect(),
            may_be_first: !words.contains("native"),
        };
        let cells: Vec<_> = cells.iter().map(|(cell, words)| (*cell, needs(words))).collect();
        assert_eq!(choose(&cells).unwrap_or_default(), expected);
    }
}
