//! A run: cells are planned, booted and judged, and the verdict of each is recorded as soon as it is known.

mod attempts;
mod cell;
mod demand;
mod emulator_errata;
mod event;
mod execute;
mod likeness;
mod native;
mod panic;
mod plan;
mod reproduction;
mod requirement;
mod schedule;
mod undelivered;
mod verdict;
mod versions;

pub(crate) use emulator_errata::why_barred;
pub use event::{RunEvent, RunListener};
pub use execute::{RunError, Setting, execute, host_isa, images_of};
pub(crate) use execute::{emulator_is_l0, emulator_recipe, runs_outermost};
pub use native::{MachineTrial, NativeMetal, NativeMetals, NoGuest, Trial, TrialSeen};
pub(crate) use plan::touches_l0;
pub use plan::{
    Alternative, Fate, MetalChoice, PlanOptions, Planned, PlannedLevel, PlannedProfile, RunPlan, supply,
};
pub use requirement::{Feature, Requirement, Runner};
pub use undelivered::Rerouted;
pub use verdict::Verdict;
