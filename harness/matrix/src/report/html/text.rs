//! Text that may come from a guest, made safe for the page.

use maud::{Markup, html};
use nestmatrix_vmm::guest::printable;
use serde::Serialize;

/// Text in which characters that are invisible, or that change how others look, are written as escapes. Line ends stay.
pub(in crate::report) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        for c in printable(line).chars() {
            if hides(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
        }
    }
    out
}

/// Invisible characters of Unicode: direction marks, joiners, line separators, tags. [`printable`] handles the explicit direction
/// marks.
fn hides(c: char) -> bool {
    matches!(
        c,
        '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}'
            | '\u{206a}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Prose of a document or a scenario, with code between backticks.
pub(super) fn prose(text: &str) -> Markup {
    let text = shown(text);
    let parts: Vec<&str> = text.split('`').collect();
    // A single backtick is just a backtick.
    if parts.len().is_multiple_of(2) {
        return html! { (text) };
    }
    html! { @for (index, part) in parts.iter().enumerate() { @if index % 2 == 1 { code { (part) } } @else { (part) } } }
}

/// JSON for a `script` element. It cannot end the element or begin a comment.
pub(super) fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned());
    // In JSON, these characters only occur in strings, where an escape means the same.
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_shown() {
        let text = "a\u{200b}b\u{2028}c\u{202e}d\x1b[2Je\nf";
        assert_eq!(shown(text), "a\\u{200b}b\\u{2028}c\\u{202e}d\\u{1b}[2Je\nf");
    }

    #[test]
    fn json_cannot_end_its_element() {
        let text = json(&"</script><!--<script>&");
        assert!(!text.contains(['<', '>', '&']), "{text}");
        let read: String = serde_json::from_str(&text).unwrap();
        assert_eq!(read, "</script><!--<script>&");
    }
}
