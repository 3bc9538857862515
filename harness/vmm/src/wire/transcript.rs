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
    /// A transcript in the file at `path`, after what earlier conversations on the same channel left there; times count from
    /// `started`.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn open(path: &Path, started: Instant) -> std::io::Result<Self> {
        let file = File::options().append(true).create(true).open(path)?;
        Ok(Self { file: Some(file), started })
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

/// Longest contents of a file or of a command's output in a transcript, in characters of base64, and longest argument of a command.
const LONGEST_CONTENTS: usize = 16 << 10;

/// What a guest agent calls them (QEMU, qga/qapi-schema.json): a file, the output of a command, and its arguments.
const CONTENTS: [&str; 4] = ["buf-b64", "out-data", "err-data", "arg"];

/// The message with shortened contents; none if it has no long ones. Of a file, only the size is kept, and otherwise the beginning.
fn without_contents(message: &Value) -> Option<Value> {
    let place = ["arguments", "return"].into_iter().find(|place| message[*place].is_object())?;
    let object = message[place].as_object()?;
    if !CONTENTS.iter().any(|name| object.get(*name).is_some_and(is_long)) {
        return None;
    }
    let short = |(name, value): (&String, &Value)| match CONTENTS.contains(&name.as_str()) {
        true => (name.clone(), shortened(name, value)),
        false => (name.clone(), value.clone()),
    };
    let object: serde_json::Map<String, Value> = object.iter().map(short).collect();
    let mut message_without = json!({});
    if let Some(command) = message.get("execute") {
        message_without["execute"] = command.clone();
    }
    message_without[place] = object.into();
    Some(message_without)
}

fn is_long(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() > LONGEST_CONTENTS,
        Value::Array(values) => values.iter().any(is_long),
        _ => false,
    }
}

fn shortened(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if is_long(value) => {
            let kind = if name == "arg" { "characters" } else { "characters of base64" };
            let note = format!("({} {kind})", text.len());
            match name {
                "buf-b64" => note.into(),
                _ => format!("{}... {note}", text.chars().take(LONGEST_CONTENTS).collect::<String>()).into(),
            }
        }
        Value::Array(values) => values.iter().map(|value| shortened(name, value)).collect(),
        other => other.clone(),
    }
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

    #[test]
    fn of_the_long_output_and_arguments_of_a_command_the_beginning_is_recorded() {
        let [long, kept] = [2 * LONGEST_CONTENTS, LONGEST_CONTENTS].map(|length| "A".repeat(length));
        let ended = json!({"return": {"exited": true, "exitcode": 0, "out-data": long, "err-data": "AAAA"}});
        let shortened = format!("{kept}... (32768 characters of base64)");
        let expected =
            json!({"return": {"exited": true, "exitcode": 0, "out-data": shortened, "err-data": "AAAA"}});
        assert_eq!(without_contents(&ended), Some(expected));

        let exec = |argument: &str| json!({"execute": "guest-exec", "arguments": {"path": "sh", "arg": ["-c", argument]}});
        assert_eq!(without_contents(&exec(&long)), Some(exec(&format!("{kept}... (32768 characters)"))));
        assert_eq!(without_contents(&exec("true")), None);
    }
}
