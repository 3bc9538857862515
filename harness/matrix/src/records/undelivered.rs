//! Images that can't be built because the archive does not deliver their packages, as a run's record names them.

use std::fmt;

use nestmatrix_images::Undelivered;
use serde::{Deserialize, Serialize};

use super::SkipReason;

/// An image whose packages the archive does not deliver: one entry of `undelivered` in `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndeliveredImage {
    /// The recipe.
    pub recipe: String,
    /// The suites that list the packages.
    pub suites: Vec<String>,
    /// Name and version of each package.
    pub packages: Vec<String>,
    /// Everything that apt wrote about it.
    pub output: String,
}

impl UndeliveredImage {
    /// The image of this recipe.
    pub fn new(recipe: &str, Undelivered { suites, packages, output }: Undelivered) -> Self {
        Self { recipe: recipe.to_owned(), suites, packages, output }
    }

    /// Why a cell that needs it is skipped.
    pub(crate) fn skip_reason(&self) -> SkipReason {
        SkipReason::Undelivered { image: self.to_string() }
    }

    /// Why a level boots another image.
    pub(crate) fn replacement_reason(&self, reason: Option<&str>) -> String {
        let instead = format!("used because there is no image {self}");
        reason.map_or(instead.clone(), |reason| format!("{reason}; {instead}"))
    }
}

impl fmt::Display for UndeliveredImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recipe, suites, packages, .. } = self.clone();
        write!(f, "{recipe}: {}", Undelivered { suites, packages, output: String::new() })
    }
}
