//! The channels of a machine, and what QEMU's end of one is connected to.

use std::fmt;

use nestmatrix_model::LevelNumber;
use serde::{Deserialize, Serialize};

/// What a channel carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelKind {
    /// QEMU's monitor protocol.
    Qmp,
    /// The first serial line.
    Console,
    /// The guest agent.
    Agent,
}

impl ChannelKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Qmp, Self::Console, Self::Agent];
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Qmp => "qmp",
            Self::Console => "console",
            Self::Agent => "agent",
        })
    }
}

/// A channel of a level, from the harness's side. Displays as `l2.qmp`, or `l2-second.qmp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName {
    /// The level whose QEMU or guest is at its other end.
    pub level: LevelNumber,
    /// What it carries.
    pub kind: ChannelKind,
    /// Whether it belongs to the second machine of a level, or passes through it.
    pub second: bool,
}

impl ChannelName {
    /// Name of the virtio-serial port through which this channel passes a level below its own.
    pub fn port_name(self) -> String {
        format!("nest.{self}")
    }

    /// The TCP port that replaces it inside a level that has no virtio-serial ports.
    pub fn tcp_port(self) -> u16 {
        let kind = match self.kind {
            ChannelKind::Qmp => 0,
            ChannelKind::Console => 1,
            ChannelKind::Agent => 2,
        };
        6000 + u16::from(self.level.number()) * 10 + u16::from(self.second) * 5 + kind
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = if self.second { "-second" } else { "" };
        write!(f, "l{}{second}.{}", self.level.number(), self.kind)
    }
}

/// What a QEMU's end of a channel is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A Unix socket on which the harness listens.
    Socket(String),
    /// A virtio-serial port of the level in which the QEMU runs.
    Port(String),
    /// A TCP port of the level in which the QEMU runs. QEMU listens on it.
    Listen(u16),
    /// Two FIFOs, `NAME.in` and `NAME.out`, which a shell script can use.
    Fifos(String),
    /// A pseudo-terminal that QEMU makes, for a person.
    Terminal,
}

impl Backing {
    /// The value of `-chardev` for it.
    pub(crate) fn chardev(&self, id: &str) -> String {
        // In QEMU's option syntax a comma within a value is doubled.
        match self {
            Self::Socket(path) => format!("socket,id={id},path={}", path.replace(',', ",,")),
            Self::Port(path) => format!("serial,id={id},path={}", path.replace(',', ",,")),
            Self::Fifos(name) => format!("pipe,id={id},path={}", name.replace(',', ",,")),
            Self::Terminal => format!("pty,id={id}"),
            Self::Listen(port) => format!("socket,id={id},host=127.0.0.1,port={port},server=on,wait=off"),
        }
    }
}

/// A virtio-serial port of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The channel that it carries.
    pub channel: ChannelName,
    /// Its name inside the guest.
    pub name: String,
}
