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
    /// A recipe without packages.
    #[error("the recipe has no packages")]
    NoPackages,
    /// A recipe with packages of two kinds.
    #[error("the recipe has both [packages] and [rpm]")]
    TwoKindsOfPackages,
    /// A disk of which it is not said whether it is prepared.
    #[error("the recipe must have either [disk.prepare], [disk.install] or `prepared = true`")]
    Preparation,
    /// A disk that is installed, and is not Windows', or the other way round.
    #[error("[disk.install] and `guest = \"windows\"` need each other")]
    WindowsInstallation,
    /// A name of no CPU property for Hyper-V's interface.
    #[error("{0:?} is no enlightenment")]
    BadEnlightenment(String),
    /// A text that would be more than a text in an answer file.
    #[error("{0:?} cannot be in an answer file")]
    BadAnswer(String),
    /// A placeholder in an answer file that no value replaces.
    #[error("the answer file has the unknown placeholder {0}")]
    UnknownInAnswers(String),
    /// RPM packages or a disk without the systems that have them.
    #[error("the recipe has [rpm] or [disk] without [template]")]
    NoTemplate,
    /// A template of other packages than RPM packages.
    #[error("the recipe has [template] without [rpm] and [disk]")]
    NeedlessTemplate,
    /// A link of an addition without a target.
    #[error("{0:?} is no link")]
    BadLink(String),
    /// A script for Windows that is too long for a command line.
    #[error(
        "the script has {length} characters with the functions before it, more than the limit of {limit}"
    )]
    LongScript {
        /// Its length.
        length: usize,
        /// The largest length.
        limit: usize,
    },
    /// A placeholder about a guest, in a command that has none.
    #[error("{0} has no value here")]
    NoGuest(String),
    /// A Windows role of no use.
    #[error("the role has neither [start] nor [report]")]
    IdleRole,
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
            Self::BadLink(_) => "write `PATH=TARGET`".into(),
            Self::NoKernel => format!("add `[kernel]`; see {EXAMPLES}"),
            Self::NoPackages => format!("add `[packages]`, or `[rpm]` and `[template]`; see {EXAMPLES}"),
            Self::TwoKindsOfPackages => "remove one of them".into(),
            Self::Preparation => "say how the disk is prepared, or that it is already prepared".into(),
            Self::WindowsInstallation => "only Windows is installed; add or remove one of them".into(),
            Self::BadEnlightenment(_) => "name a CPU property of QEMU, such as `hv-relaxed`".into(),
            Self::BadAnswer(_) => "use letters, digits and dashes".into(),
            Self::UnknownInAnswers(_) => {
                "write `@IMAGE_INDEX@`, `@LANGUAGE@` or `@PRODUCT_KEY@`, or remove it".into()
            }
            Self::NoTemplate => format!("add `[template]`; see {EXAMPLES}/enterprise-linux-9-amd64.toml"),
            Self::NeedlessTemplate => {
                "remove `[template]`: sources are for RPM packages, and media for disks".into()
            }
            Self::LongScript { .. } => "make it shorter: a command line of Windows has a limit".into(),
            Self::NoGuest(_) => "only [start], [console], [state] and [stop] are about a guest".into(),
            Self::IdleRole => {
                "add `[report]` for an innermost level, or `[start]`, `[console]`, `[state]` and `[stop]`"
                    .into()
            }
            Self::NoProduct => {
                format!("add `[hypervisor]`, `[minimal]`, `[emulator]`, `[uefi]` or `[disk]`; see {EXAMPLES}")
            }
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::File(problem) => problem.label(),
            Self::NoKernel => "this image boots one",
            Self::Unreadable { .. }
            | Self::NoPackages
            | Self::TwoKindsOfPackages
            | Self::Preparation
            | Self::WindowsInstallation
            | Self::BadEnlightenment(_)
            | Self::BadAnswer(_)
            | Self::UnknownInAnswers(_)
            | Self::NoTemplate
            | Self::NeedlessTemplate
            | Self::BadLink(_)
            | Self::LongScript { .. }
            | Self::NoGuest(_)
            | Self::IdleRole
            | Self::NoProduct => "here",
        }
    }
}
