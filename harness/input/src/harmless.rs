//! Text of files and arguments on a terminal: control characters in it must not reach that.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Displays as a value does, with each control character but line ends written as in Rust: `\u{1b}`.
pub(crate) struct Harmless<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Harmless<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'f, 'a>(&'f mut fmt::Formatter<'a>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            '\n' => self.0.write_char(c),
            c if c.is_control() => write!(self.0, "{}", c.escape_unicode()),
            c => self.0.write_char(c),
        })
    }
}

/// The text with another character for each control character but white space. It has as many bytes, so that places in it stay the same.
pub(crate) fn same_places(text: &str) -> Cow<'_, str> {
    let replaces = |c: char| c.is_control() && !c.is_ascii_whitespace();
    if !text.contains(replaces) {
        return Cow::Borrowed(text);
    }
    let visible = |c: char| match c.len_utf8() {
        _ if !replaces(c) => c,
        1 => '?',
        _ => '¿',
    };
    Cow::Owned(text.chars().map(visible).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        assert_eq!(Harmless("a\u{1b}[31m\tb\n\u{85}").to_string(), "a\\u{1b}[31m\\u{9}b\n\\u{85}");
    }

    #[test]
    fn a_snippet_keeps_its_places() {
        let text = "é\u{1b}\t\u{9b}x\n";
        let shown = same_places(text);
        assert_eq!(shown, "é?\t¿x\n");
        assert_eq!(shown.len(), text.len());
        assert!(matches!(same_places("a = 1\r\n"), Cow::Borrowed(_)));
    }
}
