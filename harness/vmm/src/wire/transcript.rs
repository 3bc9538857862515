//! The record of a conversation: each line with its direction and its time.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

/// Writes each line of a conversation, with its time in seconds since the cell began, to a file of JSON lines.
#[derive(Debug)]
pub struct Transcript {
    file: Option<File>,
    started: Instant,
}

impl Transcript {
    /// A transcript in a new file at `path`; times count from `started`.
    ///
    /// # Errors
    /// The file can't be created.
    pub fn create(path: &Path, started: Instant) -> std::io::Result<Self> {
        Ok(Self { file: Some(File::create(path)?), started })
    }

    /// No transcript, for a conversation that no record needs.
    pub fn none() -> Self {
        Self { file: None, started: Instant::now() }
    }

    pub(super) fn note(&mut self, direction: &str, message: &Value) {
        let Some(file) = &mut self.file else { return };
        let line = json!({"t": self.started.elapsed().as_secs_f64(), "dir": direction, "message": message});
        // A full disk must not end a conversation. The run's own records report it, since writing them is checked.
        if writeln!(file, "{line}").is_err() {
            tracing::warn!("cannot write a transcript; it ends here");
            self.file = None;
        }
    }
}
