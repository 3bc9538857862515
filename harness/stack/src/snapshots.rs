//! Saved states: a machine with all the levels that run in it, on disk, from which any number of stacks go on.
//!
//! ```text
//! states/gate            held while folders are made or swept
//! states/KEY/            a state, complete and never changed; KEY is the SHA-256 of all that went into it
//!     lock               held by those who use it, and by whoever removes it
//!     state.json         what it is, and the SHA-256 of its files
//!     seal               the SHA-256 of state.json
//!     device             the devices, as QEMU writes them when it migrates a machine
//!     memory             the memory, with holes where it is all zeros
//!     records/           consoles and conversations up to here
//!     used               an empty file whose time says when the state was last used
//! states/saving-XXXXXX/  one that is being written; rubbish if nobody holds its lock
//! states/removing-XXX/   one that is being removed
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use nestmatrix_model::LevelNumber;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::StageTime;
use super::memory::{copy_memory, read_memory};

/// Version of the form of a saved state. It goes into every key.
const FORMAT: u32 = 1;

const GATE: &str = "gate";
const LOCK: &str = "lock";
const STATE: &str = "state.json";
const SEAL: &str = "seal";
const DEVICE: &str = "device";
const MEMORY: &str = "memory";
const RECORDS: &str = "records";
const USED: &str = "used";
const SAVING: &str = "saving-";
const REMOVING: &str = "removing-";

/// All that goes into a state, by name.
pub type Inputs = BTreeMap<String, String>;

/// What names a state: the same key means that the same things went into it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotKey(String);

impl SnapshotKey {
    /// The key of the state of a stack up to `level` into which these went.
    pub fn of(level: LevelNumber, inputs: &Inputs) -> Self {
        let mut hasher = Sha256::new();
        let mut field = |text: &str| {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        };
        field(&FORMAT.to_string());
        field(&level.to_string());
        for (name, value) in inputs {
            field(name);
            field(value);
        }
        Self(hex(hasher))
    }

    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A level of a saved state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotLevel {
    /// Which.
    pub level: LevelNumber,
    /// The process of its QEMU in the level below; absent for the outermost, whose QEMU is started anew.
    pub pid: Option<i64>,
    /// The version of its QEMU.
    pub qemu: String,
    /// The firmware that its QEMU was asked for, if it is not the machine's default.
    pub firmware: Option<String>,
}

/// What a state is: `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// [`FORMAT`].
    format: u32,
    /// Its key.
    pub key: SnapshotKey,
    /// All that went into it.
    pub inputs: Inputs,
    /// The innermost level that is up in it.
    pub level: LevelNumber,
    /// Its levels, outermost first.
    pub levels: Vec<SnapshotLevel>,
    /// When it was saved, UTC, RFC 3339.
    pub saved: String,
    /// The stages that it went through, in seconds since its cell began.
    pub stages: Vec<StageTime>,
    memory_bytes: u64,
    /// SHA-256 of its memory, chunk by chunk.
    memory: Vec<String>,
    device: String,
}

/// What the cache has for a key.
#[derive(Debug)]
pub enum Lookup {
    /// A state that can be used.
    Found(Snapshot),
    /// None.
    Nothing,
    /// One that can't be used, and why. It has been removed.
    Damaged(String),
}

/// A state that nobody removes while this lives.
#[derive(Debug)]
pub struct Snapshot {
    folder: PathBuf,
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
    /// The operating system's.
    pub async fn copy_memory(&self, to: &File) -> io::Result<()> {
        let size = self.description.memory_bytes;
        let (memory, to) = (File::open(self.memory())?, to.try_clone()?);
        let copying = tokio::task::spawn_blocking(move || {
            to.set_len(size)?;
            copy_memory(&memory, size, &to)
        });
        copying.await.map_err(io::Error::other)?
    }

    /// The folder with what was recorded up to it.
    pub fn records(&self) -> PathBuf {
        self.folder.join(RECORDS)
    }
}

/// The saved states on this machine.
#[derive(Debug)]
pub struct SnapshotCache {
    root: PathBuf,
    /// Bytes on disk that all of them may take.
    limit: u64,
    /// The files that were compared with their hashes, as they were then.
    verified: Mutex<BTreeMap<SnapshotKey, Vec<Stamp>>>,
}

/// What changes when a file does.
type Stamp = (u64, u64, i64, i64, u64);

impl SnapshotCache {
    /// The states in the folder `root`, which is made if it is not there; they may take `limit` bytes of disk. What a
    /// harness that was killed left half-written is removed.
    ///
    /// # Errors
    /// The folder can't be made or read.
    pub fn open(root: PathBuf, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        let states = Self { root: root.canonicalize()?, limit, verified: Mutex::default() };
        let _gate = states.gate()?;
        for entry in fs::read_dir(&states.root)? {
            let folder = entry?.path();
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let half = name.starts_with(REMOVING) || name.starts_with(SAVING);
            // Nobody would ever ask for one that can't be read, and so it would never go.
            let unreadable = || name.len() == 64 && describe(&folder).is_none();
            if (half || unreadable()) && !in_use(&folder)? {
                match fs::remove_dir_all(&folder) {
                    // Whoever was at it has removed it himself.
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(states)
    }

    fn gate(&self) -> io::Result<File> {
        let gate = File::create(self.root.join(GATE))?;
        gate.lock()?;
        Ok(gate)
    }

    /// What the cache has for the state of a stack up to `level` into which `inputs` went. Every byte of it is compared with
    /// its hash, unless that was done and nothing has changed since. Blocks meanwhile.
    ///
    /// # Errors
    /// The operating system's.
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
                Ok(Lookup::Found(Snapshot { folder, description, _lock: lock }))
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
        let stamps =
            [DEVICE, MEMORY].map(|name| stamp(&folder.join(name)).map_err(|e| format!("{name}: {e}")));
        let stamps = stamps.into_iter().collect::<Result<Vec<_>, _>>()?;
        let known = self.verified.lock().unwrap_or_else(|e| e.into_inner()).get(key) == Some(&stamps);
        if !known {
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
            self.verified.lock().unwrap_or_else(|e| e.into_inner()).insert(key.clone(), stamps);
        }
        Ok(description)
    }

    /// Whether there is something for this key; nothing of it is compared.
    pub fn has(&self, key: &SnapshotKey) -> bool {
        self.root.join(key.as_str()).is_dir()
    }

    /// Removes a state that did not do, also if others use it: what they have open stays with them.
    ///
    /// # Errors
    /// The operating system's.
    pub fn discard(&self, state: &Snapshot) -> io::Result<()> {
        self.remove(&state.folder)
    }

    /// In what the state differs that is nearest to the wanted one: of the same level and the same machines.
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

    /// Every state whose description can be read, the one that was used last first.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn list(&self) -> io::Result<Vec<Listed>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let folder = entry?.path();
            let Some(description) = describe(&folder) else { continue };
            let used = fs::metadata(folder.join(USED)).and_then(|used| used.modified());
            let bytes = [DEVICE, MEMORY].iter().filter_map(|name| fs::metadata(folder.join(name)).ok());
            let bytes = bytes.map(|file| file.blocks() * 512).sum();
            all.push(Listed { used: used.unwrap_or(SystemTime::UNIX_EPOCH), bytes, description, folder });
        }
        all.sort_by_key(|listed| std::cmp::Reverse(listed.used));
        Ok(all)
    }

    /// A place for a state that is about to be saved.
    ///
    /// # Errors
    /// It can't be made.
    pub fn draft(&self, level: LevelNumber, inputs: Inputs) -> io::Result<Draft> {
        let _gate = self.gate()?;
        let folder = tempfile::Builder::new().prefix(SAVING).tempdir_in(&self.root)?;
        let lock = File::create(folder.path().join(LOCK))?;
        lock.lock()?;
        fs::create_dir(folder.path().join(RECORDS))?;
        Ok(Draft { folder, _lock: lock, level, inputs })
    }

    /// Puts a state in its place, and removes those that were used longest ago while all of them take more than they may. The
    /// one that is put there stays.
    ///
    /// # Errors
    /// The operating system's; then the state is not there.
    pub fn publish(&self, finished: Finished) -> io::Result<()> {
        let Finished { draft, description, stamps } = finished;
        let mut text = serde_json::to_vec_pretty(&description)?;
        text.push(b'\n');
        let folder = draft.folder.path();
        fs::write(folder.join(STATE), &text)?;
        fs::write(folder.join(SEAL), hex(Sha256::new_with_prefix(&text)))?;
        File::create(folder.join(USED))?;
        let place = self.root.join(description.key.as_str());
        let _gate = self.gate()?;
        // Somebody else may have made the same meanwhile.
        if !place.exists() {
            fs::rename(folder, &place)?;
            let _ = draft.folder.keep();
            self.verified.lock().unwrap_or_else(|e| e.into_inner()).insert(description.key.clone(), stamps);
        }
        if let Err(e) = self.shrink(&description.key) {
            tracing::warn!("saved states take more room than they may: {e}");
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

    /// Removes every state that nobody uses; gives the bytes freed.
    ///
    /// # Errors
    /// The operating system's.
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

    /// Removes a state so that nobody sees half of it.
    fn remove(&self, folder: &Path) -> io::Result<()> {
        let rubbish = tempfile::Builder::new().prefix(REMOVING).tempdir_in(&self.root)?;
        match fs::rename(folder, rubbish.path().join("state")) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        match rubbish.close() {
            // Somebody has swept it.
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

fn describe(folder: &Path) -> Option<Description> {
    serde_json::from_slice(&fs::read(folder.join(STATE)).ok()?).ok()
}

/// A state in a list.
#[derive(Debug)]
pub struct Listed {
    /// What it is.
    pub description: Description,
    /// When it was last used.
    pub used: SystemTime,
    /// What it takes of the disk, in bytes.
    pub bytes: u64,
    folder: PathBuf,
}

/// A state that is being written. Dropping it removes it.
#[derive(Debug)]
pub struct Draft {
    folder: tempfile::TempDir,
    _lock: File,
    level: LevelNumber,
    inputs: Inputs,
}

/// A state that is written whole, and not in its place yet.
#[derive(Debug)]
pub struct Finished {
    draft: Draft,
    description: Description,
    stamps: Vec<Stamp>,
}

impl Draft {
    /// The file to which QEMU writes the devices.
    pub fn device(&self) -> PathBuf {
        self.folder.path().join(DEVICE)
    }

    /// Copies the memory of the machine, which stands still, from `memory`, and the records of its levels from the folder
    /// `records`. Blocks meanwhile.
    ///
    /// # Errors
    /// The operating system's.
    pub fn finish(
        self,
        memory: &File,
        records: &Path,
        levels: Vec<SnapshotLevel>,
        stages: Vec<StageTime>,
    ) -> io::Result<Finished> {
        let size = memory.metadata()?.len();
        let copy =
            File::options().create_new(true).read(true).write(true).open(self.folder.path().join(MEMORY))?;
        copy.set_len(size)?;
        let hashes = read_memory(memory, size, Some(&copy))?;
        let device = hex(Sha256::new_with_prefix(fs::read(self.device())?));
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
        };
        // Nothing is changed from here on, neither by those who use it.
        for name in [DEVICE, MEMORY] {
            let path = self.folder.path().join(name);
            let mut permissions = fs::metadata(&path)?.permissions();
            permissions.set_readonly(true);
            fs::set_permissions(&path, permissions)?;
        }
        let stamps = [DEVICE, MEMORY].map(|name| stamp(&self.folder.path().join(name)));
        let stamps = stamps.into_iter().collect::<io::Result<Vec<_>>>()?;
        Ok(Finished { draft: self, description, stamps })
    }
}

impl Finished {
    /// Its key.
    pub fn key(&self) -> &SnapshotKey {
        &self.description.key
    }
}

/// What was hashed, as hexadecimal digits.
pub(super) fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let file = fs::metadata(path)?;
    Ok((file.dev(), file.ino(), file.ctime(), file.ctime_nsec(), file.size()))
}

/// Whether somebody holds the lock of a state's folder.
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

/// What is not the same in two lots of inputs, in words.
fn difference(made: &Inputs, wanted: &Inputs) -> String {
    let names: Vec<&str> = wanted
        .iter()
        .filter(|(name, value)| made.get(*name) != Some(*value))
        .map(|(name, _)| name.as_str())
        .chain(made.keys().filter(|name| !wanted.contains_key(*name)).map(String::as_str))
        .collect();
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [name] => match (made.get(*name), wanted.get(*name)) {
            (Some(made), Some(wanted)) if made.len() + wanted.len() < 160 => {
                format!("{name}: {made}, not {wanted}")
            }
            _ => format!("another {name}"),
        },
        names => format!("other {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use rstest::rstest;

    use super::*;
    use crate::memory::{BLOCK, CHUNK};

    const L1: LevelNumber = LevelNumber::ALL[1];

    fn inputs(emulator: &str) -> Inputs {
        let inputs = [("L0 machine", "-machine q35"), ("emulator", emulator)];
        inputs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// A memory of some blocks, of which those that are named hold data.
    fn memory(folder: &Path, blocks: &[u64]) -> File {
        let file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(true)
            .open(folder.join("ram"))
            .unwrap();
        file.set_len(3 * CHUNK + 4096).unwrap();
        for block in blocks {
            file.write_all_at(format!("block {block}").as_bytes(), block * BLOCK + 7).unwrap();
        }
        file
    }

    fn save(states: &SnapshotCache, emulator: &str, blocks: &[u64]) {
        let folder = tempfile::tempdir().unwrap();
        let draft = states.draft(L1, inputs(emulator)).unwrap();
        fs::write(draft.device(), "devices").unwrap();
        fs::write(folder.path().join("L0.console.log"), "up").unwrap();
        let memory = memory(folder.path(), blocks);
        let levels = vec![SnapshotLevel {
            level: LevelNumber::ALL[0],
            pid: None,
            qemu: "10.0".into(),
            firmware: None,
        }];
        states.publish(draft.finish(&memory, folder.path(), levels, Vec::new()).unwrap()).unwrap();
    }

    fn states(place: &Path) -> SnapshotCache {
        SnapshotCache::open(place.join("states"), 1 << 40).unwrap()
    }

    fn found(states: &SnapshotCache, emulator: &str) -> Snapshot {
        match states.find(L1, &inputs(emulator)).unwrap() {
            Lookup::Found(state) => state,
            other => panic!("{other:?}"),
        }
    }

    fn folders(states: &SnapshotCache) -> usize {
        fs::read_dir(&states.root).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }

    #[tokio::test]
    async fn what_is_saved_is_found_as_it_was_by_another_harness() {
        let place = tempfile::tempdir().unwrap();
        save(&states(place.path()), "A", &[0, 5, 200]);
        let states = states(place.path());
        let state = found(&states, "A");
        let original = memory(place.path(), &[0, 5, 200]);
        let bytes = |file: &File| {
            let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(bytes(&File::open(state.memory()).unwrap()) == bytes(&original));
        assert!(fs::metadata(state.memory()).unwrap().blocks() * 512 < CHUNK, "what is zero takes no room");
        assert_eq!(fs::read(state.device()).unwrap(), b"devices");
        assert_eq!(fs::read(state.records().join("L0.console.log")).unwrap(), b"up");
        assert!(matches!(states.find(LevelNumber::ALL[0], &inputs("A")).unwrap(), Lookup::Nothing));
        let copy = tempfile::tempfile().unwrap();
        state.copy_memory(&copy).await.unwrap();
        assert!(bytes(&copy) == bytes(&original));
    }

    fn flip(path: &Path, at: u64) {
        let mut permissions = fs::metadata(path).unwrap().permissions();
        #[allow(clippy::permissions_set_readonly_false, reason = "a file of this test alone")]
        permissions.set_readonly(false);
        fs::set_permissions(path, permissions).unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    #[rstest]
    #[case::memory(|folder: &Path| flip(&folder.join(MEMORY), 5 * BLOCK + 8), "memory is not as it was written")]
    #[case::hole(|folder: &Path| flip(&folder.join(MEMORY), 2 * CHUNK + 1), "memory is not as it was written")]
    #[case::last_byte(|folder: &Path| flip(&folder.join(MEMORY), 3 * CHUNK + 4095), "memory is not as it was written")]
    #[case::devices(|folder: &Path| flip(&folder.join(DEVICE), 3), "device is not as it was written")]
    #[case::description(|folder: &Path| flip(&folder.join(STATE), 40), "state.json is not as it was written")]
    #[case::seal(|folder: &Path| flip(&folder.join(SEAL), 1), "state.json is not as it was written")]
    #[case::truncated(
        |folder: &Path| File::options().write(true).open(folder.join(STATE)).unwrap().set_len(10).unwrap(),
        "state.json is not as it was written"
    )]
    #[case::gone(|folder: &Path| fs::remove_file(folder.join(DEVICE)).unwrap(), "device: No such file")]
    fn what_is_not_as_it_was_written_is_not_used_and_removed(
        #[case] damage: fn(&Path),
        #[case] expected: &str,
    ) {
        let place = tempfile::tempdir().unwrap();
        save(&states(place.path()), "A", &[0, 5]);
        let key = SnapshotKey::of(L1, &inputs("A"));
        let states = states(place.path());
        assert!(states.has(&key));
        damage(&states.root.join(key.as_str()));
        match states.find(L1, &inputs("A")).unwrap() {
            Lookup::Damaged(why) => assert!(why.contains(expected), "{why}"),
            other => panic!("{other:?}"),
        }
        assert!(!states.has(&key));
        assert_eq!(folders(&states), 0);
    }

    #[test]
    fn damage_is_seen_also_after_the_state_was_used_once() {
        let place = tempfile::tempdir().unwrap();
        let states = states(place.path());
        save(&states, "A", &[3]);
        let folder = found(&states, "A").folder;
        flip(&folder.join(MEMORY), 3 * BLOCK);
        assert!(matches!(states.find(L1, &inputs("A")).unwrap(), Lookup::Damaged(_)));
    }

    #[test]
    fn a_memory_that_was_cut_short_is_told_by_its_length() {
        let place = tempfile::tempdir().unwrap();
        save(&states(place.path()), "A", &[3]);
        let states = states(place.path());
        let memory = states.root.join(SnapshotKey::of(L1, &inputs("A")).as_str()).join(MEMORY);
        flip(&memory, 0);
        File::options().write(true).open(&memory).unwrap().set_len(CHUNK).unwrap();
        match states.find(L1, &inputs("A")).unwrap() {
            Lookup::Damaged(why) => assert_eq!(why, "memory has 33554432 bytes, 100667392 were written"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_state_of_another_emulator_is_none_and_the_difference_is_told() {
        let place = tempfile::tempdir().unwrap();
        let states = states(place.path());
        save(&states, "QEMU 10.0", &[3]);
        assert!(matches!(states.find(L1, &inputs("QEMU 11.1")).unwrap(), Lookup::Nothing));
        let why = states.nearest(L1, &inputs("QEMU 11.1"));
        assert_eq!(why.as_deref(), Some("emulator: QEMU 10.0, not QEMU 11.1"));
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_what_is_in_use_stays() {
        let place = tempfile::tempdir().unwrap();
        let one = {
            let states = states(place.path());
            save(&states, "A", &[0]);
            states.list().unwrap()[0].bytes
        };
        let states = SnapshotCache::open(place.path().join("states"), one * 2).unwrap();
        let later = |name: &str, seconds| {
            let key = SnapshotKey::of(L1, &inputs(name));
            let used = File::options().write(true).open(states.root.join(key.as_str()).join(USED)).unwrap();
            used.set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        later("A", 10);
        save(&states, "B", &[0]);
        later("B", 20);
        save(&states, "C", &[0]);
        let names = || {
            let all = states.list().unwrap().into_iter();
            all.map(|listed| listed.description.inputs["emulator"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["C", "B"]);
        let in_use = found(&states, "B");
        later("B", 5);
        save(&states, "D", &[0]);
        assert_eq!(names(), ["D", "B"], "C makes room for D");
        assert_eq!(states.clear().unwrap(), one, "B is in use");
        drop(in_use);
        assert_eq!((states.clear().unwrap(), folders(&states)), (one, 0));
    }

    #[test]
    fn what_a_killed_harness_left_half_written_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let first = states(place.path());
        let writing = first.draft(L1, inputs("A")).unwrap();
        let killed = first.root.join("saving-killed");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join(LOCK), "").unwrap();
        let second = states(place.path());
        assert!(!killed.exists() && writing.device().parent().unwrap().exists());
        drop(writing);
        assert_eq!(folders(&second), 0);
    }
}
