//! What can be wrong with any file, and what can be done about it.

use std::fmt;
use std::io;

use crate::nearest::{did_you_mean, known_words, list};

/// Everything that can be wrong with files of one kind. [`InputError`](crate::InputError) adds the place.
pub trait Problem: fmt::Debug + fmt::Display + From<FileProblem> {
    /// What would be right, or what the user can do.
    fn help(&self) -> String;

    /// The label at the place itself.
    fn label(&self) -> &'static str;
}

/// What can be wrong with a file whatever it holds.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// The file or folder could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// A name that ends in `.toml` is a folder or a device.
    #[error("not a regular file")]
    NotAFile,
    /// The file is larger than any hand-written one, and was not read.
    #[error("the file has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The largest size in bytes that is read.
        limit: u64,
    },
    /// The file is not text.
    #[error("not UTF-8: this byte is not part of any character")]
    NotUtf8,
    /// The file is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// The file is not named after what it holds.
    #[error("{what} `{given}` is in a file named `{file}.toml`")]
    WrongFileName {
        /// What it holds.
        what: &'static str,
        /// The key of its name.
        key: &'static str,
        /// The name as written.
        given: String,
        /// The file's name without its ending.
        file: String,
    },
    /// A key that has no meaning here.
    #[error("unknown key `{key}`")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// The keys that have a meaning here.
        known: &'static [&'static str],
    },
    /// A required key.
    #[error("key `{key}` is missing")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// A required table.
    #[error("table `[{key}]` is missing")]
    MissingTable {
        /// Its key.
        key: &'static str,
    },
    /// A value of another type than the key takes.
    #[error("`{key}` holds {found}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// What was found, with its article.
        found: &'static str,
        /// What the key takes, with its article.
        wanted: &'static str,
    },
    /// A number out of range.
    #[error("`{key}` is out of range: {given}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The number as written.
        given: String,
        /// The least allowed.
        min: u32,
        /// The most allowed.
        max: u32,
    },
    /// A list or text without content.
    #[error("`{key}` is empty")]
    Empty {
        /// The key.
        key: &'static str,
    },
    /// A list with more entries than anyone writes by hand.
    #[error("`{key}` has {count} entries")]
    TooLong {
        /// The key.
        key: &'static str,
        /// How many it has.
        count: usize,
        /// The most allowed.
        limit: usize,
    },
    /// An unknown word.
    #[error("unknown {what} `{given}`")]
    UnknownWord {
        /// What the words are.
        what: &'static str,
        /// The word as written.
        given: String,
        /// The known words.
        known: Vec<String>,
    },
    /// The remaining problems of a file with very many.
    #[error("{count} more")]
    More {
        /// How many are not listed.
        count: usize,
    },
}

impl FileProblem {
    /// What would be right, or what the user can do. `manual` is a page or a folder with examples of such files.
    pub fn help(&self, manual: &str) -> String {
        match self {
            Self::Unreadable(_) => "check that it exists and that you may read it".into(),
            Self::NotAFile => "remove it, or give it a name that does not end in .toml".into(),
            Self::TooLarge { .. } => {
                "files here are a few kilobytes of hand-written TOML: check this file's content".into()
            }
            Self::NotUtf8 => "save the file as UTF-8".into(),
            Self::Syntax(_) => format!("see the examples in {manual}"),
            Self::WrongFileName { key, given, .. } => {
                format!("name the file {given}.toml, or change the {key}")
            }
            Self::UnknownKey { key, known } => {
                format!("{}the keys here are {}", did_you_mean(key, known), list(known))
            }
            Self::MissingKey { key } => format!("add `{key} = ...`; see {manual}"),
            Self::MissingTable { key } => format!("add `[{key}]`; see {manual}"),
            Self::WrongType { key, wanted, .. } => format!("`{key}` takes {wanted}"),
            Self::OutOfRange { min, max, .. } => format!("use a whole number from {min} to {max}"),
            Self::Empty { key } => format!("give `{key}` a value, or remove it if it is optional"),
            Self::TooLong { limit, .. } => format!("the limit is {limit}: split the file"),
            Self::UnknownWord { what, known, .. } if known.is_empty() => {
                format!("there is no {what} at all yet")
            }
            Self::UnknownWord { given, known, .. } => known_words(given, known),
            Self::More { .. } => "fix the problems above first".into(),
        }
    }

    /// The label at the place itself.
    pub fn label(&self) -> &'static str {
        match self {
            Self::MissingKey { .. } | Self::MissingTable { .. } => "missing from this table",
            Self::UnknownKey { .. } | Self::UnknownWord { .. } => "not known",
            Self::WrongType { .. } => "wrong type",
            Self::NotUtf8 => "the first bad byte",
            _ => "here",
        }
    }
}
