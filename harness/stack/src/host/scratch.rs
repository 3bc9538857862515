//! The private folders of a running harness: one for sockets, and one for large files such as disks. Nothing in them is worth keeping.
//!
//! A killed harness can't remove its folders. So each folder is locked while its harness lives, and the next start removes the
//! unlocked ones.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Longest path of the folder in bytes: the paths of sockets in it must not exceed 107 bytes (unix(7)).
const LONGEST_PATH: usize = 70;
/// Locked while folders are made or swept.
const GATE: &str = "gate";
/// Locked by each folder's harness.
const LOCK: &str = "lock";

/// The name of the place of large files in the cache.
const IN_CACHE: &str = "scratch";

/// A scratch folder of a run. Dropping it removes it.
#[derive(Debug)]
pub struct Scratch {
    folder: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes a folder for sockets in this user's place for them, and sweeps the folders of harnesses that are gone.
    ///
    /// # Errors
    /// The place can't be made, or belongs to another user.
    pub fn create() -> io::Result<Self> {
        Self::create_in(&place()?)
    }

    /// The same for files that may be large. They are in the cache, since the place of sockets is usually in memory.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn create_on_disk(cache: &Path) -> io::Result<Self> {
        let place = cache.join(IN_CACHE);
        // What a level writes to its disk is its user's alone.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
        Self::create_in(&place)
    }

    fn create_in(place: &Path) -> io::Result<Self> {
        let gate = File::create(place.join(GATE))?;
        gate.lock()?;
        sweep(place)?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(place)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The files named `name` in the folders of this user's harnesses.
    ///
    /// # Errors
    /// The place can't be read, or belongs to another user.
    pub fn find(name: &str) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(place()?)? {
            let path = entry?.path().join(name);
            found.extend(path.exists().then_some(path));
        }
        found.sort();
        Ok(found)
    }
}

/// Where this user's scratch folders are.
fn place() -> io::Result<PathBuf> {
    let uid = nix::unistd::geteuid().as_raw();
    let short = |path: &PathBuf| path.as_os_str().len() <= LONGEST_PATH - "/run-xxxxxx".len();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join("nestmatrix"));
    let place = match runtime.filter(short) {
        Some(place) if place.parent().is_some_and(Path::is_dir) => place,
        _ => PathBuf::from(format!("/tmp/nestmatrix-{uid}")),
    };
    match std::fs::DirBuilder::new().mode(0o700).create(&place) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    // In /tmp another user may have made it first.
    let metadata = std::fs::symlink_metadata(&place)?;
    if metadata.is_dir() && metadata.uid() == uid && metadata.mode() & 0o077 == 0 {
        Ok(place)
    } else {
        Err(io::Error::other(format!("{} is not a private folder of this user", place.display())))
    }
}

/// Removes the folders whose harness is gone.
fn sweep(place: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(place)? {
        let folder = entry?.path();
        if !folder.is_dir() {
            continue;
        }
        let abandoned = match File::open(folder.join(LOCK)) {
            // Folders are made and locked while the gate is locked, so a folder without a lock file is half made: its harness
            // was killed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            // For example too many open files: this shows nothing about the harness, which may well be alive.
            Err(e) => {
                tracing::warn!("{} is left as it is: failed to open its lock: {e}", folder.display());
                false
            }
            Ok(lock) => match lock.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(e)) => return Err(e),
            },
        };
        if abandoned {
            tracing::info!("removing {}, left by a harness that was killed", folder.display());
            match std::fs::remove_dir_all(&folder) {
                // Its harness is removing it right now: the lock goes before the folder does.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_start_removes_what_a_killed_harness_left_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let running = Scratch::create_in(place.path()).unwrap();
        let killed = place.path().join("run-killed");
        std::fs::create_dir(&killed).unwrap();
        std::fs::write(killed.join(LOCK), "").unwrap();
        std::fs::write(killed.join("l1.qmp"), "").unwrap();
        // A failure to open the file shows nothing about its harness: here a link causes it, elsewhere too many open files may.
        let unclear = place.path().join("run-unclear");
        std::fs::create_dir(&unclear).unwrap();
        std::os::unix::fs::symlink(LOCK, unclear.join(LOCK)).unwrap();
        let half_made = place.path().join("run-half-made");
        std::fs::create_dir(&half_made).unwrap();
        let next = Scratch::create_in(place.path()).unwrap();
        assert!(!killed.exists() && !half_made.exists());
        assert!(unclear.exists());
        assert!(running.path().exists() && next.path().exists());
        let path = next.path().to_owned();
        drop(next);
        assert!(!path.exists());
    }
}
