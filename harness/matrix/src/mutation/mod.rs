//! Mutation testing of cells: each is booted again with its scenario or its stack damaged on purpose. Damage that goes
//! unnoticed shows a check that can't fail, or an expectation that anything would meet.

mod bearing;
mod damage;
mod judge;
mod mutants;
mod sample;

pub use bearing::{ShownByRun, shown_by};
pub use damage::{LevelSetting, Mutation};
pub use judge::judge;
pub use mutants::{Check, Mutant, Mutants, mutants_of};
pub use sample::sample;
