//! Chooses cells by name: globs over the whole name, in which `*` also crosses `/`.

use globset::{Glob, GlobSet, GlobSetBuilder};

use nestmatrix_input::FileProblem;

use super::cell::CellName;
use super::input::InputError;
use super::problem::ScenarioProblem;
use super::profile::RunProfile;

/// A glob over the whole name of a cell.
#[derive(Debug, Clone)]
pub(super) struct CellGlob(GlobSet);

impl CellGlob {
    /// Reads a glob under `key`.
    pub(super) fn parse(key: &'static str, text: &str) -> Result<Self, ScenarioProblem> {
        if text.is_empty() {
            return Err(FileProblem::Empty { key }.into());
        }
        if text.contains("..") {
            return Err(ScenarioProblem::ParentInGlob);
        }
        // A set of one, since a glob's own matcher panics where the glob is too large.
        let set = Glob::new(text).and_then(|glob| GlobSetBuilder::new().add(glob).build());
        set.map(Self).map_err(|error| ScenarioProblem::BadGlob(error.kind().to_string()))
    }

    /// Whether it matches this name.
    pub(super) fn matches(&self, name: &CellName) -> bool {
        self.0.is_match(name.as_str())
    }
}

/// Which cells to take. A filter without globs takes them all, one with several takes the cells that match any.
#[derive(Debug, Clone)]
pub struct Filter {
    globs: Vec<CellGlob>,
    profile: Option<RunProfile>,
}

impl Filter {
    /// The filter made of these globs.
    ///
    /// # Errors
    /// The first glob that is empty, holds `..`, or is not a glob.
    pub fn parse(globs: &[String]) -> Result<Self, InputError> {
        let parse = |text: &String| {
            CellGlob::parse("filter", text).map_err(|problem| match text.find("..") {
                _ if text.is_empty() => InputError::of_argument(problem),
                Some(start) => InputError::in_argument(text, start..start + 2, problem),
                None => InputError::in_argument(text, 0..text.len(), problem),
            })
        };
        let globs = globs.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { globs, profile: None })
    }

    /// The filter for the cells that both this filter and the profile choose.
    #[must_use]
    pub fn within(self, profile: &RunProfile) -> Self {
        Self { profile: Some(profile.clone()), ..self }
    }

    /// The filter that matches every cell.
    pub fn all() -> Self {
        Self { globs: Vec::new(), profile: None }
    }

    /// Whether it matches the cell of this name.
    pub fn matches(&self, name: &CellName) -> bool {
        let of_profile = self.profile.as_ref().is_none_or(|profile| profile.takes(name));
        of_profile && (self.globs.is_empty() || self.globs.iter().any(|glob| glob.matches(name)))
    }
}
