//! The style of text: whether it has colours, which ones, and how wide it may be.
//!
//! All escape codes of the reports are here.

use std::ffi::OsString;

use crate::records::VerdictWord;

/// How text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether colours are used. They only repeat what words say.
    pub colour: bool,
    /// The width of the terminal. Prose is wrapped and remarks in tables are cut; names, paths and console lines are not.
    pub width: usize,
}

/// The width of a terminal that does not report its width.
const USUAL_WIDTH: usize = 80;

impl Style {
    /// No colours and no wrapping, for files and pipes.
    pub const fn plain() -> Self {
        Self { colour: false, width: usize::MAX }
    }

    /// The style for a terminal of this width, if that is known. `variable` reads the environment: a `NO_COLOR` that is not
    /// empty (<https://no-color.org>) and `TERM=dumb` turn colours off.
    pub fn for_terminal(width: Option<usize>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let unwanted = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
        let unknown = variable("TERM").is_some_and(|value| value == "dumb");
        Self { colour: !unwanted && !unknown, width: width.unwrap_or(USUAL_WIDTH) }
    }

    /// `text` in the colour of its role.
    pub(super) fn paint(&self, role: Role, text: &str) -> String {
        match role.sgr() {
            Some(sgr) if self.colour && !text.is_empty() => format!("\x1b[{sgr}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// The role of a piece of text, which selects its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ordinary text.
    Plain,
    /// A heading.
    Heading,
    /// Text that stands back.
    Quiet,
    /// A verdict.
    Verdict(VerdictWord),
}

impl Role {
    /// The parameters of the escape sequence that selects the colour ("Select Graphic Rendition", ECMA-48).
    ///
    /// No difference depends on red against green: results as documented are cyan, others are bold and red or yellow, and an
    /// error, which says nothing about the document, is inverse. The palette of the terminal decides the shades.
    fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Quiet | Self::Verdict(VerdictWord::Skip) => Some("2"),
            Self::Verdict(VerdictWord::Pass | VerdictWord::Xfail) => Some("36"),
            Self::Verdict(VerdictWord::Fail) => Some("1;31"),
            Self::Verdict(VerdictWord::Xpass | VerdictWord::Flaky) => Some("1;33"),
            Self::Verdict(VerdictWord::Error) => Some("1;7"),
        }
    }
}
