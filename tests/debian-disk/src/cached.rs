//! The system and the disk without a flaw, which many tests need: they are made once a week. So what is prepared from the disk is
//! reused, too.

use crate::{Contents, Disk, Error, System, loaders};
use nestmatrix_model::Isa;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that decides what is on the disk.
const SOURCES: [&str; 6] = [
    include_str!("boot_loader.rs"),
    include_str!("disk.rs"),
    include_str!("loaders.rs"),
    include_str!("partitions.rs"),
    include_str!("system.rs"),
    include_str!("tree.rs"),
];

/// Afterwards, the archive has other versions of packages.
const LASTS: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl System {
    /// The system for amd64 from a folder. It is installed if the folder has none, or only one of another week or another version of
    /// this program. Only one process installs it. It takes 300 MB.
    ///
    /// # Errors
    /// As [`System::install`].
    pub fn cached(folder: &Path) -> Result<Self, Error> {
        Self::cached_for(Isa::Amd64, folder)
    }

    /// As [`System::cached`], for an instruction set that [`System::install_with`] accepts.
    ///
    /// # Errors
    /// As [`System::install_with`].
    pub fn cached_for(isa: Isa, folder: &Path) -> Result<Self, Error> {
        Folder::lock(folder, isa)?.system()
    }
}

impl Disk {
    /// The disk for amd64 from a folder, in the same way. No test may write to it.
    ///
    /// # Errors
    /// As [`System::install`] and [`Disk::make`].
    pub fn cached(folder: &Path) -> Result<Self, Error> {
        Self::cached_for(Isa::Amd64, folder)
    }

    /// As [`Disk::cached`], for an instruction set that [`System::install_with`] accepts.
    ///
    /// # Errors
    /// As [`System::install_with`] and [`Disk::make`].
    pub fn cached_for(isa: Isa, folder: &Path) -> Result<Self, Error> {
        Folder::lock(folder, isa)?.disk()
    }
}

/// A folder with what was made for an instruction set. No other process makes anything for it there.
struct Folder {
    path: PathBuf,
    isa: Isa,
    name: String,
    _lock: File,
}

impl Folder {
    fn lock(folder: &Path, isa: Isa) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        let path = folder.join(format!("lock-{isa}"));
        let lock = File::create(&path).map_err(Error::io("create", &path))?;
        lock.lock().map_err(Error::io("lock", &path))?;
        let mut hasher = DefaultHasher::new();
        SOURCES.hash(&mut hasher);
        let name = format!("{}{:016x}", prefix(isa), hasher.finish());
        Ok(Self { path: folder.to_owned(), isa, name, _lock: lock })
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.path.join(format!("{}.{extension}", self.name))
    }

    fn system(&self) -> Result<System, Error> {
        let archive = self.file("tar");
        if is_new(&archive) {
            return self.system_of(archive);
        }
        self.remove_old()?;
        // It gets its name only when it is complete.
        let work = tempfile::tempdir_in(&self.path).map_err(Error::io("create a folder in", &self.path))?;
        let system = System::install_with(
            Contents { isa: self.isa, ..Contents::default() },
            &work.path().join("system.tar"),
        )?;
        fs::rename(system.archive(), &archive).map_err(Error::io("write", &archive))?;
        self.system_of(archive)
    }

    fn system_of(&self, archive: PathBuf) -> Result<System, Error> {
        Ok(System::of(archive, loaders::of(self.isa)?))
    }

    fn disk(&self) -> Result<Disk, Error> {
        // The release is written last.
        let (disk, release) = (self.file("qcow2"), self.file("kernel"));
        if is_new(&disk)
            && let Ok(release) = fs::read_to_string(&release)
        {
            return Ok(Disk::of(disk, release));
        }
        let made = Disk::make(&self.system()?, None, &disk)?;
        fs::write(&release, made.kernel_release()).map_err(Error::io("write", &release))?;
        Ok(made)
    }

    fn remove_old(&self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.path).map_err(Error::io("read folder", &self.path))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix(self.isa)) {
                fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
            }
        }
        Ok(())
    }
}

/// How the names of an instruction set's files begin.
fn prefix(isa: Isa) -> String {
    format!("debian-{isa}-")
}

fn is_new(path: &Path) -> bool {
    let changed = fs::metadata(path).and_then(|found| found.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age < LASTS))
}
