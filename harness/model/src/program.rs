//! How users call this program. It runs from a checkout, through cargo, or from an archive that `cargo xtask dist` made.

/// The environment variable that is set while the program of an archive is compiled.
pub const ARCHIVE_VARIABLE: &str = "NESTMATRIX_FOR_ARCHIVE";

/// Whether this program was compiled for an archive. Then its data is in its own folder, and there is no checkout.
pub const IS_FROM_ARCHIVE: bool = option_env!("NESTMATRIX_FOR_ARCHIVE").is_some();

/// How users call this program, in messages that tell them what to type.
pub const PROGRAM: &str = if IS_FROM_ARCHIVE { "nestmatrix" } else { "cargo xtask" };
