//! Every kind of error in recipes, and what can be done about it.

use nestmatrix_input::{FileProblem, Problem};
use nestmatrix_model::UnknownWord;
use std::io;
use std::path::PathBuf;

/// The folder whose files are examples of recipes.
const EXAMPLES: &str = "images/recipes";

/// An error in a recipe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeProblem {
    /// What can be wrong with a file whatever it holds.
    #[error(transparent)]
    File(#[from] FileProblem),
    /// A file that goes into an initramfs.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        error: io::Error,
    },
    /// An image that boots, without a kernel.
    #[error("the recipe has no [kernel]")]
    NoKernel,
    /// A recipe without a product.
    #[error("the recipe makes no image")]
    NoProduct,
}

impl From<UnknownWord> for RecipeProblem {
    fn from(UnknownWord { what, given, known }: UnknownWord) -> Self {
        Self::File(FileProblem::UnknownWord { what, given, known })
    }
}

impl Problem for RecipeProblem {
    fn help(&self) -> String {
        match self {
            Self::File(problem) => problem.help(EXAMPLES),
            Self::Unreadable { .. } => "name a text file, relative to the folder of the recipe".into(),
            Self::NoKernel => format!("add `[kernel]`; see {EXAMPLES}"),
            Self::NoProduct => format!("add `[hypervisor]`, `[minimal]` or `[emulator]`; see {EXAMPLES}"),
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::File(problem) => problem.label(),
            Self::NoKernel => "this image boots one",
            Self::Unreadable { .. } | Self::NoProduct => "here",
        }
    }
}
