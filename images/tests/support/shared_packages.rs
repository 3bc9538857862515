//! Packages that several caches share, so that they are downloaded once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Lets the cache at `own` use the packages of another one. Only one apt may work on them at a time, so the lock is shared, too.
pub fn share_packages(shared: &Path, own: &Path) {
    fs::remove_dir(own.join("packages")).unwrap();
    for name in ["packages", "locks/packages"] {
        symlink(shared.join(name), own.join(name)).unwrap();
    }
}
