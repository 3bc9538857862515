//! A command of the user in a level: which stack it needs, and what of this machine it needs there.

mod command;
mod libraries;
mod stack;

pub use command::{CommandError, CopyArgument, UserCommand};
pub use stack::{NoStack, stack_for};
