//! What one of the user's media is good for.

use std::path::PathBuf;

use nestmatrix_images::{Catalog, MediumState, MediumUse};
use nestmatrix_model::{Isa, PROGRAM};
use serde::Serialize;

use crate::scenario::{NOT_YET_RUN, is_tried};

/// One medium, for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MediumRow {
    /// Its name.
    pub medium: String,
    /// The instruction set of its programs.
    pub architecture: Isa,
    /// Name of the image of its disk.
    pub image: String,
    /// The recipe of that image; none if no recipe serves its system.
    pub recipe: Option<String>,
    /// The file.
    pub file: PathBuf,
    /// Why no level can boot it, if so.
    pub unusable: Option<String>,
    /// Whether its file has another time than when it was added.
    pub touched: bool,
    /// `prepared`, `not prepared`, `needs no preparation` or `no recipe`.
    pub preparation: &'static str,
    /// Why a level that boots it can't run guests, if so.
    pub innermost_only: Option<String>,
    /// The command that changes this, if there is one.
    pub remedy: Option<String>,
    /// Whether the authors of nestmatrix have not yet run its system.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub not_yet_run: bool,
}

impl MediumRow {
    /// Every medium of a catalog.
    pub fn all(catalog: &Catalog) -> Vec<Self> {
        catalog.uses_of_media().iter().map(Self::new).collect()
    }

    /// A medium.
    pub fn new(of: &MediumUse<'_>) -> Self {
        Self {
            medium: of.medium.name(),
            architecture: of.medium.isa(),
            image: of.image(),
            recipe: of.recipe.map(|recipe| recipe.name().to_owned()),
            file: of.medium.file().to_owned(),
            unusable: of.unusable(),
            touched: matches!(of.state, MediumState::Touched),
            preparation: of.preparation(),
            innermost_only: of.innermost_only.as_ref().map(ToString::to_string),
            remedy: of.innermost_only.as_ref().and_then(|why| why.remedy()),
            not_yet_run: !is_tried(&of.medium.os().id),
        }
    }

    /// `unusable`, or whether it is prepared.
    pub fn state(&self) -> &'static str {
        if self.unusable.is_some() { "unusable" } else { self.preparation }
    }

    /// What restricts its use, with the commands that help.
    pub fn notes(&self) -> Vec<String> {
        if let Some(why) = &self.unusable {
            return vec![format!("can't be used: {why}")];
        }
        let touched = self.touched.then(|| {
            format!(
                "its file has another time than when it was added, so its next use compares its SHA-256 (`{PROGRAM} media check \
                 {}` does it now)",
                self.medium
            )
        });
        let innermost_only = self.innermost_only.as_ref().map(|why| {
            let remedy = self.remedy.as_ref().map_or(String::new(), |remedy| format!(" (`{remedy}`)"));
            format!("can only be the innermost level: {why}{remedy}")
        });
        let not_yet_run = self.not_yet_run.then(|| NOT_YET_RUN.to_owned());
        touched.into_iter().chain(innermost_only).chain(not_yet_run).collect()
    }

    /// What is known about its disk, as the rest of a line that names it.
    pub fn describe(&self) -> String {
        let mut parts = vec![format!("medium {}", self.medium)];
        parts.extend(self.unusable.is_none().then(|| self.preparation.to_owned()));
        parts.extend(self.notes());
        parts.join("; ")
    }
}
