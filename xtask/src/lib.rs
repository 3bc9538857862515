//! What the commands share. It is a library, so that development programs of this workspace can use it too.

pub mod exit;
pub mod input;
pub mod options;
pub mod parent_death;
pub mod progress;
pub mod settings;
pub mod signals;
pub mod terminal;

/// The environment variable in which `cargo xtask bench` and `cargo xtask chaos` give their programs the path of `xtask`, which runs cells.
pub const PROGRAM_VARIABLE: &str = "NESTMATRIX_XTASK";
