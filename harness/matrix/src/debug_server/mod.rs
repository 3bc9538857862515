//! The debug session of a paused stack, over a Unix socket of the user. The server is the harness that paused the stack; a client
//! sends requests to its levels.
//!
//! The protocol is JSON lines: first the server's [`Greeting`], then a request and its answers, repeatedly. A client that closes the
//! connection cancels its request.

mod client;
mod serve;

use nestmatrix_model::{LevelNumber, Stage};
use nestmatrix_stack::{Ask, PausedStack};
use serde::{Deserialize, Serialize};

use crate::scenario::{CellName, Fingerprint};

pub use client::{DebugClient, DebugClientError, ExecEnd};
pub use serve::{DebugServer, PauseAt, SessionEvent};

/// Name of the socket in the harness's folder.
const SOCKET: &str = "debug";

/// The first message of a debug server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    /// The cell whose stack it is.
    pub cell: CellName,
    /// The current stage of the stack.
    pub stage: Stage,
    /// The paused stack; `None` while it is running.
    #[serde(rename = "held")]
    pub paused: Option<PausedStack>,
    /// The fingerprint of the cell, if the stack is kept for commands of the user: it has no steps and faults, and no user inspects it.
    #[serde(default)]
    pub kept: Option<Fingerprint>,
}

impl Greeting {
    /// Whether the stack is that of `cell`, and its level `level` runs commands of the user.
    pub fn runs_commands(&self, cell: &CellName, level: LevelNumber) -> bool {
        let mut levels = self.paused.iter().flat_map(|paused| &paused.levels);
        self.cell == *cell && levels.any(|paused| paused.level == level && paused.exec)
    }
}

/// A request of a client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ClientRequest {
    /// The level.
    level: LevelNumber,
    /// What the level is asked for.
    #[serde(flatten)]
    ask: Ask,
}
