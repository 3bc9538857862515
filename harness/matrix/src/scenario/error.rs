//! Errors in the user's files, with their places: a problem, its file, and a span that miette shows as a snippet.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};

use super::problem::InputProblem;

/// One error in a file or a filter, and its place.
#[derive(Debug)]
pub struct InputError {
    // Boxed, so that a `Result` with it stays small.
    parts: Box<Parts>,
}

#[derive(Debug)]
struct Parts {
    file: String,
    place: Option<Place>,
    problem: InputProblem,
}

#[derive(Debug)]
struct Place {
    source: NamedSource<Arc<str>>,
    span: SourceSpan,
    line: usize,
    column: usize,
}

impl InputError {
    /// A problem with a file as a whole.
    pub(super) fn of_file(file: &str, problem: InputProblem) -> Self {
        Self { parts: Box::new(Parts { file: file.to_owned(), place: None, problem }) }
    }

    /// A problem at a place in a text; `span` is in bytes and on character boundaries.
    pub(super) fn at(file: &str, text: &Arc<str>, span: Range<usize>, problem: InputProblem) -> Self {
        let (line, column) = position(text, span.start);
        let source = NamedSource::new(file, Arc::clone(text));
        let place = Place { source, span: span.into(), line, column };
        Self { parts: Box::new(Parts { file: file.to_owned(), place: Some(place), problem }) }
    }

    /// The file, as the user named it; `filter` for a filter.
    pub fn file(&self) -> &str {
        &self.parts.file
    }

    /// The line, from 1, if the problem is at a place in the file.
    pub fn line(&self) -> Option<usize> {
        self.parts.place.as_ref().map(|place| place.line)
    }

    /// The column in characters, from 1, if the problem is at a place in the file.
    pub fn column(&self) -> Option<usize> {
        self.parts.place.as_ref().map(|place| place.column)
    }

    /// What is wrong.
    pub fn problem(&self) -> &InputProblem {
        &self.parts.problem
    }
}

/// Line and column, both from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// `FILE:LINE:COLUMN: PROBLEM`, as compilers write it, so that a line of a log is enough to find the place.
impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { file, place, problem } = &*self.parts;
        match place {
            Some(Place { line, column, .. }) => write!(f, "{file}:{line}:{column}: {problem}"),
            None => write!(f, "{file}: {problem}"),
        }
    }
}

impl std::error::Error for InputError {}

impl Diagnostic for InputError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.parts.problem.help()))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.parts.place.as_ref().map(|place| &place.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.parts.place.as_ref()?;
        let label = LabeledSpan::new_with_span(Some(self.parts.problem.label().to_owned()), place.span);
        Some(Box::new(std::iter::once(label)))
    }
}

/// Every error in a folder of scenarios: those of the folder, its systems, documents and scenarios, in this order, and in each
/// file from top to bottom.
#[derive(Debug)]
pub struct InputErrors {
    folder: String,
    errors: Vec<InputError>,
}

impl InputErrors {
    pub(super) fn new(folder: String, errors: Vec<InputError>) -> Self {
        Self { folder, errors }
    }

    /// The errors; there is at least one.
    pub fn errors(&self) -> &[InputError] {
        &self.errors
    }
}

impl fmt::Display for InputErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors.len();
        write!(f, "{count} error{} in the files of {}", if count == 1 { "" } else { "s" }, self.folder)
    }
}

impl std::error::Error for InputErrors {}

impl Diagnostic for InputErrors {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.errors.iter().map(|error| error as &dyn Diagnostic)))
    }
}
