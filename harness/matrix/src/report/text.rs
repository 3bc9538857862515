//! Text that fits the terminal: control characters removed, measured in columns, cut, wrapped, and laid out as labelled fields.

use nestmatrix_vmm::guest::printable;
use textwrap::{Options, WordSeparator, WordSplitter, WrapAlgorithm};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::style::{Role, Style};

/// The width of a field's label.
const LABEL: usize = 12;
/// The indentation of a field.
const INDENT: usize = 2;

/// Text that may come from a guest, on one line and without control characters.
pub(super) fn one_line(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| printable(line.trim_end()).replace('\t', " ")).collect();
    lines.join(" ")
}

/// A figure of a benchmark, with as many digits as are meaningful.
pub(super) fn number(figure: f64) -> String {
    let digits = if figure.abs() >= 100.0 { 0 } else { 2 };
    format!("{figure:.digits$}")
}

/// The width of `text` in columns.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// `text` cut to this many columns, at least one. If something is cut off, it ends with `…`.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |c: &char| {
        used += c.width().unwrap_or(0);
        used <= columns
    };
    let kept: String = text.chars().take_while(fits).collect();
    format!("{}…", kept.trim_end())
}

/// `text` broken between words so that its lines end before column `columns`. The first line begins at column `start`, after
/// what the caller has written there; the others are indented to that column and by `hang` more. A word that is wider than a
/// line gets a line of its own.
pub(super) fn wrapped(text: &str, start: usize, hang: usize, columns: usize) -> String {
    let text: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let (first, others) = (" ".repeat(start), " ".repeat(start + hang));
    let options = Options::new(columns)
        .initial_indent(&first)
        .subsequent_indent(&others)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .wrap_algorithm(WrapAlgorithm::FirstFit);
    let text = textwrap::fill(&text.join(" "), options);
    text.strip_prefix(&first).map_or(text.clone(), str::to_owned)
}

/// Paragraphs with a label before the first one. If there are several, their further lines are indented more.
pub(super) fn field(label: &str, paragraphs: &[String], style: &Style) -> String {
    let hang = if paragraphs.len() > 1 { 2 } else { 0 };
    let whole = |paragraph: &String| wrapped(paragraph, INDENT + LABEL, hang, style.width);
    labelled(label, paragraphs.iter().map(whole), style)
}

/// Lines that are never wrapped, with a label before the first one.
pub(super) fn verbatim(label: &str, lines: &[String], style: &Style) -> String {
    labelled(label, lines.iter().cloned(), style)
}

/// Lines that are cut to the width of the terminal, with a label before the first one.
pub(super) fn lines(label: &str, lines: &[String], style: &Style) -> String {
    let columns = style.width.saturating_sub(INDENT + LABEL).max(1);
    labelled(label, lines.iter().map(|line| cut(line, columns)), style)
}

fn labelled(label: &str, texts: impl Iterator<Item = String>, style: &Style) -> String {
    let mut out = String::new();
    for (index, text) in texts.enumerate() {
        let label = if index == 0 { label } else { "" };
        let gap = LABEL.saturating_sub(width(label));
        let line = format!("{:INDENT$}{}{:gap$}{text}", "", style.paint(Role::Quiet, label), "");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A duration: `31 s`, `3 min 12 s`, `1 h 5 min`.
pub(super) fn duration(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let parts = match (hours, minutes) {
        (0, 0) => [(0, "h"), (seconds, "s")],
        (0, _) => [(minutes, "min"), (seconds % 60, "s")],
        (_, _) => [(hours, "h"), (minutes, "min")],
    };
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(number, unit)| format!("{number} {unit}")).collect();
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

/// Groups items by a key. The keys are in the order of their first items.
pub(super) fn grouped<T, K: PartialEq>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for item in items {
        let key = key(&item);
        match groups.iter_mut().find(|(of, _)| *of == key) {
            Some((_, group)) => group.push(item),
            None => groups.push((key, vec![item])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("fits", 4, "fits")]
    #[case("does not", 5, "does…")]
    #[case("does not", 6, "does…")]
    #[case("嵌套虚拟化", 7, "嵌套虚…")]
    #[case("嵌套虚拟化", 6, "嵌套…")]
    fn text_is_cut_by_the_columns_that_it_takes(
        #[case] text: &str,
        #[case] columns: usize,
        #[case] expected: &str,
    ) {
        let cut = cut(text, columns);
        assert_eq!(cut, expected);
        assert!(width(&cut) <= columns);
    }

    #[rstest]
    #[case("one two three", 2, 0, 9, "one two\n  three")]
    #[case("one two three", 2, 0, 8, "one\n  two\n  three")]
    #[case("one two three four", 0, 2, 8, "one two\n  three\n  four")]
    #[case("a incomprehensibly b", 0, 0, 8, "a\nincomprehensibly\nb")]
    #[case("never broken", 4, 0, usize::MAX, "never broken")]
    fn text_is_broken_between_words(
        #[case] text: &str,
        #[case] start: usize,
        #[case] hang: usize,
        #[case] columns: usize,
        #[case] expected: &str,
    ) {
        assert_eq!(wrapped(text, start, hang, columns), expected);
    }

    #[rstest]
    #[case(0, "0 s")]
    #[case(59, "59 s")]
    #[case(60, "1 min")]
    #[case(192, "3 min 12 s")]
    #[case(3900, "1 h 5 min")]
    #[case(7200, "2 h")]
    fn durations_have_the_two_units_that_matter(#[case] seconds: u64, #[case] expected: &str) {
        assert_eq!(duration(seconds), expected);
    }
}
