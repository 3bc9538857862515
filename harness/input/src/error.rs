//! Errors with their places: a problem, its file, and a span that miette shows as a snippet.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};

use crate::harmless::{Harmless, same_places};
use crate::problem::Problem;

/// One mistake in a file or an argument, and its place.
#[derive(Debug)]
pub struct InputError<P> {
    // Boxed, so that a `Result` with it stays small.
    parts: Box<Parts<P>>,
}

#[derive(Debug)]
struct Parts<P> {
    place: Place,
    problem: P,
}

#[derive(Debug)]
enum Place {
    /// The problem names what it is about.
    None,
    File(String),
    InFile {
        source: NamedSource<Arc<str>>,
        span: SourceSpan,
        line: usize,
        column: usize,
        has_snippet: bool,
    },
    InArgument {
        text: Arc<str>,
        span: SourceSpan,
    },
}

impl<P: Problem> InputError<P> {
    /// A problem with a file as a whole.
    pub fn of_file(file: &str, problem: impl Into<P>) -> Self {
        Self::new(Place::File(file.to_owned()), problem)
    }

    /// A problem at a place in a file; `span` is in bytes and on character boundaries.
    pub fn at(file: &str, text: &Arc<str>, span: Range<usize>, problem: impl Into<P>) -> Self {
        let (line, column) = position(text, span.start);
        let shown = match same_places(text) {
            Cow::Borrowed(_) => Arc::clone(text),
            Cow::Owned(shown) => shown.into(),
        };
        let source = NamedSource::new(file, shown);
        let has_snippet = has_short_lines(text, &span);
        let place = Place::InFile { source, span: span.into(), line, column, has_snippet };
        Self::new(place, problem)
    }

    /// A problem at a place in an argument of a command; `span` is in bytes and on character boundaries.
    pub fn in_argument(text: &str, span: Range<usize>, problem: impl Into<P>) -> Self {
        Self::new(Place::InArgument { text: same_places(text).into(), span: span.into() }, problem)
    }

    /// A problem that names the whole argument it is about.
    pub fn of_argument(problem: impl Into<P>) -> Self {
        Self::new(Place::None, problem)
    }

    fn new(place: Place, problem: impl Into<P>) -> Self {
        Self { parts: Box::new(Parts { place, problem: problem.into() }) }
    }

    /// The file, as the user named it, if the problem is with a file.
    pub fn file(&self) -> Option<&str> {
        match &self.parts.place {
            Place::InFile { source, .. } => Some(source.name()),
            Place::File(file) => Some(file),
            Place::None | Place::InArgument { .. } => None,
        }
    }

    /// The line and the column in characters, both from 1, if the problem is at a place in a file.
    pub fn position(&self) -> Option<(usize, usize)> {
        match self.parts.place {
            Place::InFile { line, column, .. } => Some((line, column)),
            Place::None | Place::File(_) | Place::InArgument { .. } => None,
        }
    }

    /// What is wrong.
    pub fn problem(&self) -> &P {
        &self.parts.problem
    }
}

/// The longest line in bytes that is shown. No reader needs a longer one, and miette can't format a column beyond 65535.
const LONGEST_LINE: usize = 10_000;

/// Whether the lines that miette shows of a place are short: its own, and those before and after it.
fn has_short_lines(text: &str, span: &Range<usize>) -> bool {
    let (before, rest) = text.split_at_checked(span.start).unwrap_or((text, ""));
    let (place, after) = rest.split_at_checked(span.len()).unwrap_or((rest, ""));
    let around = before.rsplit('\n').take(2).map(str::len).chain(after.split('\n').take(2).map(str::len));
    around.chain(place.split('\n').map(str::len)).all(|length| length <= LONGEST_LINE)
}

/// Line and column, both from 1, of a byte offset.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// `FILE:LINE:COLUMN: PROBLEM`, as compilers write it, so that a line of a log is enough to find the place.
impl<P: Problem> fmt::Display for InputError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { place, problem } = &*self.parts;
        let problem = Harmless(problem);
        match place {
            Place::InFile { source, line, column, .. } => {
                write!(f, "{}:{line}:{column}: {problem}", source.name())
            }
            Place::File(file) => write!(f, "{file}: {problem}"),
            // A position in an argument is no place that an editor could open. The snippet shows it.
            Place::None | Place::InArgument { .. } => write!(f, "{problem}"),
        }
    }
}

impl<P: Problem> std::error::Error for InputError<P> {}

impl<P: Problem> Diagnostic for InputError<P> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(Harmless(self.parts.problem.help()).to_string()))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match &self.parts.place {
            Place::InFile { source, has_snippet: true, .. } => Some(source),
            Place::InArgument { text, .. } => Some(text),
            Place::None | Place::File(_) | Place::InFile { .. } => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (Place::InFile { span, has_snippet: true, .. } | Place::InArgument { span, .. }) =
            &self.parts.place
        else {
            return None;
        };
        let label = LabeledSpan::new_with_span(Some(self.parts.problem.label().to_owned()), *span);
        Some(Box::new(std::iter::once(label)))
    }
}

/// Every mistake in a folder of files, in each file from top to bottom.
#[derive(Debug)]
pub struct InputErrors<P> {
    folder: String,
    errors: Vec<InputError<P>>,
}

impl<P: Problem> InputErrors<P> {
    /// These mistakes, of which there is at least one.
    pub fn new(folder: String, errors: Vec<InputError<P>>) -> Self {
        Self { folder, errors }
    }

    /// The errors; there is at least one.
    pub fn errors(&self) -> &[InputError<P>] {
        &self.errors
    }
}

impl<P: Problem> fmt::Display for InputErrors<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors.len();
        write!(f, "{count} error{} in the files of {}", if count == 1 { "" } else { "s" }, self.folder)
    }
}

impl<P: Problem> std::error::Error for InputErrors<P> {}

impl<P: Problem> Diagnostic for InputErrors<P> {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.errors.iter().map(|error| error as &dyn Diagnostic)))
    }
}
