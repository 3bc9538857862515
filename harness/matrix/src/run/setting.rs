//! What a run is carried out with, and what keeps a whole run from being carried out.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use nestmatrix_images::{Catalog, Progress, Store};
use nestmatrix_stack::host::Emulator;
use nestmatrix_stack::{Inspector, SnapshotCache};
use nestmatrix_vmm::qemu::ExecWrapper;
use tokio::task::JoinError;

use crate::records::{Part, Purpose, Resumed};

/// What a run is carried out with.
pub struct Setting {
    /// Recipes.
    pub catalog: Catalog,
    /// Images.
    pub store: Arc<Store>,
    /// Told of builds and downloads.
    pub progress: Arc<dyn Progress + Send + Sync>,
    /// QEMU for native metal, if this machine has one of its own; its emulator image is used otherwise.
    pub native_qemu: Option<Emulator>,
    /// Ties the life of whatever is started to the harness's.
    pub wrapper: ExecWrapper,
    /// Folder of all runs.
    pub results: PathBuf,
    /// How many cells run side by side; as many as this machine has room for, if that is not said.
    pub jobs: Option<usize>,
    /// Saved states, if stacks go on from them and leave new ones.
    pub states: Option<Arc<SnapshotCache>>,
    /// What all limits are multiplied by.
    pub timeout_scale: f64,
    /// How often each cell is booted. Where its verdicts differ, it is flaky.
    pub repeat: usize,
    /// The command line's arguments, for the record.
    pub arguments: Vec<String>,
    /// The shard whose cells are planned, if they are those of one.
    pub part: Option<Part>,
    /// The run that is gone on with, if it is none of its own. The plan is of the cells that it still lacks.
    pub resumed: Option<Resumed>,
    /// What it is made for.
    pub purpose: Purpose,
    /// Holds the stacks, if they are to be held; only where there is one cell.
    pub inspector: Option<Rc<dyn Inspector>>,
}

/// Why a run can't go on. Cells have verdicts; this is for what no cell can be blamed for.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The records can't be written.
    #[error("failed to write the run's records in {}: {source}", .path.display())]
    Records {
        /// Where.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The private folder for sockets can't be made.
    #[error("failed to make a private folder for sockets: {0}")]
    Scratch(std::io::Error),
    /// There is no recipe for an emulator that runs on this machine.
    #[error("no recipe for {program} on {isa} machines")]
    NoEmulator {
        /// The emulator.
        program: String,
        /// This machine's instruction set.
        isa: String,
    },
    /// Making the images ready did not come to its end.
    #[error("failed to make the images ready: {0}")]
    Provision(JoinError),
    /// The operating system gives no random numbers, so no nonce.
    #[error("failed to read a nonce from /dev/urandom: {0}")]
    Nonce(std::io::Error),
}
