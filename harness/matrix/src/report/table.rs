//! A table: each column is as wide as its widest entry, measured in columns of the terminal.

use super::style::{Role, Style};
use super::text::{cut, width, wrapped};

/// The space between two columns.
const GAP: usize = 2;

/// One entry of a table.
#[derive(Debug, Clone)]
pub struct Entry {
    text: String,
    role: Role,
    right: bool,
}

impl Entry {
    /// An entry that is aligned to the left.
    pub fn new(text: impl Into<String>, role: Role) -> Self {
        Self { text: text.into(), role, right: false }
    }

    /// An entry that is aligned to the right, for numbers.
    pub fn right(text: impl Into<String>, role: Role) -> Self {
        Self { right: true, ..Self::new(text, role) }
    }
}

/// One line of a table.
#[derive(Debug, Clone)]
pub enum Line {
    /// One entry a column, starting with the first column.
    Entries(Vec<Entry>),
    /// Text that begins at the second column. It may be wider than the table, and is cut to the width of the terminal.
    Remark(String),
    /// The same, but wrapped instead of cut.
    Prose(String),
}

/// A table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    lines: Vec<Line>,
}

impl Table {
    /// Appends a line.
    pub fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// The width of its entries. Remarks do not count, because they are cut.
    pub(super) fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
    }

    /// The table, indented.
    pub fn render(&self, indent: usize, style: &Style) -> String {
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

/// A line of entries, without trailing spaces.
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
