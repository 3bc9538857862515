//! What the user added to run in levels: test suites and programs, and where they are. Nothing of a suite is part of this program.

mod program;
mod registry;
mod selftests;
mod unit_tests;

pub use program::{AddedFile, AddedProgram, is_program_name};
pub use registry::{BuiltSuite, Suites};
pub use unit_tests::{Needs, UnitTest};
