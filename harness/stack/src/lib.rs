//! Stacks: levels that are booted inside each other, what is watched while they do, and the evidence that they give.

mod aftermath;
mod boot;
mod cancellation;
mod clock;
mod console_view;
mod continuing;
mod emulator_errata;
mod evidence;
mod explain;
mod hold;
pub mod host;
mod leaf;
mod limits;
mod measure;
mod memory;
mod plan;
mod report;
mod second;
mod states;
mod steps;
mod stop;
mod symptom;
mod watch;

pub use boot::{Ascent, LevelSeen, Observation, StageListener, StageTime, Usage, boot};
pub use cancellation::Cancellation;
pub use continuing::Saver;
pub use evidence::{Doubt, Evidence, Gathered};
pub use hold::{Answer, Ask, Attendant, Held, HeldLevel, Request};
pub use limits::{Limit, Limits};
pub use measure::{LoopTime, Loops};
pub use plan::{LevelPlan, Metal, StackPlan};
pub use report::LeafReport;
pub use states::{Description, Draft, Finished, Inputs, Listed, Lookup, SavedState, StateKey, States};
pub use steps::StepSeen;
pub use stop::{Blame, Stop};
pub use symptom::{Contradiction, ExitStatus, NestedSetting, Symptom};
