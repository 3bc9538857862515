//! What a snapshot is: its key, its description and the hashes of its files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nestmatrix_model::LevelNumber;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{DEVICE, DISKS, MEMORY, STATE};
use crate::StageTime;

/// Version of the format of a snapshot. It goes into every key.
pub(super) const FORMAT: u32 = 1;

/// The inputs of a snapshot, by name.
pub type Inputs = BTreeMap<String, String>;

/// Identifies a snapshot: two snapshots with the same key have the same inputs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotKey(String);

impl SnapshotKey {
    /// The key of the snapshot of a stack up to `level` with these inputs.
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

/// A level of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotLevel {
    /// Its number.
    pub level: LevelNumber,
    /// The process of its QEMU in the level below; absent for the outermost, whose emulator is started again.
    pub pid: Option<i64>,
    /// The version of its QEMU.
    pub qemu: String,
    /// The firmware that its QEMU was asked for, if it is not the machine's default.
    pub firmware: Option<String>,
}

/// What a snapshot is: `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// Its key.
    pub key: SnapshotKey,
    /// Its inputs.
    pub inputs: Inputs,
    /// The innermost level that is up in it.
    pub level: LevelNumber,
    /// Its levels, outermost first.
    pub levels: Vec<SnapshotLevel>,
    /// When it was saved, UTC, RFC 3339.
    pub saved: String,
    /// The stages that it went through, in seconds since its cell began.
    pub stages: Vec<StageTime>,
    /// Size of its memory.
    pub(super) memory_bytes: u64,
    /// SHA-256 of its memory, chunk by chunk.
    pub(super) memory: Vec<String>,
    /// SHA-256 of its devices.
    pub(super) device: String,
    /// The files that its levels have written to, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) disks: BTreeMap<String, SavedDisk>,
}

/// A file that a level has written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedDisk {
    /// Its size.
    pub(super) bytes: u64,
    /// Its SHA-256, chunk by chunk.
    pub(super) sha256: Vec<String>,
}

impl Description {
    /// The files in its folder that are compared with their hashes.
    pub(super) fn files(&self, folder: &Path) -> Vec<PathBuf> {
        let disks = self.disks.keys().map(|name| folder.join(DISKS).join(name));
        [DEVICE, MEMORY].map(|name| folder.join(name)).into_iter().chain(disks).collect()
    }

    /// The stamps of these files.
    ///
    /// # Errors
    /// A file can't be read, and why.
    pub(super) fn stamps(&self, folder: &Path) -> Result<Vec<Stamp>, (String, io::Error)> {
        let stamp = |path: PathBuf| {
            stamp(&path).map_err(|e| {
                let name = path.strip_prefix(folder).unwrap_or(&path);
                (name.display().to_string(), e)
            })
        };
        self.files(folder).into_iter().map(stamp).collect()
    }
}

/// A stamp that changes when the file does.
pub(super) type Stamp = (u64, u64, i64, i64, u64);

/// The description in a snapshot's folder, if it exists and can be read.
pub(super) fn describe(folder: &Path) -> Option<Description> {
    serde_json::from_slice(&fs::read(folder.join(STATE)).ok()?).ok()
}

/// A hash as hexadecimal digits.
pub(super) fn hex(hasher: Sha256) -> String {
    hex::encode(hasher.finalize())
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let file = fs::metadata(path)?;
    Ok((file.dev(), file.ino(), file.ctime(), file.ctime_nsec(), file.size()))
}

/// How the inputs of a snapshot differ from the wanted ones, in words.
pub(super) fn difference(saved: &Inputs, wanted: &Inputs) -> String {
    let names: Vec<&str> = wanted
        .iter()
        .filter(|(name, value)| saved.get(*name) != Some(*value))
        .map(|(name, _)| name.as_str())
        .chain(saved.keys().filter(|name| !wanted.contains_key(*name)).map(String::as_str))
        .collect();
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [name] => match (saved.get(*name), wanted.get(*name)) {
            (Some(saved), Some(wanted)) if saved.len() + wanted.len() < 160 => {
                format!("{name}: {saved}, not {wanted}")
            }
            _ => format!("another {name}"),
        },
        names => format!("other {}", names.join(", ")),
    }
}
