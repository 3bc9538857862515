//! The near ends of a machine's channels while the machine is launched. How they are opened depends on the host.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nestmatrix_vmm::qemu::{ChannelKind, ChannelName};
use tokio::net::{UnixListener, UnixStream};

use super::relay::as_channel;
use super::{HostError, QemuEnd, Relay, RunningProcess};

/// Interval at which a process is polled for its end while it is expected to connect.
const POLL: Duration = Duration::from_millis(5);

/// Pause before the next attempt to reach a port of a level on which no process listened yet.
const RETRY: Duration = Duration::from_millis(300);

/// The near ends of the channels of a machine that is about to be launched.
#[derive(Debug)]
pub enum NearEnds {
    /// The harness has them already: they are ports of the machines around.
    Held,
    /// The harness listens on these sockets.
    Listening(Vec<(ChannelName, PathBuf, UnixListener)>),
    /// Each is a port of a level without virtio, on which the machine's process listens.
    Relayed {
        /// How they are reached.
        relay: Relay,
        /// The level's name.
        level: String,
        /// The channels. The monitor of the machine itself comes first.
        channels: Vec<ChannelName>,
    },
}

impl NearEnds {
    /// Opens them, now that `process` is started. Returns those that the harness did not have before.
    ///
    /// # Errors
    /// The process ended before, or a channel can't be opened.
    pub async fn open(
        self,
        process: &dyn RunningProcess,
    ) -> Result<BTreeMap<ChannelName, UnixStream>, HostError> {
        match self {
            Self::Held => Ok(BTreeMap::new()),
            Self::Listening(sockets) => accept(sockets, process).await,
            Self::Relayed { relay, level, channels } => connect(&relay, &level, channels, process).await,
        }
    }
}

async fn accept(
    sockets: Vec<(ChannelName, PathBuf, UnixListener)>,
    process: &dyn RunningProcess,
) -> Result<BTreeMap<ChannelName, UnixStream>, HostError> {
    let mut streams = BTreeMap::new();
    for (channel, socket, listener) in sockets {
        let what = format!("waiting for QEMU to open {channel}");
        let (stream, _) = opened(process, listener.accept(), &what).await?;
        streams.insert(channel, stream);
        // Both ends are open now, so the name in the file system is no longer needed.
        let _ = std::fs::remove_file(socket);
    }
    Ok(streams)
}

/// Connects to the ports, as soon as the process listens.
async fn connect(
    relay: &Relay,
    level: &str,
    channels: Vec<ChannelName>,
    process: &dyn RunningProcess,
) -> Result<BTreeMap<ChannelName, UnixStream>, HostError> {
    let failed = |source| HostError::System { what: format!("connecting to {level}"), source };
    let mut streams = BTreeMap::new();
    for channel in channels {
        // The monitor comes first. When it greets, QEMU listens for all others.
        let is_monitor = channel.kind == ChannelKind::Qmp && streams.is_empty();
        let stream = loop {
            let stream = relay.connect(channel.tcp_port()).await.map_err(failed)?;
            if !is_monitor || matches!(stream.peek(&mut [0]).await, Ok(1..)) {
                break stream;
            }
            if let Some(end) = process.ended().await? {
                return Err(HostError::EndedAtStart(end));
            }
            tokio::time::sleep(RETRY).await;
        };
        streams.insert(channel, as_channel(stream).map_err(failed)?);
    }
    Ok(streams)
}

/// The connection of a process to its listener, or how it ended before.
pub(crate) async fn opened<S>(
    process: &dyn RunningProcess,
    accept: impl Future<Output = io::Result<S>>,
    what: &str,
) -> Result<S, HostError> {
    tokio::select! {
        accepted = accept => {
            accepted.map_err(|source| HostError::System { what: what.to_owned(), source })
        }
        end = end_of(process) => Err(HostError::EndedAtStart(end?)),
    }
}

async fn end_of(process: &dyn RunningProcess) -> Result<QemuEnd, HostError> {
    loop {
        if let Some(end) = process.ended().await? {
            return Ok(end);
        }
        tokio::time::sleep(POLL).await;
    }
}
