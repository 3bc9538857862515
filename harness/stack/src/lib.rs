//! Stacks: levels that are booted inside each other, what is watched while they do, and the evidence that they give.

mod boot;
mod cancellation;
mod clock;
mod closing_report;
mod console_view;
mod emulator_errata;
mod evidence;
mod explain;
pub mod host;
mod leaf;
mod limits;
mod measure;
mod memory;
mod pause;
mod plan;
mod report;
mod restore;
mod second_machine;
mod snapshots;
mod steps;
mod stop;
mod symptom;
mod watch;

pub use boot::{BootRequest, LevelFacts, Observation, StageListener, StageTime, Usage, boot};
pub use cancellation::Cancellation;
pub use evidence::{Evidence, Measurements, MissingProof};
pub use limits::{Limit, Limits};
pub use measure::{LoopTime, Loops};
pub use pause::{Answer, Ask, Inspector, PausedLevel, PausedStack, Request};
pub use plan::{LevelPlan, Metal, StackPlan};
pub use report::InnermostReport;
pub use restore::SnapshotSaver;
pub use snapshots::{
    Description, Draft, Finished, Inputs, Listed, Lookup, Snapshot, SnapshotCache, SnapshotKey,
};
pub use steps::StepRecord;
pub use stop::{Blame, Stop};
pub use symptom::{Contradiction, ExitStatus, NestedSetting, Symptom};
