//! Trials of other versions: a cell is booted with another kernel or another QEMU at one level, and a search by halving finds the
//! version that changed its verdict.

mod bisection;
mod substitute;
mod version_trial;

pub use bisection::{Bisection, Finding, TrialVerdict};
pub use substitute::{Substitute, substitute};
pub use version_trial::{NOT_TRIED, TriedVersion, VersionTrial, changes, exit_code_of_trial};
