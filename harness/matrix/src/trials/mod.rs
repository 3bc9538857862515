//! Trials of other versions: a cell is booted with another kernel or another QEMU at one level, and a search by halving finds the
//! version that changed its verdict, or the outcome of one of its test cases.

mod bisection;
mod case;
mod substitute;
mod version_trial;

pub use bisection::{Bisection, Finding, TrialVerdict};
pub use case::{Behaviour, CaseError, TriedCase, case_names, find_case, no_such_case};
pub use substitute::{Substitute, substitute};
pub use version_trial::{NOT_TRIED, TriedVersion, VersionTrial, changes, exit_code_of_trial};
