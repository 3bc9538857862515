//! Where a held stack is attended to, over a Unix socket of this user's: one side belongs to the harness that holds it, the
//! other to whoever wants to ask its levels something.
//!
//! A conversation is JSON lines: first the desk's [`Greeting`], then an inquiry and its answer, again and again. Who hangs up
//! does not wait for the answer any more.

mod client;
mod serve;

use nestmatrix_model::{LevelNumber, Stage};
use nestmatrix_stack::{Ask, PausedStack};
use serde::{Deserialize, Serialize};

use crate::scenario::CellName;

pub use client::{DebugClient, DebugClientError};
pub use serve::{DebugServer, News, PauseAt};

/// Name of the socket in the folder of its harness.
const SOCKET: &str = "desk";

/// What a desk says first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    /// The cell whose stack it is.
    pub cell: CellName,
    /// The stage that it is in.
    pub stage: Stage,
    /// The stack as it is held; nothing while it is on its way.
    pub held: Option<PausedStack>,
}

/// What a visitor asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inquiry {
    /// Of which level.
    level: LevelNumber,
    /// What.
    #[serde(flatten)]
    ask: Ask,
}
