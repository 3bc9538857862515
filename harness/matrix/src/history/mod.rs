//! The history: the results of each cell in all runs of a folder of results, in a database next to the runs.
//!
//! The folders of the runs are the source, and the database is built from them: each use of the history first adds what is new
//! ([`History::update`]), so a run that was killed, resumed or merged needs no special treatment. docs/history.md describes the
//! tables and what counts as a change.

mod cell_history;
mod database;
mod entry;
mod error;
mod schema;
#[cfg(test)]
mod testing;
mod update;

pub use cell_history::{CellHistory, Disagreement, Durations, VerdictChange, Wanted, flips};
pub use database::{FILE, History};
pub(crate) use entry::records;
pub use entry::{AttemptSeen, Circumstances, Difference, HistoryEntry, Software, entries};
pub use error::HistoryError;
pub use schema::{SCHEMA, SetAside};
pub use update::{Unread, Updated};
