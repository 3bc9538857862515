//! Plain text of a fixed width, as in an e-mail: headings, paragraphs, labelled lines.

use crate::report::html::shown;
use crate::report::text::{cut, one_line, width, wrapped};

/// The width of the text.
pub(super) const WIDTH: usize = 80;
/// The length at which quoted output is cut.
const QUOTED: usize = 600;

/// The text that is written so far.
#[derive(Default)]
pub(super) struct Page {
    out: String,
}

impl Page {
    /// A title, underlined.
    pub(super) fn heading(&mut self, text: &str, line: char) {
        self.gap();
        let text = wrapped(&broken(&clean(text), WIDTH), 0, 0, WIDTH);
        let widest = text.lines().map(width).max().unwrap_or(0);
        self.out.push_str(&format!("{text}\n{}\n\n", line.to_string().repeat(widest.min(WIDTH))));
    }

    /// Text that begins at column `indent`.
    pub(super) fn paragraph(&mut self, indent: usize, text: &str) {
        self.labelled(indent, "", indent, text);
    }

    /// Text at column `column` with a label before it, which begins at column `indent`.
    pub(super) fn labelled(&mut self, indent: usize, label: &str, column: usize, text: &str) {
        let label = clean(label);
        let gap = column.saturating_sub(indent + width(&label));
        let text = wrapped(&broken(&clean(text), WIDTH - column), column, 0, WIDTH);
        let line = format!("{:indent$}{label}{:gap$}{text}", "", "");
        self.out.push_str(line.trim_end());
        self.out.push('\n');
    }

    /// Output of a program, with a bar before each line, so that it cannot be mistaken for this text.
    pub(super) fn quote(&mut self, indent: usize, text: &str) {
        let text = broken(&cut(&clean(text), QUOTED), WIDTH - indent - 2);
        for line in wrapped(&text, 0, 0, WIDTH - indent - 2).lines() {
            self.out.push_str(format!("{:indent$}| {line}", "").trim_end());
            self.out.push('\n');
        }
    }

    /// An empty line, unless the text ends with one.
    pub(super) fn gap(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// The whole text; it ends with a line end.
    pub(super) fn finish(self) -> String {
        format!("{}\n", self.out.trim_end())
    }
}

/// Text on one line without control characters or invisible characters.
fn clean(text: &str) -> String {
    shown(&one_line(text))
}

/// Breaks words that are wider than this many columns.
fn broken(text: &str, columns: usize) -> String {
    let mut words = Vec::new();
    for word in text.split(' ') {
        let mut part = String::new();
        for c in word.chars() {
            if width(&part) + width(c.encode_utf8(&mut [0; 4])) > columns {
                words.push(std::mem::take(&mut part));
            }
            part.push(c);
        }
        words.push(part);
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_too_long_and_nothing_acts_on_a_terminal() {
        let mut page = Page::default();
        let hostile =
            format!("{} \u{1b}[2J\u{202e}\u{200b} two\nlines {}", "x".repeat(300), "嵌".repeat(100));
        page.heading(&hostile, '=');
        page.paragraph(70, &hostile);
        page.labelled(5, "label", 16, &hostile);
        page.quote(8, &hostile.repeat(50));
        let text = page.finish();
        assert!(text.lines().all(|line| width(line) <= WIDTH), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{200b}']), "{text}");
        assert!(text.lines().filter(|line| line.contains("| ")).all(|line| line.starts_with("        | ")));
        assert!(text.ends_with("…\n"), "{text}");
    }
}
