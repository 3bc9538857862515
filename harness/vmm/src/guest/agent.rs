//! The stock QEMU guest agent of a level: it runs commands and reads files.
//!
//! Source of the commands: QEMU, docs/interop/qemu-ga-ref.

use std::time::Duration;

use qapi::qga;

use super::powershell;
use crate::wire::{CallError, Wire};

/// First pause between two polls of a command that runs in a level: QGA has no event for its end.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause between two polls.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Timeout of one attempt to synchronize with an agent that is greeted repeatedly.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How a command in a level ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i64>,
    /// The signal that ended it, if one did.
    pub signal: Option<i64>,
    /// Standard output, up to QGA's own limit of 16 MiB.
    pub stdout: Vec<u8>,
    /// Standard error, likewise.
    pub stderr: Vec<u8>,
}

/// State of a command started in a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecState {
    /// It still runs.
    Running,
    /// It has ended.
    Ended(ExecOutput),
}

/// A file that an agent has opened. Dropping it lets the agent close it later; it must be dropped within a
/// [`tokio::task::LocalSet`].
#[derive(Debug)]
pub struct OpenFile {
    wire: Wire,
    handle: i64,
    is_closed: bool,
}

impl OpenFile {
    /// Reads up to `count` bytes at the current position; nothing at the end of the file, which may grow later.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn read(&self, count: i64) -> Result<Vec<u8>, CallError> {
        let read = qga::guest_file_read { handle: self.handle, count: Some(count) };
        Ok(self.wire.execute(read).await?.buf_b64)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn write(&self, bytes: Vec<u8>) -> Result<(), CallError> {
        let write = qga::guest_file_write { handle: self.handle, buf_b64: bytes, count: None };
        self.wire.execute(write).await.map(|_| ())
    }

    /// Writes what the agent has buffered, and closes the file.
    ///
    /// # Errors
    /// Any [`CallError`]; the file is closed nevertheless if it is about the last bytes.
    pub async fn close(mut self) -> Result<(), CallError> {
        let flushed = self.wire.execute(qga::guest_file_flush { handle: self.handle }).await;
        self.is_closed = true;
        self.wire.execute(qga::guest_file_close { handle: self.handle }).await?;
        flushed.map(|_| ())
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if !self.is_closed {
            let (wire, handle) = (self.wire.clone(), self.handle);
            tokio::task::spawn_local(async move {
                // An agent that is gone has closed it.
                let _ = wire.execute(qga::guest_file_close { handle }).await;
            });
        }
    }
}

/// A guest agent that has answered.
#[derive(Debug, Clone)]
pub struct Agent {
    wire: Wire,
}

impl Agent {
    /// Waits until the agent at the other end of `wire` replies to a new synchronization.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn greet(wire: Wire) -> Result<Self, CallError> {
        wire.synchronize(std::process::id()).await?;
        Ok(Self { wire })
    }

    /// The same on a channel that may lose what is sent before the agent listens: a serial line, or the port of a machine whose
    /// firmware (EDK II since 2023) opens it, too. The synchronization is retried.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn greet_repeatedly(wire: Wire) -> Result<Self, CallError> {
        for id in 1.. {
            if let Ok(synchronized) = tokio::time::timeout(ATTEMPT, wire.synchronize(id)).await {
                synchronized?;
                break;
            }
        }
        Ok(Self { wire })
    }

    /// The conversation itself.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Starts `/bin/sh -c script`. Returns its process identifier inside the level.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn start(&self, script: &str) -> Result<i64, CallError> {
        self.start_program("/bin/sh", vec!["-c".into(), script.into()]).await
    }

    async fn start_program(&self, path: &str, arguments: Vec<String>) -> Result<i64, CallError> {
        let command = qga::guest_exec {
            path: path.into(),
            arg: Some(arguments),
            env: None,
            input_data: None,
            capture_output: Some(qga::GuestExecCaptureOutput::flag(true)),
        };
        Ok(self.wire.execute(command).await?.pid)
    }

    /// Polls the command with `pid`. QGA forgets a command once it has reported its end.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn poll(&self, pid: i64) -> Result<ExecState, CallError> {
        let status = self.wire.execute(qga::guest_exec_status { pid }).await?;
        Ok(if status.exited {
            ExecState::Ended(ExecOutput {
                status: status.exitcode,
                signal: status.signal,
                stdout: status.out_data.unwrap_or_default(),
                stderr: status.err_data.unwrap_or_default(),
            })
        } else {
            ExecState::Running
        })
    }

    /// Reads the beginning of a file, up to 4 KiB. For small files, such as those in /proc, this saves a process.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn read_start(&self, path: &str) -> Result<Vec<u8>, CallError> {
        let open = qga::guest_file_open { path: path.into(), mode: None };
        let handle = self.wire.execute(open).await?;
        let read = self.wire.execute(qga::guest_file_read { handle, count: Some(4096) }).await;
        self.wire.execute(qga::guest_file_close { handle }).await?;
        Ok(read?.buf_b64)
    }

    /// Opens a file; `mode` is that of fopen(3).
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn open(&self, path: &str, mode: &str) -> Result<OpenFile, CallError> {
        let open = qga::guest_file_open { path: path.into(), mode: Some(mode.into()) };
        let handle = self.wire.execute(open).await?;
        Ok(OpenFile { wire: self.wire.clone(), handle, is_closed: false })
    }

    /// Runs `/bin/sh -c script` to its end.
    ///
    /// # Errors
    /// Any [`CallError`]; dropping the future leaves the command running inside the level.
    pub async fn run(&self, script: &str) -> Result<ExecOutput, CallError> {
        let pid = self.start(script).await?;
        self.end_of(pid).await
    }

    /// Runs a script of Windows PowerShell to its end.
    ///
    /// # Errors
    /// Any [`CallError`]; dropping the future leaves the command running inside the level.
    pub async fn run_powershell(&self, script: &str) -> Result<ExecOutput, CallError> {
        let pid = self.start_program(powershell::PROGRAM, powershell::arguments(script)).await?;
        self.end_of(pid).await
    }

    /// Polls a command until it has ended.
    async fn end_of(&self, pid: i64) -> Result<ExecOutput, CallError> {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            if let ExecState::Ended(output) = self.poll(pid).await? {
                return Ok(output);
            }
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }
}
