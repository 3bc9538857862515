//! Reads a stream of a command that runs in a level, from the files to which it is written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use nestmatrix_vmm::guest::{Agent, OpenFile};
use nestmatrix_vmm::wire::CallError;
use tokio::sync::mpsc;

use super::{Answer, ExecError, Stream};

/// How much is read at once, in bytes.
const READ: i64 = 256 << 10;

/// A stream and how far it is read.
pub(super) struct OutputReader<'a> {
    agent: &'a Agent,
    /// The path of its files without their number.
    path: String,
    stream: Stream,
    number: u32,
    /// The file that is read, once it exists.
    file: Option<OpenFile>,
}

impl<'a> OutputReader<'a> {
    pub(super) fn new(agent: &'a Agent, folder: &str, name: &str, stream: Stream) -> Self {
        Self { agent, path: format!("{folder}/{name}"), stream, number: 0, file: None }
    }

    /// Passes on what is new, up to the end of the current file. Returns whether there was something new, or a next file.
    pub(super) async fn pass_on(&mut self, answers: &mpsc::Sender<Answer>) -> Result<bool, ExecError> {
        if self.file.is_none() {
            self.file = self.open_if_exists(&self.path_of(self.number)).await?;
        }
        let Some(file) = &self.file else { return Ok(false) };
        let bytes = file.read(READ).await?;
        if !bytes.is_empty() {
            self.send(answers, &bytes).await?;
            return Ok(true);
        }
        let Some(next) = self.open_if_exists(&self.path_of(self.number + 1)).await? else { return Ok(false) };
        // Now that the next file exists, this one does not grow any more.
        loop {
            let bytes = file.read(READ).await?;
            if bytes.is_empty() {
                break;
            }
            self.send(answers, &bytes).await?;
        }
        if let Some(read) = self.file.replace(next) {
            read.close().await?;
        }
        // Emptying it shows that it is read, and gives its memory back.
        self.agent.open(&self.path_of(self.number), "w").await?.close().await?;
        self.number += 1;
        Ok(true)
    }

    /// Whether all output is in the files.
    ///
    /// # Errors
    /// Some of it is lost.
    pub(super) async fn is_complete(&mut self) -> Result<bool, ExecError> {
        if self.open_if_exists(&format!("{}.end", self.path)).await?.is_none() {
            return Ok(false);
        }
        match self.open_if_exists(&format!("{}.lost", self.path)).await? {
            None => Ok(true),
            Some(_) => Err(ExecError::OutputLost),
        }
    }

    async fn send(&self, answers: &mpsc::Sender<Answer>, bytes: &[u8]) -> Result<(), ExecError> {
        let printed = Answer::Printed { stream: self.stream, base64: BASE64.encode(bytes) };
        answers.send(printed).await.map_err(|_| ExecError::Unwanted)
    }

    /// Opens a file for reading; none if the agent can't open it, which means that it does not exist yet.
    async fn open_if_exists(&self, path: &str) -> Result<Option<OpenFile>, CallError> {
        match self.agent.open(path, "r").await {
            Ok(file) => Ok(Some(file)),
            Err(CallError::Refused { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn path_of(&self, number: u32) -> String {
        format!("{}.{number}", self.path)
    }
}
