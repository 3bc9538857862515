//! Choosing cells by name: globs over the whole name, in which `*` also crosses `/`.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::cell::CellName;
use super::error::InputError;
use super::problem::InputProblem;

/// Which cells to take. A filter without globs takes them all, one with several takes the cells that match any.
#[derive(Debug, Clone)]
pub struct Filter {
    globs: Option<GlobSet>,
}

impl Filter {
    /// The filter made of these globs.
    ///
    /// # Errors
    /// The first glob that is empty, holds `..`, or is not a glob.
    pub fn parse(globs: &[String]) -> Result<Self, InputError> {
        let mut set = GlobSetBuilder::new();
        for text in globs {
            let wrong = |span, problem| InputError::at("filter", &text.as_str().into(), span, problem);
            if text.is_empty() {
                return Err(wrong(0..0, InputProblem::Empty { key: "filter" }));
            }
            if let Some(start) = text.find("..") {
                return Err(wrong(start..start + 2, InputProblem::ParentInFilter));
            }
            set.add(Glob::new(text).map_err(|error| wrong(0..text.len(), bad_glob(&error)))?);
        }
        let set = set.build().map_err(|error| InputError::of_file("filter", bad_glob(&error)))?;
        Ok(Self { globs: (!globs.is_empty()).then_some(set) })
    }

    /// The filter that takes every cell.
    pub fn all() -> Self {
        Self { globs: None }
    }

    /// Whether to take the cell of this name.
    pub fn matches(&self, name: &CellName) -> bool {
        self.globs.as_ref().is_none_or(|globs| globs.is_match(name.as_str()))
    }
}

fn bad_glob(error: &globset::Error) -> InputProblem {
    InputProblem::BadGlob(error.kind().to_string())
}
