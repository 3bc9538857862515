//! Reads TOML files that people write. All mistakes in a folder of files are reported at once, each with file, line, column, the
//! line itself, and advice.
//!
//! A kind of files brings its own enum of problems, which implements [`Problem`] and includes [`FileProblem`]. [`InputFile::read`]
//! reads the text, [`InputFile::interpret`] turns it into a type through [`Table`]s, and [`InputErrors`] is the report.

mod error;
mod file;
mod harmless;
mod nearest;
mod problem;
mod table;

pub use error::{InputError, InputErrors};
pub use file::{Entry, FILE_SIZE_LIMIT, InputFile, entries, is_toml};
pub use nearest::{list, nearest};
pub use problem::{FileProblem, Problem};
pub use table::{Keys, Table, Text, TextOrTable};
