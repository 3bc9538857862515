//! A cell without nestmatrix: a shell script that boots the same stack with plain QEMU command lines, and a bundle of
//! everything that it needs, for a bug report.
//!
//! The command lines come from the same [`nestmatrix_vmm::qemu::Machine`]s that the harness starts, so the two can't diverge.
//! There are no guest agents: instead of asking one, the script types at a shell on the level's console.

mod bundle;
mod left_out;
mod outcome;
mod placement;
mod script;
mod stages;
mod words;

pub use bundle::{Bundle, BundleError, Bundled};
pub use outcome::Stopped;
pub use script::{FirmwareSummary, ImageName, LevelSummary, Reproduction};

/// The script's name in a cell's folder.
pub const SCRIPT: &str = "reproduce.sh";
