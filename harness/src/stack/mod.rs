//! Stacks: levels that are booted inside each other, what is watched while they do, and the evidence that they give.

mod boot;
mod evidence;
mod limits;
mod plan;
mod report;
mod stop;
mod watch;

pub use boot::{LevelSeen, Observation, StageTime, boot};
pub use evidence::{Doubt, Evidence, Gathered};
pub use limits::{Limit, Limits};
pub use plan::{LevelPlan, Metal, StackPlan};
pub use report::LeafReport;
pub use stop::{Blame, Stop};
pub use watch::{Cancellation, StageListener};
