//! Finds programs in `PATH`.

use std::env;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The files of this name in the folders of `PATH` that can be executed, in the order in which a shell looks for a program.
pub fn programs(name: &str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let files: Vec<PathBuf> = env::split_paths(&path).map(|folder| folder.join(name)).collect();
    files.into_iter().filter(|file| is_program(file))
}

/// The program that a shell would start by this name.
pub fn find_program(name: &str) -> Option<PathBuf> {
    programs(name).next()
}

/// Whether a file can be executed, by its mode.
pub fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
