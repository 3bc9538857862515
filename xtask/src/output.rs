//! Writes files and standard output for other programs to read.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use nestmatrix::records::{CellRecord, RunRecord};
use nestmatrix::report;
use nestmatrix_images::replace_file;

use crate::exit::Failure;

/// Writes a file atomically. What is not a regular file, such as a pipe, is written directly.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::error(format!("failed to write {}: {e}", path.display()));
    if path.exists() && !path.is_file() {
        return std::fs::write(path, text).map_err(failed);
    }
    replace(path, text)
}

/// Writes a file atomically and replaces a link instead of following it. Use this in the folder of a run, which may come from
/// another machine.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::error(format!("failed to write {}: {e}", path.display()));
    replace_file(path, text).map_err(failed)
}

/// Writes to standard output. A closed pipe is no error.
pub fn write_stdout(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Failure::error(format!("failed to print: {e}"))),
        _ => Ok(()),
    }
}

/// Writes junit.xml, the run as JUnit XML for CI systems.
pub fn write_junit(folder: &Path, run: &RunRecord, cells: &[CellRecord]) -> Result<(), Failure> {
    let path = folder.join("junit.xml");
    let absolute = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let text = report::junit(run, cells, &absolute).map_err(Failure::error)?;
    replace(&path, &text)
}
