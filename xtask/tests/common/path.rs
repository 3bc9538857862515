//! A `PATH` with few programs, as on a machine that has no more.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nestmatrix_images::find_program;

/// What the harness and its scripts need of every machine.
const BASICS: &[&str] = &["cat", "df", "env", "grep", "head", "id", "ls", "sh", "tail", "uname"];

/// A folder with links to programs of this machine.
pub struct Programs(PathBuf);

impl Programs {
    /// The basics, and those of these programs that this machine has.
    pub fn new(folder: &Path, others: &[&str]) -> Self {
        fs::create_dir(folder).unwrap();
        for name in BASICS.iter().chain(others) {
            if let Some(program) = find_program(name) {
                symlink(program, folder.join(name)).unwrap();
            }
        }
        Self(folder.to_owned())
    }

    pub fn folder(&self) -> &Path {
        &self.0
    }
}
