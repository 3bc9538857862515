//! A command or a program of the user in a level: which stack it needs, and what of this machine it needs there.

mod command;
mod libraries;
mod program;
mod stack;

pub use command::{CommandError, CopyArgument, UserCommand};
pub(crate) use program::prepare as prepare_program;
pub use stack::{NoStack, stack_for};
