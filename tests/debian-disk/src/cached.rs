//! The disk without a flaw, which many tests need: it is made once a week. So what is prepared from it is reused, too.

use crate::{Disk, Error, System};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::time::Duration;

/// Everything that decides what is on the disk.
const SOURCES: [&str; 5] = [
    include_str!("boot_loader.rs"),
    include_str!("disk.rs"),
    include_str!("partitions.rs"),
    include_str!("system.rs"),
    include_str!("tree.rs"),
];

/// Afterwards, the archive has other versions of packages.
const LASTS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl Disk {
    /// The disk from a folder. It is made if the folder has none, or only one of another week or another version of this program. Only
    /// one process makes it. No test may write to it.
    ///
    /// # Errors
    /// As [`System::install`] and [`Disk::make`].
    pub fn cached(folder: &Path) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(Error::io("create", &path))?;
        lock.lock().map_err(Error::io("lock", &path))?;
        let mut hasher = DefaultHasher::new();
        SOURCES.hash(&mut hasher);
        let name = format!("debian-{:016x}", hasher.finish());
        let disk = folder.join(format!("{name}.qcow2"));
        // Written last.
        let about = folder.join(format!("{name}.kernel"));
        if let Ok(release) = fs::read_to_string(&about)
            && is_new(&disk)
        {
            return Ok(Self::of(disk, release));
        }
        for entry in fs::read_dir(folder).map_err(Error::io("read folder", folder))?.flatten() {
            let other = entry.file_name().to_string_lossy().starts_with("debian-");
            if other {
                fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
            }
        }
        let work = tempfile::tempdir_in(folder).map_err(Error::io("create a folder in", folder))?;
        let system = System::install(&work.path().join("system.tar"))?;
        let made = Self::make(&system, None, &disk)?;
        fs::write(&about, made.kernel_release()).map_err(Error::io("write", &about))?;
        Ok(made)
    }
}

fn is_new(path: &Path) -> bool {
    let changed = fs::metadata(path).and_then(|found| found.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age < LASTS))
}
