//! The folders of a merge: the one that the merged run gets, and the temporary one in which it is written.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::MergeError;
use crate::contained::{self, RelativeFolder};

/// The name of the temporary folders, and the file in them that is locked during a merge.
pub(super) const MERGING: &str = ".merging-";
pub(super) const LOCK: &str = "lock";

/// A folder for the merged run. If the merge made it and writes nothing into it, it is removed.
pub(super) struct Reserved {
    pub(super) path: PathBuf,
    pub(super) made: bool,
}

impl Reserved {
    pub(super) fn at(path: &Path) -> Result<Self, MergeError> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let made = parent.map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::create_dir(path));
        match made {
            Ok(()) => Ok(Self { path: path.to_owned(), made: true }),
            // The folder is the user's own, or a killed merge left it.
            Err(_) if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) => {
                Ok(Self { path: path.to_owned(), made: false })
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(MergeError::InTheWay(path.to_owned())),
            Err(source) => Err(MergeError::Unwritable { path: path.to_owned(), source }),
        }
    }

    /// It now belongs to the merged run.
    pub(super) fn keep(mut self) {
        self.made = false;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.made {
            // Another process may have put something into it meanwhile: then it stays.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Removes the folders that killed merges have left. The folder of a running merge is locked.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(MERGING) {
            continue;
        }
        // One without a lock has just been made.
        if contained::open(&entry.path(), Path::new(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Links all files in a folder of a run into `to`, or copies them if they can't be linked.
pub(super) fn link_all((run, folder): &(PathBuf, RelativeFolder), to: &Path) -> io::Result<()> {
    let from = run.join(folder.as_path());
    let listing = contained::list(run, folder.as_path())?;
    for (path, what) in &listing.others {
        tracing::warn!("{} is left out: it is {what}", from.join(path).display());
    }
    fs::create_dir_all(to)?;
    for file in &listing.files {
        let to = to.join(file);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::hard_link(from.join(file), &to).is_err() {
            // Never into an existing file: that could be the file to be copied.
            let mut source = contained::open(run, &folder.as_path().join(file))?;
            io::copy(&mut source, &mut File::create_new(&to)?)?;
        }
    }
    Ok(())
}
