//! How text looks: whether it has colours, which ones, and how wide it may be.
//!
//! Apart so that every escape code of the project's reports stands in one place.

use std::ffi::OsString;

use crate::records::VerdictWord;

/// How text is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether colours may be used. They only repeat what words say.
    pub colour: bool,
    /// Columns of the terminal. Prose is broken to fit and remarks in tables are cut; names, paths and console lines
    /// are left as they are.
    pub width: usize,
}

/// Columns of a terminal that does not tell.
const USUAL_WIDTH: usize = 80;

impl Style {
    /// No colours, and lines as long as they come: for files and pipes.
    pub const fn plain() -> Self {
        Self { colour: false, width: usize::MAX }
    }

    /// For a terminal with this many columns, if it tells. `variable` reads the environment: a `NO_COLOR` that is not
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

/// What a piece of text is, as far as its looks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    Heading,
    Quiet,
    Verdict(VerdictWord),
}

impl Role {
    /// The parameters of the escape sequence that selects its looks ("Select Graphic Rendition", ECMA-48).
    ///
    /// Red is never told from green: what is as documented is cyan, what is not is bold, and red or yellow, and an
    /// error, which says nothing of the document, is inverse. The terminal's own palette decides the shades.
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
