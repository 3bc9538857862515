//! The settings of a run, and the errors that prevent a whole run.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use nestmatrix_images::{Catalog, Progress, Store};
use nestmatrix_stack::host::Emulator;
use nestmatrix_stack::{Inspector, SnapshotCache};
use nestmatrix_vmm::qemu::ExecWrapper;
use tokio::task::JoinError;

use super::NoEmulator;
use crate::records::{Purpose, Resumed, RunShard};

/// The settings of a run.
pub struct Setting {
    /// Recipes.
    pub catalog: Catalog,
    /// Images.
    pub store: Arc<Store>,
    /// Receives the progress of builds and downloads.
    pub progress: Arc<dyn Progress + Send + Sync>,
    /// The QEMU that is installed on this machine, for native metal. Without one, the emulator image is used.
    pub native_qemu: Option<Emulator>,
    /// Ends every process that the harness starts together with the harness.
    pub wrapper: ExecWrapper,
    /// Folder of all runs.
    pub results: PathBuf,
    /// How many cells run in parallel; by default, as many as this machine has room for.
    pub jobs: Option<usize>,
    /// The snapshots, if stacks are restored from them and save new ones.
    pub snapshots: Option<Arc<SnapshotCache>>,
    /// The factor of all time limits.
    pub timeout_scale: f64,
    /// How often each cell is booted. If its verdicts differ, it is flaky.
    pub repeat: usize,
    /// The command line's arguments, for the record.
    pub arguments: Vec<String>,
    /// The shard whose cells are planned, if any.
    pub part: Option<RunShard>,
    /// The run that is resumed, if any. The plan has only the cells without a verdict.
    pub resumed: Option<Resumed>,
    /// The purpose of the run.
    pub purpose: Purpose,
    /// Pauses the stacks for a debug session; only with a single cell.
    pub inspector: Option<Rc<dyn Inspector>>,
}

impl Setting {
    /// The same for a part of the run that boots one cell at a time. Its record has begun.
    pub(super) fn of_part(&self) -> Self {
        Self {
            catalog: self.catalog.clone(),
            store: Arc::clone(&self.store),
            progress: Arc::clone(&self.progress),
            native_qemu: self.native_qemu.clone(),
            wrapper: self.wrapper.clone(),
            results: self.results.clone(),
            jobs: Some(1),
            snapshots: self.snapshots.clone(),
            timeout_scale: self.timeout_scale,
            repeat: self.repeat,
            arguments: self.arguments.clone(),
            part: self.part.clone(),
            resumed: None,
            purpose: self.purpose,
            inspector: self.inspector.clone(),
        }
    }
}

/// Why a whole run failed. A failure of one cell is its verdict; this is for failures that no cell can be blamed for.
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
    Sockets(std::io::Error),
    /// The private folder for large files can't be made.
    #[error("failed to make a private folder for the disks of levels in {}: {source}", .cache.display())]
    Scratch {
        /// The cache.
        cache: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// This machine, a disposable host, can't be restored before the run.
    #[error("{0}")]
    Host(String),
    /// An emulator is not available on this machine.
    #[error(transparent)]
    NoEmulator(#[from] NoEmulator),
    /// The task that makes the images ready was aborted.
    #[error("failed to make the images ready: {0}")]
    Provision(JoinError),
    /// The operating system gives no random numbers for a nonce.
    #[error("failed to get a nonce from the operating system: {0}")]
    Nonce(std::io::Error),
}
