//! A level's console: each line is recorded with the time at which it came, and handed on when it is complete.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::OwnedReadHalf;

/// Longest line, in bytes. A longer one is handed on in pieces: a guest is not trusted to end its lines.
const LONGEST_LINE: usize = 4096;
/// Largest record of a console, in bytes. A guest is not trusted to stop printing.
const LARGEST_RECORD: usize = 16 << 20;

/// Bytes that the record of each line needs besides the line: its time and its end.
const RECORDED_WITH_EACH_LINE: usize = 14;

/// What a console shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// A complete line.
    Line(String),
    /// The beginning of a line whose end has not come yet.
    Unfinished(String),
}

/// Where a console's output goes.
#[derive(Debug)]
pub struct Console {
    record: File,
    /// Bytes that may still be written to the record.
    room: usize,
    started: Instant,
    line: Vec<u8>,
}

impl Console {
    /// A console recorded at the end of the file at `path`; times count from `started`.
    ///
    /// # Errors
    /// The file can't be opened.
    pub fn open(path: &Path, started: Instant) -> std::io::Result<Self> {
        let record = File::options().append(true).create(true).open(path)?;
        Ok(Self { record, room: LARGEST_RECORD, started, line: Vec::new() })
    }

    /// Reads `stream` to its end and hands on what it shows to `each`.
    pub async fn read(mut self, mut stream: OwnedReadHalf, mut each: impl FnMut(Shown)) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => self.feed(&buffer[..n]).into_iter().map(Shown::Line).for_each(&mut each),
            }
            if !self.line.is_empty() {
                each(Shown::Unfinished(printable(&String::from_utf8_lossy(&self.line))));
            }
            // A guest that never stops printing must not block the thread.
            tokio::task::yield_now().await;
        }
        if !self.line.is_empty() {
            each(Shown::Line(self.end_line()));
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut complete = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                complete.push(self.end_line());
            } else {
                self.line.push(*byte);
                if self.line.len() == LONGEST_LINE {
                    complete.push(self.end_line());
                }
            }
        }
        complete
    }

    fn end_line(&mut self) -> String {
        let line = printable(&String::from_utf8_lossy(&self.line));
        self.line.clear();
        self.note(&line);
        line
    }

    fn note(&mut self, line: &str) {
        if self.room == 0 {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let text = match self.room.checked_sub(line.len() + RECORDED_WITH_EACH_LINE) {
            Some(room) => {
                self.room = room;
                format!("[{seconds:10.3}] {line}\n")
            }
            None => {
                self.room = 0;
                format!(
                    "[{seconds:10.3}] (truncated: the console printed more than {} MiB)\n",
                    LARGEST_RECORD >> 20
                )
            }
        };
        if let Err(e) = self.record.write_all(text.as_bytes()) {
            tracing::warn!("cannot write a console's record: {e}");
        }
    }
}

/// `text` without control characters, which a terminal would interpret: a guest's output is hostile input. Line ends at its
/// end are removed too.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end_matches(['\r', '\n']).chars() {
        if c == '\t' || !(c.is_control() || reorders(c)) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

/// The most characters of an excerpt.
const LONGEST_EXCERPT: usize = 1000;

/// The beginning of `text`, [`printable`]: what a guest said, for a message or a record. An agent's answer may have megabytes.
pub fn excerpt(text: &str) -> String {
    match text.char_indices().nth(LONGEST_EXCERPT) {
        None => printable(text),
        Some((end, _)) => printable(&text[..end]) + " ...",
    }
}

/// Whether it is one of Unicode's explicit direction marks, which can make a line look like another one (UAX #9, 2).
fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(excerpt("6.12.1\n"), "6.12.1");
        assert_eq!(excerpt("\u{1b}[2J"), "\\u{1b}[2J");
        let long = excerpt(&"\u{fc}".repeat(5_000_000));
        assert_eq!(long.chars().count(), LONGEST_EXCERPT + 4);
        assert!(long.ends_with("\u{fc} ..."));
    }

    fn console() -> (tempfile::TempDir, Console) {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::open(&dir.path().join("L1.console"), Instant::now()).unwrap();
        (dir, console)
    }

    #[test]
    fn lines_are_complete_however_the_bytes_arrive() {
        let (dir, mut console) = console();
        assert!(console.feed(b"half a li").is_empty());
        assert_eq!(console.feed(b"ne\r\nanother\n"), ["half a line", "another"]);
        let record = std::fs::read_to_string(dir.path().join("L1.console")).unwrap();
        assert_eq!(record.lines().count(), 2);
        assert!(record.lines().all(|l| l.starts_with('[')), "{record}");
    }

    #[test]
    fn a_line_without_end_is_cut_and_not_kept_for_ever() {
        let (_dir, mut console) = console();
        let lines = console.feed(&[b'x'; 3 * LONGEST_LINE]);
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_record_has_an_end_however_much_is_printed() {
        let (dir, mut console) = console();
        console.room = 1000;
        for _ in 0..100 {
            assert_eq!(console.feed(b"once more\n"), ["once more"], "the line is handed on all the same");
        }
        let record = std::fs::read_to_string(dir.path().join("L1.console")).unwrap();
        assert!(record.len() < 1200, "{} bytes", record.len());
        assert!(record.lines().last().unwrap().contains("truncated"), "{record}");
        assert_eq!(record.matches("truncated").count(), 1);
    }

    #[test]
    fn what_a_terminal_would_act_on_is_made_visible() {
        assert_eq!(printable("a\x1b[2Jb\tc\u{9b}1m\r\n"), "a\\u{1b}[2Jb\tc\\u{9b}1m");
        assert_eq!(printable("pass\u{202e}liaf"), "pass\\u{202e}liaf");
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_guest_prints_a_line_is_short_and_has_no_control_characters(
            pieces in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300), 0..40),
        ) {
            let (_dir, mut console) = console();
            for line in pieces.iter().flat_map(|piece| console.feed(piece)) {
                let is_safe = |c: char| c == '\t' || !(c.is_control() || reorders(c));
                proptest::prop_assert!(line.chars().all(is_safe), "{line:?}");
                // Each byte can become an escape such as \u{9f}.
                proptest::prop_assert!(line.len() <= LONGEST_LINE * 8);
                let _ = (crate::guest::symptom_in(&line), crate::guest::kernel_message(&line));
            }
        }
    }
}
