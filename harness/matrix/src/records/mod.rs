//! The records of runs: how they are written, read, resumed, merged and compared. This module does not know how cells are booted, so
//! reports, histories and traces need only this one.

mod build;
mod cell_record;
mod comparison;
mod disk;
mod folder;
mod known;
mod machine;
mod merge;
mod mutant_outcome;
mod mutants;
mod original;
mod overview;
mod past_run;
mod resume;
mod run_record;
mod shard;
mod skip_reason;
mod tally;
mod undelivered;
mod verdict_word;

pub(crate) use build::build;
pub use cell_record::{Attempt, CellRecord, ImageRecord, LevelRecord, Restored};
pub use comparison::{Change, Comparison};
pub use disk::{DiskRecord, UefiRecord};
pub use folder::RunFolder;
pub(crate) use folder::now;
pub use known::Known;
pub use machine::Machine;
pub use merge::{Merge, MergeError, Merged, MergedRun};
pub use mutant_outcome::{CellMutation, MutantOutcome, MutantResult, MutationTally, Rule};
pub use mutants::{MUTATIONS, mutants_folder, mutants_run, read_mutations, write_mutations};
pub use original::Original;
pub(crate) use original::is_green;
pub use overview::{OtherVerdict, Overview, OverviewCell, OverviewRun};
pub use past_run::{PastRun, PastRunError};
pub(crate) use resume::Begun;
pub use resume::{CutOff, ResumeError, Resumed, Resumption};
pub use run_record::{FORMAT, Outcome, Purpose, RunRecord};
pub use shard::{Durations, NoShard, RunShard, Shard, division, durations};
pub(crate) use skip_reason::no_machine;
pub use skip_reason::{SkipReason, in_one_line};
pub use tally::Tally;
pub use undelivered::UndeliveredImage;
pub use verdict_word::VerdictWord;
