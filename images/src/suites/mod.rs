//! Test suites that the user built: where they are, and which tests they have. Nothing of a suite is part of this program.

mod registry;
mod unit_tests;

pub use registry::{BuiltSuite, Suites};
pub use unit_tests::{Needs, UnitTest};
