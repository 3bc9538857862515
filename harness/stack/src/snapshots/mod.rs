//! Snapshots: a machine with all the levels that run in it, on disk, from which any number of stacks are restored.
//!
//! ```text
//! states/gate            held while folders are made or swept
//! states/KEY/            a snapshot, complete and never changed; KEY is the SHA-256 of all that went into it
//!     lock               held by those who use it, and by the process that removes it
//!     state.json         what it is, and the SHA-256 of its files
//!     seal               the SHA-256 of state.json
//!     device             the devices: as QEMU writes them when it migrates a machine, or as an archive of what another emulator saves
//!     memory             the memory, with holes where it is all zeros
//!     disks/             what its levels from disks have written
//!     records/           consoles and conversations up to here
//!     used               an empty file whose time says when the snapshot was last used
//! states/saving-XXXXXX/  one that is being written; rubbish if no process holds its lock
//! states/removing-XXX/   one that is being removed
//! ```

mod cache;
mod draft;
mod format;
mod memory;

pub use cache::{Listed, Lookup, Snapshot, SnapshotCache};
pub use draft::{Draft, Finished, Parts};
pub use format::{Description, Inputs, SnapshotKey, SnapshotLevel};

const GATE: &str = "gate";
const LOCK: &str = "lock";
const STATE: &str = "state.json";
const SEAL: &str = "seal";
const DEVICE: &str = "device";
const MEMORY: &str = "memory";
const RECORDS: &str = "records";
const DISKS: &str = "disks";
const USED: &str = "used";
const SAVING: &str = "saving-";
const REMOVING: &str = "removing-";

#[cfg(test)]
mod tests;
