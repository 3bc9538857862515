//! A run: cells are planned, booted and judged, and what came of each is recorded as it is known.

mod attempts;
mod bisection;
mod cell;
mod comparison;
mod demand;
mod emulator_errata;
mod event;
mod execute;
mod jobs;
mod known;
mod machines;
mod merge;
mod mutation;
mod native;
mod overview;
mod panic;
mod past;
mod plan;
mod record;
mod reproduction;
mod requirement;
mod resume;
mod schedule;
mod scratch;
mod shard;
mod skip;
mod substitute;
mod trial;
mod undelivered;
mod verdict;

pub use bisection::{Bisection, Finding, Tried};
pub use comparison::{Change, Comparison};
pub use event::{RunEvent, RunListener};
pub(crate) use execute::emulator_recipe;
pub use execute::{Outcome, RunError, Setting, execute, host_isa, images_of};
pub use jobs::{BadLabels, Job, Jobs, RunnerKind, requirement};
pub use known::Known;
pub use machines::{CellMachines, Machines};
pub use merge::{Merge, MergeError, Merged, MergedRun};
pub use mutation::{
    CellMutation, Check, LevelSetting, MUTATIONS, Mutant, MutantResult, Mutants, Mutation, MutationTally,
    Original, Outcome as MutantOutcome, Rule, ShownByRun, judge, mutants_folder, mutants_of, mutants_run,
    read_mutations, sample, shown_by, write_mutations,
};
pub use native::{MachineTrial, NativeMetal, NativeMetals, NoGuest, Trial, TrialSeen};
pub use overview::{OtherVerdict, Overview, OverviewCell, OverviewRun};
pub use past::{PastRun, PastRunError};
pub use plan::{
    Alternative, Fate, MetalChoice, PlanOptions, Planned, PlannedLevel, PlannedProfile, RunPlan, supply,
};
pub use record::{
    Attempt, CellRecord, FORMAT, ImageRecord, LevelRecord, Machine, Purpose, Restored, RunFolder, RunRecord,
};
pub use requirement::{Feature, Requirement, Runner};
pub use resume::{CutOff, ResumeError, Resumed, Resumption};
pub use scratch::Scratch;
pub use shard::{Durations, NoShard, Part, Shard, division, durations};
pub use skip::{SkipReason, in_one_line};
pub use substitute::{Substitute, substitute};
pub use trial::{NOT_TRIED, TriedVersion, VersionTrial, changes, exit_code_of_trial};
pub use undelivered::{Rerouted, UndeliveredImage};
pub use verdict::{Tally, Verdict, VerdictWord};
