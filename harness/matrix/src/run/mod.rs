//! A run: cells are planned, booted and judged, and the verdict of each is recorded as soon as it is known.

mod attempts;
mod cell;
mod demand;
mod emulator_errata;
mod event;
mod execute;
mod judged_cell;
mod likeness;
mod native;
mod nonce;
mod outermost;
mod panic;
mod plan;
mod provision;
mod ready_cell;
mod recorder;
mod reproduction;
mod requirement;
mod schedule;
mod setting;
mod snapshots;
mod start;
mod tasks;
mod undelivered;
mod verdict;
mod versions;

pub(crate) use emulator_errata::why_barred;
pub use event::{RunEvent, RunListener};
pub use execute::execute;
pub use native::{MachineTrial, NativeMetal, NativeMetals, NoGuest, Trial, TrialSeen};
pub use outermost::host_isa;
pub(crate) use outermost::{emulator_recipe, outermost_program};
pub(crate) use plan::touches_l0;
pub use plan::{
    Alternative, Fate, MetalChoice, PlanOptions, Planned, PlannedLevel, PlannedProfile, RunPlan, supply,
};
pub use provision::images_of;
pub use requirement::{Feature, Requirement, Runner};
pub use setting::{RunError, Setting};
pub use undelivered::Rerouted;
pub use verdict::Verdict;
