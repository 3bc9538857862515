//! A run: plans, boots and judges cells, and records each verdict as soon as it is known.

mod attempts;
mod cell;
mod cell_folders;
mod demand;
mod disk_preparation;
mod emulator_errata;
mod event;
mod execute;
mod fate;
mod first_cells;
mod guest_volumes;
mod guests;
mod installed_emulator;
mod judged_cell;
mod l0_restoration;
mod level_images;
mod level_plan;
mod likeness;
mod machine_change;
mod machine_trial;
mod native;
mod nonce;
mod other_qemu;
mod outermost;
mod overlays;
mod panic;
mod plan;
mod progress;
mod provision;
mod ready_cell;
mod recorder;
mod reproduction;
mod requirement;
mod savable;
mod schedule;
mod setting;
mod snapshots;
mod start;
mod suites;
#[cfg(test)]
mod surroundings_tests;
mod tasks;
mod undelivered;
mod verdict;
mod versions;
#[cfg(test)]
mod windows_tests;
#[cfg(test)]
mod without_tools_tests;

pub use disk_preparation::{DiskPreparation, NotPrepared};
pub(crate) use emulator_errata::why_barred;
pub use event::{RunEvent, RunListener};
pub use execute::execute;
#[cfg(test)]
pub(crate) use installed_emulator::can_be_installed;
pub use installed_emulator::{installed_emulators, installed_programs, own_bochs};
pub use level_images::supply;
pub(crate) use machine_change::machine_change;
pub use machine_trial::{MachineTrial, NoGuest, TrialResult};
pub use native::{NativeMetal, NativeMetals};
pub use other_qemu::PlannedOtherQemu;
pub(crate) use outermost::{EmulatorSource, emulator_source, outermost_program};
pub use outermost::{NoEmulator, host_isa};
pub use plan::{Alternative, Fate, MetalChoice, PlanOptions, Planned, PlannedLevel, PlannedProfile, RunPlan};
pub use progress::Progress;
pub use provision::{builds_side_by_side, images_of};
pub(crate) use requirement::kind_of_guest;
pub use requirement::{Feature, Requirement, Runner};
pub use setting::{RunError, Setting};
pub use undelivered::Rerouted;
pub use verdict::Verdict;
