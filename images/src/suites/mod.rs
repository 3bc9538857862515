//! What the user added to run in levels: test suites, programs and guests, and where they are. Nothing of a suite is part of this program.

mod guest;
mod program;
mod registry;
mod selftests;
mod unit_tests;

pub use guest::AddedGuest;
pub use program::{AddedFile, AddedProgram, is_program_name};
pub use registry::{BuiltSuite, Suites};
pub use unit_tests::{Needs, UnitTest};
