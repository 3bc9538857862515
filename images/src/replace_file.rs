//! Writes files that other processes may read or write at the same time.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a file in one step: a reader sees the old one or the new one. A link with its name is replaced, not followed.
///
/// # Errors
/// The file cannot be written. The old one stays.
pub fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Only the owner can read a temporary file by default; this one follows the umask.
    let mode = Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().prefix(".writing-").permissions(mode).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|e| e.error)
}
