//! What an import could not express.

use std::fmt;

/// How much an inexact part of an import matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The level differs from the domain in a way that can change what is seen.
    ChangesMeaning,
    /// The level has something near instead.
    Approximated,
    /// The level does not have it, and nesting does not depend on it.
    LeftOut,
}

impl Weight {
    /// All of them, the most important first.
    pub const ALL: [Self; 3] = [Self::ChangesMeaning, Self::Approximated, Self::LeftOut];

    /// A heading for the findings of this weight.
    pub fn heading(self) -> &'static str {
        match self {
            Self::ChangesMeaning => "can change the result",
            Self::Approximated => "approximated",
            Self::LeftOut => "left out, without effect on nesting",
        }
    }
}

/// A part of a domain that the scenario does not have, or not exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// Its line, from 1.
    pub line: u32,
    /// Its column in characters, from 1.
    pub column: u32,
    /// What it is, without control characters: `devices/input type=tablet`.
    pub what: String,
    /// Why, and what the level has instead.
    pub reason: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, what, reason, .. } = self;
        write!(f, "{line}:{column}: {what}: {reason}")
    }
}
