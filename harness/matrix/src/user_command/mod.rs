//! A command or a program of the user for a level: what of this machine it needs there.

mod command;
mod libraries;
mod program;

pub use command::{CommandError, CopyArgument, UserCommand};
pub(crate) use program::prepare as prepare_program;
