//! `bench`: measures the yardsticks of docs/performance.md.

mod arguments;
mod figures;
mod findings;
mod harness_alone;
mod records;
mod rounds;
mod stacks;

pub use arguments::{Bench, Yardstick};
pub use rounds::run;
