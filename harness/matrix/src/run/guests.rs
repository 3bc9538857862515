//! Guests of the user in a plan: whether a cell's guest can boot, how its level is marked, and the image that it boots.

use nestmatrix_images::{AddedGuest, Catalog, LocalGuest, Product};
use nestmatrix_model::{Fidelity, Guest, PROGRAM};

use super::fate::Planner;
use super::provision::Images;
use super::{Fate, RunPlan};
use crate::records::SkipReason;
use crate::scenario::{Cell, ImageChoice, LevelSpec};

impl Planner<'_> {
    /// Why the guest that a cell boots can't boot here, if so.
    pub(super) fn without_guest(&self, cell: &Cell) -> Option<SkipReason> {
        let guest = cell.guest()?;
        let why = self.why_no_guest(cell, guest)?;
        Some(SkipReason::NoPayload { payload: guest.payload.clone(), why })
    }

    fn why_no_guest(&self, cell: &Cell, Guest { payload, ready }: &Guest) -> Option<String> {
        // Without images nothing is known of guests either.
        if self.options.suppose_images {
            return None;
        }
        let Some(added) = added(self.catalog, payload) else {
            let is_program = self.catalog.programs().iter().any(|program| program.name() == payload);
            let what = if is_program { "is a program, and no guest" } else { "was not added" };
            return Some(format!(
                "payload {payload} {what} (add a guest: `{PROGRAM} payloads add {payload} --kernel FILE --initramfs FILE`)"
            ));
        };
        if ready.is_some() && added.initramfs().is_none() {
            return Some(format!(
                "payload {payload} has no initramfs, so nothing of it runs that could print what `ready` waits for"
            ));
        }
        let (isa, innermost) = (cell.architecture.isa(), cell.innermost());
        match LocalGuest::read(added, self.catalog) {
            Err(e) => Some(format!("payload {payload}: {}", with_cause(&e))),
            Ok(guest) => guest.kernel().filter(|kernel| kernel.isa() != isa).map(|kernel| {
                format!("payload {payload}: its kernel is for {}, and {innermost} is {isa}", kernel.isa())
            }),
        }
    }

    /// The choice of an image for a level. If the level boots a guest of the user, it is not what the image says.
    pub(super) fn marked(&self, choice: ImageChoice, spec: &LevelSpec) -> ImageChoice {
        let Some(Guest { payload, .. }) = &spec.settings.guest else { return choice };
        let files = added(self.catalog, payload).into_iter().flat_map(AddedGuest::files);
        let files: Vec<_> = files.filter_map(|file| Some(file.file_name()?.to_string_lossy())).collect();
        let files = if files.is_empty() { String::new() } else { format!(" ({})", files.join(", ")) };
        let reason = format!("it boots your payload {payload}{files}");
        let reason = match choice.reason {
            Some(before) => format!("{reason}; {before}"),
            None => reason,
        };
        let image = format!("{}+{payload}", choice.image);
        ImageChoice { image, fidelity: Fidelity::StandIn, reason: Some(reason) }
    }
}

fn added<'c>(catalog: &'c Catalog, payload: &str) -> Option<&'c AddedGuest> {
    catalog.guests().iter().map(AsRef::as_ref).find(|guest: &&AddedGuest| guest.name() == payload)
}

/// Lets each level with a guest of the user boot an image that is derived from its own, which is among `images`. What can't be derived
/// is an error of the cells that need it.
pub(super) fn derive(plan: &mut RunPlan, catalog: &mut Catalog, images: &mut Images) {
    for planned in &mut plan.cells {
        let Fate::Boots { levels, .. } = &mut planned.fate else { continue };
        for level in levels {
            let (Some(guest), Some(key)) = (&level.spec.settings.guest, &mut level.boots) else { continue };
            let Ok(image) = images.get(key).cloned() else { continue };
            let derived = (|| {
                let base = catalog.get(&key.0).ok_or_else(|| format!("there is no recipe {}", key.0))?;
                let added = added(catalog, &guest.payload).ok_or("it was not added")?;
                let local = LocalGuest::read(added, catalog).map_err(|e| with_cause(&e))?;
                local.recipe(base, &image, catalog).map_err(|e| with_cause(&e))
            })();
            match derived {
                Ok(recipe) => {
                    recipe.name().clone_into(&mut key.0);
                    catalog.add(recipe);
                }
                Err(why) => {
                    *key = (format!("{}+guest-{}", key.0, guest.payload), Product::Minimal);
                    images.refuse(key, format!("payload {}: {why}", guest.payload));
                }
            }
        }
    }
}

/// An error with its cause.
fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
