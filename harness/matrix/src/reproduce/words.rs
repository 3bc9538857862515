//! Text that becomes part of a shell script: comments, words and here-documents, quoted so that no text can end them.

use nestmatrix_vmm::guest::printable;
use nestmatrix_vmm::shell::quote;

/// A placeholder in a kernel command line for the script's own nonce. The character is in Unicode's private use area, so no
/// text has it.
pub(super) const NONCE: char = '\u{e000}';

/// A comment's text: one line, whatever it contains.
pub(super) fn comment(text: &str) -> String {
    printable(&text.replace('\n', " "))
}

/// One word of a shell script with the value `text`, without control characters for the terminal.
pub(super) fn word(text: &str) -> String {
    quote(&printable(&text.replace('\n', " ")))
}

/// One word of a command line, with [`NONCE`] as the variable of that name; nothing if it can't stand on one line.
pub(super) fn argument(text: &str) -> Option<String> {
    if text.chars().any(char::is_control) {
        return None;
    }
    let Some((before, after)) = text.split_once(NONCE) else { return Some(quote(text)) };
    if !text.contains(['"', '$', '`', '\\']) && !after.contains(NONCE) {
        return Some(format!("\"{before}${{nonce}}{after}\""));
    }
    let parts: Vec<String> = text.split(NONCE).map(quote).collect();
    Some(parts.join("\"$nonce\""))
}

/// A command line over several lines, one option per line; nothing if a word can't stand on one line.
pub(super) fn command_line(program: &str, arguments: &[String], indent: &str) -> Option<String> {
    let mut text = program.to_owned();
    for value in arguments {
        let option = value.starts_with('-');
        text.push_str(if option { " \\\n" } else { " " });
        text.push_str(if option { indent } else { "" });
        text.push_str(&argument(value)?);
    }
    Some(text)
}

/// `text` as a here-document in which the shell expands nothing.
pub(super) fn here_document(text: &str) -> String {
    let mut end = "END".to_owned();
    while text.lines().any(|line| line == end) {
        end.push('_');
    }
    format!("<< '{end}'\n{}\n{end}\n", text.trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a\n$(reboot)\u{1b}[2J", "a $(reboot)\\u{1b}[2J")]
    #[case("\u{202e}x\r", "\\u{202e}x")]
    fn a_comment_stays_on_its_line(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(comment(text), expected);
    }

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(word("it's\n$HOME"), r"'it'\''s $HOME'");
    }

    #[rstest]
    #[case("a b", Some("'a b'"))]
    #[case("a nonce=\u{e000} b", Some("\"a nonce=${nonce} b\""))]
    #[case("a nonce=\u{e000} $(b) 'c'", Some(r#"'a nonce='"$nonce"' $(b) '\''c'\'''"#))]
    #[case("a\nb", None)]
    fn a_kernel_command_line_stays_one_argument(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(argument(text).as_deref(), expected);
    }

    #[test]
    fn a_here_document_ends_where_its_text_does() {
        let text = here_document("a\nEND\nEND_\n");
        assert_eq!(text, "<< 'END__'\na\nEND\nEND_\nEND__\n");
    }
}
