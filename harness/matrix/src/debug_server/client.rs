//! The visitor's side: finds the stacks that are held, and asks their levels.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_stack::{Answer, Ask};

use super::{Greeting, Inquiry, SOCKET};
use nestmatrix_stack::host::Scratch;

/// How long a desk may take to greet: one that is stopped does not at all.
const GREETING: Duration = Duration::from_secs(3);

/// Why a held stack can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum DebugClientError {
    /// The operating system's answer.
    #[error("the harness that holds the stack can't be reached: {0}")]
    Unreachable(#[from] io::Error),
    /// It ended.
    #[error("the harness that held the stack has ended")]
    Ended,
    /// It says something that is not understood.
    #[error("the harness that holds the stack says what this nestmatrix does not understand: {0}")]
    Strange(#[from] serde_json::Error),
}

/// A conversation with the desk of a stack.
#[derive(Debug)]
pub struct DebugClient {
    /// What the desk said first.
    pub greeting: Greeting,
    pub(super) from: BufReader<UnixStream>,
}

impl DebugClient {
    /// A conversation with every harness of this user's that has a desk.
    ///
    /// # Errors
    /// The folder of the desks can't be read.
    pub fn all() -> io::Result<Vec<Self>> {
        let sockets = Scratch::find(SOCKET)?;
        // Those of harnesses that were killed are still there, and nobody listens.
        Ok(sockets.iter().filter_map(|socket| Self::begin(UnixStream::connect(socket).ok()?).ok()).collect())
    }

    pub(super) fn begin(stream: UnixStream) -> Result<Self, DebugClientError> {
        stream.set_read_timeout(Some(GREETING))?;
        let mut from = BufReader::new(stream);
        let greeting = serde_json::from_str(&line(&mut from)?)?;
        from.get_ref().set_read_timeout(None)?;
        Ok(Self { greeting, from })
    }

    /// Asks a level, and waits for the answer, however long that takes.
    ///
    /// # Errors
    /// The harness is gone, or not of this version.
    pub fn ask(&mut self, level: LevelNumber, ask: Ask) -> Result<Answer, DebugClientError> {
        let inquiry = serde_json::to_string(&Inquiry { level, ask })? + "\n";
        self.from.get_ref().write_all(inquiry.as_bytes()).map_err(|_| DebugClientError::Ended)?;
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
