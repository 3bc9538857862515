//! Trials of a cell with something else in it: another kernel or another QEMU at one level, where a search by halving finds the
//! version that changed its verdict or the outcome of one of its test cases, and each CPU model that its innermost level can have.

mod bisection;
mod case;
mod cpu_sweep;
mod substitute;
mod version_trial;

pub use bisection::{Bisection, Finding, TrialVerdict};
pub use case::{Behaviour, CaseError, TriedCase, case_names, find_case, no_such_case};
pub(crate) use cpu_sweep::original_of_sweep;
pub use cpu_sweep::{BadModelGlob, ModelFilter, cpu_sweep, why_no_cpu_sweep};
pub use substitute::{Substitute, substitute};
pub use version_trial::{NOT_TRIED, TriedVersion, VersionTrial, changes, exit_code_of_trial};
