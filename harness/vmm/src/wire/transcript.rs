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
        let shortened = without_contents(message);
        let message = shortened.as_ref().unwrap_or(message);
        let line = json!({"t": self.started.elapsed().as_secs_f64(), "dir": direction, "message": message});
        // A full disk must not end a conversation. The run's own records report it, since writing them is checked.
        if writeln!(file, "{line}").is_err() {
            tracing::warn!("cannot write a transcript; it ends here");
            self.file = None;
        }
    }
}

/// Longest contents of a file in a transcript, in characters of base64.
const LONGEST_CONTENTS: usize = 16 << 10;

/// The message with a note instead of the contents of a large file that an agent reads or writes; none if it has no such contents.
fn without_contents(message: &Value) -> Option<Value> {
    for place in ["arguments", "return"] {
        let Some(contents) = message[place]["buf-b64"].as_str().filter(|text| text.len() > LONGEST_CONTENTS)
        else {
            continue;
        };
        let note = format!("({} characters of base64)", contents.len());
        // A copy of the other members, which are few and short.
        let others = message[place].as_object()?.iter().filter(|(name, _)| *name != "buf-b64");
        let mut object: serde_json::Map<String, Value> =
            others.map(|(name, value)| (name.clone(), value.clone())).collect();
        object.insert("buf-b64".to_owned(), note.into());
        let mut shortened = json!({});
        if let Some(command) = message.get("execute") {
            shortened["execute"] = command.clone();
        }
        shortened[place] = object.into();
        return Some(shortened);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contents_of_a_large_file_are_not_recorded() {
        let large = "A".repeat(LONGEST_CONTENTS + 1);
        let write = json!({"execute": "guest-file-write", "arguments": {"handle": 3, "buf-b64": large}});
        let note = "(16385 characters of base64)";
        let expected = json!({"execute": "guest-file-write", "arguments": {"handle": 3, "buf-b64": note}});
        assert_eq!(without_contents(&write), Some(expected));
        assert_eq!(without_contents(&json!({"return": {"count": 4, "buf-b64": "AAAA"}})), None);
        assert_eq!(without_contents(&json!({"return": 7})), None);
    }
}
