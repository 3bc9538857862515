//! The file of a domain: read with limits, since it comes from a stranger.

use std::path::Path;
use std::sync::Arc;

use nestmatrix_input::InputFile;
use nestmatrix_vmm::guest::excerpt;
use roxmltree::{Document, Error, ParsingOptions, TextPos};

use super::problem::{DomainError, DomainProblem};

/// The most elements and texts of a file. A domain with a hundred devices has about a thousand.
const NODES: u32 = 20_000;

/// The most attributes of an element. The parser compares each with all others.
const ATTRIBUTES: usize = 500;

/// The text of a domain, and the name of its file.
#[derive(Debug, Clone)]
pub struct DomainXml {
    pub(super) name: String,
    pub(super) text: Arc<str>,
}

impl DomainXml {
    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, is too large, or is not text.
    pub fn read(path: &Path) -> Result<Self, DomainError> {
        let text = InputFile::<DomainProblem>::read(path)?.text();
        Ok(Self::new(path.display().to_string(), &text))
    }

    /// A text; `name` stands for its file.
    pub fn new(name: impl Into<String>, text: &str) -> Self {
        // Editors of other systems write a byte order mark.
        Self { name: name.into(), text: text.trim_start_matches('\u{feff}').into() }
    }

    /// The name of the file, as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Parses the text. A document type is refused, and with it all entities that could grow or name other files.
    pub(super) fn parse(&self) -> Result<Document<'_>, DomainError> {
        if let Some(at) = crowded_tag(&self.text) {
            let why = format!("more than {ATTRIBUTES} attributes of an element");
            return Err(self.error(at, DomainProblem::NotXml(why)));
        }
        let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(&self.text, options).map_err(|error| {
            let at = match error {
                Error::DtdDetected => self.text.find("<!DOCTYPE").unwrap_or(0),
                ref other => self.offset(other.pos()),
            };
            let problem = match error {
                Error::DtdDetected => DomainProblem::DocumentType,
                Error::NodesLimitReached => {
                    DomainProblem::NotXml(format!("more than {NODES} elements and texts"))
                }
                // The parser quotes names of the file.
                other => DomainProblem::NotXml(excerpt(&without_position(&other))),
            };
            self.error(at, problem)
        })?;
        let root = document.root_element();
        match root.tag_name().name() {
            "domain" => Ok(document),
            other => {
                let found = excerpt(other);
                Err(self.error(root.range().start, DomainProblem::NoDomain { found }))
            }
        }
    }

    /// A problem at a place in the file, in bytes.
    pub(super) fn error(&self, at: usize, problem: DomainProblem) -> DomainError {
        let after = self.text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        DomainError::at(&self.name, &visible(&self.text).into(), at..at + after, problem)
    }

    /// The offset in bytes of a position in characters.
    fn offset(&self, TextPos { row, col }: TextPos) -> usize {
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
        let line = self.text.split_inclusive('\n').take(number(row)).map(str::len).sum::<usize>();
        let rest = self.text.get(line..).unwrap_or_default();
        let column = rest.char_indices().nth(number(col)).map_or(rest.len(), |(at, _)| at);
        line + column
    }
}

/// The text as a terminal may show it: what would steer the terminal or reorder a line becomes as many `?` as it has bytes, so
/// offsets stay what they are.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let is_line_end = c == '\n' || (c == '\r' && chars.peek() == Some(&'\n'));
        if !is_line_end && c != '\t' && (c.is_control() || reorders(c)) {
            out.extend(std::iter::repeat_n('?', c.len_utf8()));
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether it is one of Unicode's direction marks, which can make a line look like another one (UAX #9, 2).
fn reorders(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What the parser says, without the position that it appends: the error has its own.
fn without_position(error: &Error) -> String {
    let text = error.to_string();
    let position = format!(" at {}", error.pos());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

/// The place of the first tag with too many attributes. None of its values has a `<`, so the tag ends before the next one.
fn crowded_tag(text: &str) -> Option<usize> {
    let mut at = 0;
    for tag in text.split_inclusive('<') {
        let begins_value = |rest: &str| rest.trim_start().starts_with(['\'', '"']);
        let values = tag.match_indices('=').filter(|(equals, _)| begins_value(&tag[equals + 1..]));
        if values.take(ATTRIBUTES + 1).count() > ATTRIBUTES {
            return Some(at);
        }
        at += tag.len();
    }
    None
}
