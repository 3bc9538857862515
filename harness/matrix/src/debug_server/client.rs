//! The client of a debug session: finds paused stacks, and sends requests to their levels.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_stack::{Answer, Ask};

use super::{ClientRequest, Greeting, SOCKET};
use nestmatrix_stack::host::Scratch;

/// The timeout of the greeting. A harness that is stopped by a signal never sends it.
const GREETING: Duration = Duration::from_secs(3);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum DebugClientError {
    /// The connection failed.
    #[error("failed to connect to the harness of the debug session: {0}")]
    Unreachable(#[from] io::Error),
    /// The harness ended.
    #[error("the harness of the debug session has ended")]
    Ended,
    /// The harness sent an unknown message.
    #[error("the harness of the debug session sent an unknown message; it may be of another version: {0}")]
    Strange(#[from] serde_json::Error),
}

/// A connection to a debug server.
#[derive(Debug)]
pub struct DebugClient {
    /// The server's first message.
    pub greeting: Greeting,
    pub(super) from: BufReader<UnixStream>,
}

impl DebugClient {
    /// Connects to every debug server of this user.
    ///
    /// # Errors
    /// The folder of the sockets cannot be read.
    pub fn all() -> io::Result<Vec<Self>> {
        let sockets = Scratch::find(SOCKET)?;
        // The sockets of killed harnesses still exist, but no process listens on them.
        Ok(sockets.iter().filter_map(|socket| Self::begin(UnixStream::connect(socket).ok()?).ok()).collect())
    }

    pub(super) fn begin(stream: UnixStream) -> Result<Self, DebugClientError> {
        stream.set_read_timeout(Some(GREETING))?;
        let mut from = BufReader::new(stream);
        let greeting = serde_json::from_str(&line(&mut from)?)?;
        from.get_ref().set_read_timeout(None)?;
        Ok(Self { greeting, from })
    }

    /// Sends a request to a level, and waits for the answer without a timeout.
    ///
    /// # Errors
    /// The harness has ended, or is of another version.
    pub fn ask(&mut self, level: LevelNumber, ask: Ask) -> Result<Answer, DebugClientError> {
        let request = serde_json::to_string(&ClientRequest { level, ask })? + "\n";
        self.from.get_ref().write_all(request.as_bytes()).map_err(|_| DebugClientError::Ended)?;
        Ok(serde_json::from_str(&line(&mut self.from)?)?)
    }
}

fn line(from: &mut BufReader<UnixStream>) -> Result<String, DebugClientError> {
    let mut line = String::new();
    match from.read_line(&mut line) {
        Ok(_) if line.ends_with('\n') => Ok(line),
        Ok(_) => Err(DebugClientError::Ended),
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Err(DebugClientError::Ended),
        Err(e) => Err(e.into()),
    }
}
