//! Which kinds of machines run which cells, for CI systems that give each kind its jobs.

mod jobs;
mod machines;
mod memory;

pub use jobs::{BadLabels, Job, Jobs, RunnerKind, architecture_labels, requirement};
pub use machines::{CellMachines, Machines};
