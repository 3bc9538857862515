//! A command of the user in a level: the stack that it needs.

mod stack;

pub use crate::user_command::{CommandError, CopyArgument, UserCommand};
pub use stack::{NoStack, stack_for};
