//! What a command writes for others to read: to a file, or to standard output.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::exit::Failure;

/// Writes a file in one step: who looks at it meanwhile sees the old one or the new one. What is no file, such as a pipe, is
/// written to.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::error(format!("failed to write {}: {e}", path.display()));
    if path.exists() && !path.is_file() {
        return std::fs::write(path, text).map_err(cannot);
    }
    replace(path, text)
}

/// Writes a file in one step, in place of what has its name. A link is replaced and not followed, so this is for files in the folder
/// of a run, which may come from another machine.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let cannot = |e: std::io::Error| Failure::error(format!("failed to write {}: {e}", path.display()));
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // A temporary file is its owner's alone; this one is for whoever this user lets read.
    let mode = std::fs::Permissions::from_mode(0o666);
    let mut file =
        tempfile::Builder::new().prefix(".writing-").permissions(mode).tempfile_in(folder).map_err(cannot)?;
    file.write_all(text.as_bytes()).map_err(cannot)?;
    file.persist(path).map(drop).map_err(|e| cannot(e.error))
}

/// Prints to standard output. A reader who has gone away has seen enough; whatever else goes wrong is told.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::error(format!("failed to print: {e}"))),
        _ => Ok(()),
    }
}
