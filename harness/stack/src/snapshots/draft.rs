//! A snapshot that is being written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nestmatrix_model::LevelNumber;
use sha2::{Digest as _, Sha256};

use super::format::{Description, FORMAT, Inputs, SavedDisk, SnapshotKey, SnapshotLevel, Stamp, hex};
use super::memory::read_memory;
use super::{DEVICE, DISKS, LOCK, MEMORY, RECORDS, SAVING};
use crate::StageTime;

/// A snapshot that is being written. Dropping it removes it.
#[derive(Debug)]
pub struct Draft {
    folder: tempfile::TempDir,
    lock: File,
    level: LevelNumber,
    inputs: Inputs,
}

/// What a snapshot contains besides the memory and the devices.
#[derive(Debug, Default)]
pub struct Parts {
    /// The folder with the records of its levels.
    pub records: PathBuf,
    /// The files that its levels have written to.
    pub disks: Vec<PathBuf>,
    /// Its levels, outermost first.
    pub levels: Vec<SnapshotLevel>,
    /// The stages that it went through.
    pub stages: Vec<StageTime>,
}

/// A complete snapshot that is not in its place yet.
#[derive(Debug)]
pub struct Finished {
    pub(super) folder: tempfile::TempDir,
    pub(super) description: Description,
    pub(super) stamps: Vec<Stamp>,
    pub(super) lock: File,
}

impl Draft {
    /// A place for the snapshot of a stack up to `level`, in the folder `root` of a cache.
    pub(super) fn new(root: &Path, level: LevelNumber, inputs: Inputs) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(SAVING).tempdir_in(root)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        fs::create_dir(folder.path().join(RECORDS))?;
        Ok(Self { folder, lock, level, inputs })
    }

    /// The file with the devices, as the emulator has written them.
    pub fn device(&self) -> PathBuf {
        self.folder.path().join(DEVICE)
    }

    /// Copies the memory of the machine as it was saved, from `memory`, its disks and the records of its levels. Blocks meanwhile.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn finish(
        self,
        memory: &File,
        Parts { records, disks, levels, stages }: Parts,
    ) -> io::Result<Finished> {
        let size = memory.metadata()?.len();
        let copy =
            File::options().create_new(true).read(true).write(true).open(self.folder.path().join(MEMORY))?;
        copy.set_len(size)?;
        let hashes = read_memory(memory, size, Some(&copy))?;
        let device = hex(Sha256::new_with_prefix(fs::read(self.device())?));
        let disks = self.copy_disks(&disks)?;
        for entry in fs::read_dir(records)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), self.folder.path().join(RECORDS).join(entry.file_name()))?;
            }
        }
        let description = Description {
            format: FORMAT,
            key: SnapshotKey::of(self.level, &self.inputs),
            inputs: self.inputs.clone(),
            level: self.level,
            levels,
            saved: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            stages,
            memory_bytes: size,
            memory: hashes,
            device,
            disks,
        };
        // From now on nothing changes it, not even its users.
        for path in description.files(self.folder.path()) {
            let mut permissions = fs::metadata(&path)?.permissions();
            permissions.set_readonly(true);
            fs::set_permissions(&path, permissions)?;
        }
        let stamps = description.stamps(self.folder.path()).map_err(|(_, e)| e)?;
        Ok(Finished { folder: self.folder, description, stamps, lock: self.lock })
    }
}

impl Draft {
    /// Copies the files that the levels have written to.
    fn copy_disks(&self, disks: &[PathBuf]) -> io::Result<BTreeMap<String, SavedDisk>> {
        let folder = self.folder.path().join(DISKS);
        fs::create_dir(&folder)?;
        let mut saved = BTreeMap::new();
        for from in disks {
            let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let (disk, copy) = (File::open(from)?, File::create_new(folder.join(&name))?);
            let bytes = disk.metadata()?.len();
            copy.set_len(bytes)?;
            let sha256 = read_memory(&disk, bytes, Some(&copy))?;
            saved.insert(name, SavedDisk { bytes, sha256 });
        }
        Ok(saved)
    }
}

impl Finished {
    /// Its key.
    pub fn key(&self) -> &SnapshotKey {
        &self.description.key
    }
}
