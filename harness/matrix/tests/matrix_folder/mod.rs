//! The folder of a small matrix, for a test. Apart from the test programs, since most of them write one, and so do tests in `src`.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// A folder with these files. Each is given with its path in the folder and its content.
pub fn with_files(files: impl IntoIterator<Item = (impl AsRef<Path>, impl AsRef<[u8]>)>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, content) in files {
        write(folder.path(), path, content);
    }
    folder
}

/// Writes a file to its path in `folder`.
pub fn write(folder: &Path, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
