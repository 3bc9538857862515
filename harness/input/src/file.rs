//! Files and folders: how a file becomes text without trusting its size or its bytes, and how a text becomes a value.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use crate::error::{InputError, position};
use crate::problem::{FileProblem, Problem};
use crate::table::{Keys, Table};

/// The largest file in bytes that is read. Hand-written files take a few kilobytes.
pub const FILE_SIZE_LIMIT: u64 = 1 << 20;

/// How many problems of one file are reported. A file with more is probably a file of another kind.
const PROBLEM_LIMIT: usize = 100;

/// A text, the name of its file, and the problems found so far.
#[derive(Debug)]
pub struct InputFile<P> {
    name: String,
    text: Arc<str>,
    problems: RefCell<Vec<(Range<usize>, P)>>,
}

impl<P: Problem> InputFile<P> {
    /// A text that is in no file of the user's. `name` stands for the file in errors.
    pub fn new(name: String, text: String) -> Self {
        Self { name, text: text.into(), problems: RefCell::default() }
    }

    /// Reads a file as text.
    ///
    /// # Errors
    /// It can't be read, is no regular file, is larger than [`FILE_SIZE_LIMIT`], or is not UTF-8.
    pub fn read(path: &Path) -> Result<Self, InputError<P>> {
        let name = path.display().to_string();
        let text = read_bytes(path)
            .map_err(|problem| InputError::of_file(&name, problem))
            .and_then(|bytes| decode(&name, bytes))?;
        Ok(Self::new(name, text))
    }

    /// Its text.
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Passes the root table, which may have these keys, to `read`. Returns the contents of the file if nothing is wrong in it.
    ///
    /// # Errors
    /// All problems, from top to bottom.
    pub fn interpret<T>(
        self,
        keys: Keys,
        read: impl FnOnce(&Table<'_, P>) -> Option<T>,
    ) -> Result<T, Vec<InputError<P>>> {
        let (root, errors) = DeTable::parse_recoverable(&self.text);
        // Those after the first are often its consequences: after an opening bracket, every line is wrong.
        let first = errors.iter().min_by_key(|error| error.span().map(|span| span.start));
        let value = match first {
            None => read(&Table::open(&self, root.get_ref(), 0..0, keys)),
            Some(error) => {
                self.report(error.span().unwrap_or(0..0), FileProblem::Syntax(error.message().to_owned()));
                None
            }
        };
        let is_sound = self.problems.borrow().is_empty();
        value.filter(|_| is_sound).ok_or_else(|| self.into_errors())
    }

    fn into_errors(self) -> Vec<InputError<P>> {
        let Self { name, text, problems } = self;
        let mut problems = problems.into_inner();
        problems.sort_by_key(|(span, _)| span.start);
        let more = problems.len().saturating_sub(PROBLEM_LIMIT);
        let named = problems.into_iter().take(PROBLEM_LIMIT);
        let mut errors: Vec<_> =
            named.map(|(span, problem)| InputError::at(&name, &text, span, problem)).collect();
        if more > 0 {
            errors.push(InputError::of_file(&name, FileProblem::More { count: more }));
        }
        errors
    }

    pub(crate) fn report(&self, span: Range<usize>, problem: impl Into<P>) {
        self.problems.borrow_mut().push((span, problem.into()));
    }

    /// The file's name without its folder and its ending.
    pub(crate) fn stem(&self) -> String {
        Path::new(&self.name).file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// `FILE:LINE:COLUMN` of a byte offset.
    pub(crate) fn location(&self, offset: usize) -> String {
        let (line, column) = position(&self.text, offset);
        format!("{}:{line}:{column}", self.name)
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, FileProblem> {
    let too_large = |size| FileProblem::TooLarge { size, limit: FILE_SIZE_LIMIT };
    // Checked before the file is opened, since opening a named pipe would wait for a writer.
    let metadata = fs::metadata(path).map_err(FileProblem::Unreadable)?;
    if !metadata.is_file() {
        return Err(FileProblem::NotAFile);
    }
    if metadata.len() > FILE_SIZE_LIMIT {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::new();
    // One byte more than the limit, to notice a file that grew meanwhile or reported a wrong size.
    File::open(path)
        .and_then(|file| file.take(FILE_SIZE_LIMIT + 1).read_to_end(&mut bytes))
        .map_err(FileProblem::Unreadable)?;
    if bytes.len() as u64 > FILE_SIZE_LIMIT {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

fn decode<P: Problem>(name: &str, bytes: Vec<u8>) -> Result<String, InputError<P>> {
    String::from_utf8(bytes).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        // Up to the first bad byte, the readable rendering is the same as the text, so the place is the same in both.
        let text: Arc<str> = String::from_utf8_lossy(error.as_bytes()).into();
        let bad_byte = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
        InputError::at(name, &text, bad_byte, FileProblem::NotUtf8)
    })
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its path.
    pub path: PathBuf,
    /// Whether it is a folder. A link to one is not.
    pub is_folder: bool,
}

/// The entries of a folder, in the order of their names. Names that start with a dot are editors' own files.
///
/// # Errors
/// The folder can't be read.
pub fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(Entry { path: entry.path(), is_folder: entry.file_type()?.is_dir() });
        }
    }
    entries.sort();
    Ok(entries)
}

/// Whether a path ends in `.toml`.
pub fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}
