//! A cell without nestmatrix: a shell script that boots the same stack by plain QEMU command lines, and a bundle of all that it
//! needs, for a bug report.
//!
//! The command lines are those of the same [`nestmatrix_vmm::qemu::Machine`]s that the harness starts, for other hosts, so the two can't
//! come apart. There are no guest agents: what the harness has them do is typed at a shell on the level's console.

mod bundle;
mod outcome;
mod placement;
mod script;
mod stages;
mod words;

pub use bundle::{Bundle, BundleError, Bundled};
pub use outcome::Stopped;
pub use script::{ImageName, LevelSummary, Reproduction};

/// The script's name in a cell's folder.
pub const SCRIPT: &str = "reproduce.sh";
