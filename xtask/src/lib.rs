//! What the commands share. It is a library, so that development programs of this workspace can use it too.

pub mod exit;
pub mod input;
pub mod options;
pub mod parent_death;
pub mod progress;
pub mod settings;
pub mod signals;
pub mod terminal;

/// The environment variable in which `cargo xtask bench` gives the bench the path of `xtask`, the program whose runs it measures.
pub const PROGRAM_VARIABLE: &str = "NESTMATRIX_XTASK";
