//! The client of a debug session: finds paused stacks, and sends requests to their levels.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nestmatrix_model::LevelNumber;
use nestmatrix_stack::{Answer, Ask, Exec, Stream};

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
    /// The output of a command can't be passed on.
    #[error("failed to print: {0}")]
    Print(io::Error),
}

/// How a command of the user ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEnd {
    /// It exited with this status, or was ended by the signal of this number less 128.
    Exited(i64),
    /// It ran longer than it may, and is ended by the harness of the session.
    TimedOut,
    /// It has no end that counts, and why.
    Failed(String),
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

    /// Connects to the debug server on this socket.
    ///
    /// # Errors
    /// No server runs, or it does not answer.
    pub fn connect(socket: &Path) -> Result<Self, DebugClientError> {
        Self::begin(UnixStream::connect(socket)?)
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
        self.send(level, ask)?;
        Ok(serde_json::from_str(&line(&mut self.from)?)?)
    }

    /// Runs a command of the user in a level, and hands its output to `print` as it comes. The timeout begins when its files have been
    /// copied. Dropping this client ends a command that still runs.
    ///
    /// # Errors
    /// The harness has ended, or is of another version; `print` failed.
    pub fn exec(
        &mut self,
        level: LevelNumber,
        exec: Exec,
        timeout: Option<Duration>,
        mut print: impl FnMut(Stream, &[u8]) -> io::Result<()>,
    ) -> Result<ExecEnd, DebugClientError> {
        self.send(level, Ask::Exec(exec))?;
        let mut deadline: Option<Instant> = None;
        loop {
            if let Some(deadline) = deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    // It prints all the time.
                    return self.give_up();
                }
                self.from.get_ref().set_read_timeout(Some(left))?;
            }
            let line = match line(&mut self.from) {
                Err(DebugClientError::Unreachable(e)) if is_late(&e) => {
                    return self.give_up();
                }
                line => line?,
            };
            match serde_json::from_str(&line)? {
                Answer::Started => deadline = timeout.map(|timeout| Instant::now() + timeout),
                Answer::Printed { stream, base64 } => {
                    let bytes = BASE64.decode(base64).map_err(io::Error::other)?;
                    print(stream, &bytes).map_err(DebugClientError::Print)?;
                }
                Answer::Ended { status: Some(status), .. } => return Ok(ExecEnd::Exited(status)),
                Answer::Ended { signal, .. } => {
                    return Ok(ExecEnd::Failed(format!(
                        "the agent's shell was ended by signal {}",
                        signal.unwrap_or_default()
                    )));
                }
                Answer::Refused { why } => return Ok(ExecEnd::Failed(why)),
                other @ Answer::Returned { .. } => {
                    return Ok(ExecEnd::Failed(format!("unexpected answer: {other:?}")));
                }
            }
        }
    }

    /// Closes the connection, so that the harness ends the command.
    fn give_up(&self) -> Result<ExecEnd, DebugClientError> {
        self.from.get_ref().shutdown(Shutdown::Both)?;
        Ok(ExecEnd::TimedOut)
    }

    fn send(&self, level: LevelNumber, ask: Ask) -> Result<(), DebugClientError> {
        let request = serde_json::to_string(&ClientRequest { level, ask })? + "\n";
        self.from.get_ref().write_all(request.as_bytes()).map_err(|_| DebugClientError::Ended)
    }
}

/// Whether a read ended because of its timeout.
fn is_late(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
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
