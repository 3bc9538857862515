//! `bench`: measures the yardsticks of docs/performance.md.

mod figures;
mod findings;
mod harness_alone;
mod records;
mod rounds;
mod stacks;

pub use rounds::run;
