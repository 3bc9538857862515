//! Mutation testing of cells: each is booted again with its scenario or its stack damaged on purpose. Damage that goes
//! unnoticed shows a check that can't fail, or an expectation that anything would meet.

mod bearing;
mod damage;
mod mutants;
mod original;
mod outcome;
mod record;
mod sample;

pub use bearing::{ShownByRun, shown_by};
pub use damage::{LevelSetting, Mutation};
pub use mutants::{Check, Mutant, Mutants, mutants_of};
pub use original::Original;
pub use outcome::{CellMutation, MutantResult, MutationTally, Outcome, Rule, judge};
pub(super) use record::is_of_mutants;
pub use record::{MUTATIONS, mutants_folder, mutants_run, read_mutations, write_mutations};
pub use sample::sample;
