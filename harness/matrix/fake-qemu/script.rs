//! How a fake QEMU deviates from one whose stack works. Tests write the script, and the fake reads it.
//!
//! The file is the initramfs of the outermost level: its path is on the fake's command line, so that parallel tests in one
//! process each have their own script. If that level boots from a disk, the file is in a folder above the disk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The kernel release that every level reports.
pub const KERNEL: &str = "6.12.0-fake";

/// The name of the file, above the disk of an outermost level.
pub const FILE: &str = "script.json";

/// Everything that deviates.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Script {
    /// What levels do when they boot, by number. The others boot as they should.
    pub boots: BTreeMap<u8, Vec<Act>>,
    /// Commands that end differently. The first that matches counts.
    pub commands: Vec<Command>,
    /// Requests that are answered differently. The first that matches counts.
    pub replies: Vec<Reply>,
    /// What levels do instead when they should power off or panic, by number.
    pub goes_down: BTreeMap<u8, Vec<Act>>,
    /// What levels do after a reset before they are up again, by number.
    pub after_reset: BTreeMap<u8, Vec<Act>>,
    /// Levels whose QEMU uses a whole CPU.
    pub busy: Vec<u8>,
}

/// An act of a level, or of the QEMU that runs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Nothing, for this many milliseconds.
    Wait(u64),
    /// The level prints this line on its console.
    Say(String),
    /// The level prints this on its console, and does not end the line.
    Begin(String),
    /// This text comes on the level's channel of this kind (`console`, `agent`) as fast as it is read, forever.
    Flood(String, String),
    /// The level's guest agent starts to answer.
    AgentAnswers,
    /// The level prints the report of an innermost level.
    Report,
    /// The level powers off.
    PowerOff,
    /// The level's QEMU sends this event.
    Event(String, Value),
    /// The level's QEMU ends.
    EndQemu(End),
    /// The QEMU ends that the level is being migrated to.
    EndTarget(End),
    /// The level's QEMU ends, but no channel shows it: the ports in the level below stay open.
    EndQemuUnseen(End),
}

/// How a process ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Its exit status, if no signal ends it.
    pub status: Option<i64>,
    /// The signal that ends it.
    pub signal: Option<i64>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A command in a level that ends differently.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Command {
    /// The level in which it runs.
    pub level: u8,
    /// Text that its script contains.
    pub contains: String,
    /// How long it runs, in milliseconds; forever if absent.
    pub after: Option<u64>,
    /// How it ends.
    pub end: End,
}

/// A request that is answered differently.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reply {
    /// The channel on which it comes, such as `l1.agent`.
    pub channel: String,
    /// The command, or `greeting` for the first message of a monitor.
    pub command: String,
    /// Text that the normal reply contains.
    pub contains: String,
    /// How many matching requests get the normal answer first.
    pub skip: usize,
    /// What happens instead.
    pub how: How,
}

/// How a request is answered instead.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is not answered, nor is any later one on the channel.
    Never,
    /// It is answered normally after these acts.
    After(Vec<Act>),
    /// It fails with this description.
    Refuse(String),
    /// This is returned.
    Return(Value),
}
