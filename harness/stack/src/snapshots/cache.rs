//! The snapshots on this machine: found by their inputs, locked while in use, and removed if they take too much room.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use nestmatrix_model::LevelNumber;
use sha2::{Digest as _, Sha256};

use super::draft::{Draft, Finished};
use super::format::{Description, FORMAT, Inputs, SavedDisk, SnapshotKey, Stamp, describe, difference, hex};
use super::memory::{copy_memory, read_memory};
use super::{DEVICE, DISKS, GATE, LOCK, MEMORY, RECORDS, REMOVING, SAVING, SEAL, STATE, USED};

/// The result of a look-up.
#[derive(Debug)]
pub enum Lookup {
    /// A snapshot that can be used.
    Found(Box<Snapshot>),
    /// There is none.
    Nothing,
    /// A snapshot that can't be used, and why. It has been removed.
    Damaged(String),
}

/// A snapshot that no process removes while this lives.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) folder: PathBuf,
    description: Description,
    _lock: File,
}

impl Snapshot {
    /// What it is.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The file with its devices.
    pub fn device(&self) -> PathBuf {
        self.folder.join(DEVICE)
    }

    /// The file with its memory.
    pub fn memory(&self) -> PathBuf {
        self.folder.join(MEMORY)
    }

    /// Copies its memory to a file, on another thread.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub async fn copy_memory(&self, to: &File) -> io::Result<()> {
        let size = self.description.memory_bytes;
        let (memory, to) = (File::open(self.memory())?, to.try_clone()?);
        let copying = tokio::task::spawn_blocking(move || {
            to.set_len(size)?;
            copy_memory(&memory, size, &to)
        });
        copying.await.map_err(io::Error::other)?
    }

    /// The file that one of its levels had written to, by name; none if no level had written to such a file.
    pub fn disk(&self, name: &str) -> Option<PathBuf> {
        self.description.disks.contains_key(name).then(|| self.folder.join(DISKS).join(name))
    }

    /// The folder with the records up to the snapshot.
    pub fn records(&self) -> PathBuf {
        self.folder.join(RECORDS)
    }
}

/// The snapshots on this machine.
#[derive(Debug)]
pub struct SnapshotCache {
    pub(super) root: PathBuf,
    /// The maximum size of all snapshots on disk, in bytes.
    limit: u64,
    /// The files that were compared with their hashes, with their stamps at that time.
    verified: Mutex<BTreeMap<SnapshotKey, Vec<Stamp>>>,
}

impl SnapshotCache {
    /// The snapshots in the folder `root`, which is created if it is missing; they may take `limit` bytes of disk. Half-written
    /// snapshots of killed harnesses are removed.
    ///
    /// # Errors
    /// The folder can't be created or read.
    pub fn open(root: PathBuf, limit: u64) -> io::Result<Self> {
        // A snapshot contains the memory of guests, and with it what a user's program keeps there.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        let cache = Self { root: root.canonicalize()?, limit, verified: Mutex::default() };
        let _gate = cache.gate()?;
        for entry in fs::read_dir(&cache.root)? {
            let folder = entry?.path();
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let half = name.starts_with(REMOVING) || name.starts_with(SAVING);
            // An unreadable snapshot is never asked for, so it would never be removed.
            let unreadable = || name.len() == 64 && describe(&folder).is_none();
            if (half || unreadable()) && !in_use(&folder)? {
                match fs::remove_dir_all(&folder) {
                    // The process that used it has removed it.
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(cache)
    }

    fn gate(&self) -> io::Result<File> {
        let gate = File::create(self.root.join(GATE))?;
        gate.lock()?;
        Ok(gate)
    }

    /// Looks up the snapshot of a stack up to `level` with these `inputs`. Every byte of it is compared with its hash, unless
    /// that was done before and nothing has changed since. Blocks meanwhile.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn find(&self, level: LevelNumber, inputs: &Inputs) -> io::Result<Lookup> {
        let key = SnapshotKey::of(level, inputs);
        let folder = self.root.join(key.as_str());
        let lock = match File::options().read(true).write(true).open(folder.join(LOCK)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Lookup::Nothing),
            lock => lock?,
        };
        lock.lock_shared()?;
        // It may have been removed before it was locked.
        if !folder.join(LOCK).exists() {
            return Ok(Lookup::Nothing);
        }
        match self.check(&key, &folder, inputs) {
            Ok(description) => {
                let _ = File::create(folder.join(USED));
                Ok(Lookup::Found(Box::new(Snapshot { folder, description, _lock: lock })))
            }
            Err(why) => {
                drop(lock);
                self.remove(&folder)?;
                Ok(Lookup::Damaged(why))
            }
        }
    }

    fn check(&self, key: &SnapshotKey, folder: &Path, inputs: &Inputs) -> Result<Description, String> {
        let text = fs::read(folder.join(STATE)).map_err(|e| format!("{STATE}: {e}"))?;
        let seal = fs::read_to_string(folder.join(SEAL)).map_err(|e| format!("{SEAL}: {e}"))?;
        if seal != hex(Sha256::new_with_prefix(&text)) {
            return Err(format!("{STATE} is not as it was written"));
        }
        let description: Description = serde_json::from_slice(&text).map_err(|e| format!("{STATE}: {e}"))?;
        if description.key != *key || description.inputs != *inputs || description.format != FORMAT {
            return Err(format!("it was made of other things: {}", difference(&description.inputs, inputs)));
        }
        let stamps = description.stamps(folder).map_err(|(name, e)| format!("{name}: {e}"))?;
        let known = self.verified.lock().unwrap_or_else(|e| e.into_inner()).get(key) == Some(&stamps);
        if !known {
            check_files(folder, &description)?;
            self.verified.lock().unwrap_or_else(|e| e.into_inner()).insert(key.clone(), stamps);
        }
        Ok(description)
    }

    /// Whether a snapshot with this key exists; its contents are not checked.
    pub fn has(&self, key: &SnapshotKey) -> bool {
        self.root.join(key.as_str()).is_dir()
    }

    /// Removes a snapshot that failed to restore, even if others use it: their open files stay valid.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn discard(&self, snapshot: &Snapshot) -> io::Result<()> {
        self.remove(&snapshot.folder)
    }

    /// How the nearest snapshot, of the same level and the same machines, differs from the wanted one.
    pub fn nearest(&self, level: LevelNumber, inputs: &Inputs) -> Option<String> {
        let machines = |inputs: &Inputs| -> Inputs {
            inputs
                .iter()
                .filter(|(name, _)| name.ends_with("machine"))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        let wanted = machines(inputs);
        let near = self.list().ok()?.into_iter().find(|listed| {
            listed.description.level == level && machines(&listed.description.inputs) == wanted
        })?;
        Some(difference(&near.description.inputs, inputs))
    }

    /// Every snapshot with a readable description, the most recently used one first.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let folder = entry?.path();
            let Some(description) = describe(&folder) else { continue };
            let used = fs::metadata(folder.join(USED)).and_then(|used| used.modified());
            let bytes = description.files(&folder).into_iter().filter_map(|path| fs::metadata(path).ok());
            let bytes = bytes.map(|file| file.blocks() * 512).sum();
            all.push(Listed { used: used.unwrap_or(SystemTime::UNIX_EPOCH), bytes, description, folder });
        }
        all.sort_by_key(|listed| std::cmp::Reverse(listed.used));
        Ok(all)
    }

    /// A place for a snapshot that is about to be taken.
    ///
    /// # Errors
    /// It can't be created.
    pub fn draft(&self, level: LevelNumber, inputs: Inputs) -> io::Result<Draft> {
        let _gate = self.gate()?;
        Draft::new(&self.root, level, inputs)
    }

    /// Puts a snapshot in its place, and removes the least recently used ones while all of them exceed the limit. The new one
    /// stays.
    ///
    /// # Errors
    /// The operating system reports an error; then the snapshot does not exist.
    pub fn publish(&self, finished: Finished) -> io::Result<()> {
        let Finished { folder: draft, description, stamps, lock: _lock } = finished;
        let mut text = serde_json::to_vec_pretty(&description)?;
        text.push(b'\n');
        let folder = draft.path();
        fs::write(folder.join(STATE), &text)?;
        fs::write(folder.join(SEAL), hex(Sha256::new_with_prefix(&text)))?;
        File::create(folder.join(USED))?;
        let place = self.root.join(description.key.as_str());
        let _gate = self.gate()?;
        // Another process may have taken the same meanwhile.
        if !place.exists() {
            fs::rename(folder, &place)?;
            let _ = draft.keep();
            self.verified.lock().unwrap_or_else(|e| e.into_inner()).insert(description.key.clone(), stamps);
        }
        if let Err(e) = self.shrink(&description.key) {
            tracing::warn!("snapshots take more disk space than they may: {e}");
        }
        Ok(())
    }

    fn shrink(&self, keep: &SnapshotKey) -> io::Result<()> {
        let listed = self.list()?;
        let mut total: u64 = listed.iter().map(|listed| listed.bytes).sum();
        for listed in listed.iter().rev().filter(|listed| listed.description.key != *keep) {
            if total <= self.limit {
                break;
            }
            if !in_use(&listed.folder)? {
                total -= listed.bytes;
                self.remove(&listed.folder)?;
            }
        }
        Ok(())
    }

    /// Removes every snapshot that is not in use; returns the number of bytes freed.
    ///
    /// # Errors
    /// The operating system reports an error.
    pub fn clear(&self) -> io::Result<u64> {
        let _gate = self.gate()?;
        let mut freed = 0;
        for listed in self.list()? {
            if !in_use(&listed.folder)? {
                self.remove(&listed.folder)?;
                freed += listed.bytes;
            }
        }
        Ok(freed)
    }

    /// Removes a snapshot so that no process sees half of it.
    fn remove(&self, folder: &Path) -> io::Result<()> {
        let rubbish = tempfile::Builder::new().prefix(REMOVING).tempdir_in(&self.root)?;
        match fs::rename(folder, rubbish.path().join("state")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        match rubbish.close() {
            // Another process has swept it.
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// Compares every byte of a snapshot's files with its hash.
fn check_files(folder: &Path, description: &Description) -> Result<(), String> {
    let device = fs::read(folder.join(DEVICE)).map_err(|e| format!("{DEVICE}: {e}"))?;
    if hex(Sha256::new_with_prefix(device)) != description.device {
        return Err(format!("{DEVICE} is not as it was written"));
    }
    let memory = File::open(folder.join(MEMORY)).map_err(|e| format!("{MEMORY}: {e}"))?;
    let size = memory.metadata().map_err(|e| format!("{MEMORY}: {e}"))?.len();
    if size != description.memory_bytes {
        let written = description.memory_bytes;
        return Err(format!("{MEMORY} has {size} bytes, {written} were written"));
    }
    let hashes = read_memory(&memory, size, None).map_err(|e| format!("{MEMORY}: {e}"))?;
    if hashes != description.memory {
        return Err(format!("{MEMORY} is not as it was written"));
    }
    description.disks.iter().try_for_each(|(name, disk)| {
        let unreadable = |e: io::Error| format!("{DISKS}/{name}: {e}");
        let SavedDisk { bytes, sha256 } = disk;
        let file = File::open(folder.join(DISKS).join(name)).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let same = size == *bytes && read_memory(&file, size, None).map_err(unreadable)? == *sha256;
        if same { Ok(()) } else { Err(format!("{DISKS}/{name} is not as it was written")) }
    })
}

/// A snapshot in a list.
#[derive(Debug)]
pub struct Listed {
    /// What it is.
    pub description: Description,
    /// When it was last used.
    pub used: SystemTime,
    /// Its size on disk, in bytes.
    pub bytes: u64,
    folder: PathBuf,
}

/// Whether a process holds the lock of a snapshot's folder.
fn in_use(folder: &Path) -> io::Result<bool> {
    let lock = match File::options().write(true).open(folder.join(LOCK)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        lock => lock?,
    };
    match lock.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}
