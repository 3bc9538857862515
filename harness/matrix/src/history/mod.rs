//! The history: what all runs of a folder of results saw of each cell, in a database beside them.
//!
//! The runs' folders are the truth, and the database is made from them: whoever opens it takes in what is new
//! ([`History::handle_event`]), so that a run that was killed, resumed or merged needs nothing but its folder. docs/history.md has the
//! tables and tells what counts as a change.

mod cell_history;
mod database;
mod entry;
mod error;
mod feed;
mod schema;
#[cfg(test)]
mod testing;

pub use cell_history::{CellHistory, Disagreement, Durations, VerdictChange, Wanted, flips};
pub use database::{FILE, History};
pub(crate) use entry::records;
pub use entry::{AttemptSeen, Circumstances, Difference, HistoryEntry, Software, sightings};
pub use error::HistoryError;
pub use feed::{Fed, Unread};
pub use schema::{SCHEMA, SetAside};
