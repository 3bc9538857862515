//! A table of painted text: columns as wide as what stands in them, measured in columns of the terminal.

use super::style::{Role, Style};
use super::text::{cut, width, wrapped};

/// Columns between two columns of a table.
const GAP: usize = 2;

/// A piece of text in a table.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    text: String,
    role: Role,
    right: bool,
}

impl Entry {
    /// Text, against the left edge of its column.
    pub(super) fn new(text: impl Into<String>, role: Role) -> Self {
        Self { text: text.into(), role, right: false }
    }

    /// Text, against the right edge of its column, as numbers stand.
    pub(super) fn right(text: impl Into<String>, role: Role) -> Self {
        Self { right: true, ..Self::new(text, role) }
    }
}

/// What stands below each other in a table.
#[derive(Debug, Clone)]
pub(super) enum Line {
    /// One entry for each column, from the first on.
    Entries(Vec<Entry>),
    /// Text that begins at the table's second column and may go beyond its last; cut where it does not fit.
    Remark(String),
    /// Likewise, but broken into lines.
    Prose(String),
}

/// A table.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    lines: Vec<Line>,
}

impl Table {
    /// Appends a line.
    pub(super) fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// The columns of the terminal that its entries take; remarks don't count, since they are cut.
    pub(super) fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
    }

    /// The table, indented.
    pub(super) fn render(&self, indent: usize, style: &Style) -> String {
        let widths = self.widths();
        let start = widths.first().map_or(0, |first| first + GAP);
        let mut out = String::new();
        for line in &self.lines {
            out.push_str(&" ".repeat(indent));
            match line {
                Line::Entries(entries) => out.push_str(&render(entries, &widths, style)),
                Line::Remark(text) => {
                    out.push_str(&" ".repeat(start));
                    out.push_str(&cut(text, style.width.saturating_sub(indent + start).max(1)));
                }
                Line::Prose(text) => {
                    out.push_str(&" ".repeat(start));
                    out.push_str(&wrapped(text, indent + start, 2, style.width));
                }
            }
            out.push('\n');
        }
        out
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for line in &self.lines {
            let Line::Entries(entries) = line else { continue };
            widths.resize(widths.len().max(entries.len()), 0);
            for (column, entry) in widths.iter_mut().zip(entries) {
                *column = (*column).max(width(&entry.text));
            }
        }
        widths
    }
}

/// A line without spaces at its end.
fn render(entries: &[Entry], widths: &[usize], style: &Style) -> String {
    let mut out = String::new();
    let mut spaces = 0;
    for (entry, column) in entries.iter().zip(widths) {
        let free = column - width(&entry.text);
        if entry.text.is_empty() {
            spaces += column + GAP;
            continue;
        }
        out.push_str(&" ".repeat(spaces + if entry.right { free } else { 0 }));
        out.push_str(&style.paint(entry.role, &entry.text));
        spaces = GAP + if entry.right { 0 } else { free };
    }
    out
}
