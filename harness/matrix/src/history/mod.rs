//! The history: what all runs of a folder of results saw of each cell, in a database beside them.
//!
//! The runs' folders are the truth, and the database is made from them: whoever opens it takes in what is new
//! ([`History::take_in`]), so that a run that was killed, resumed or merged needs nothing but its folder. docs/history.md has the
//! tables and tells what counts as a change.

mod database;
mod error;
mod feed;
mod schema;
mod sighting;
#[cfg(test)]
mod testing;
mod trail;

pub use database::{FILE, History};
pub use error::HistoryError;
pub use feed::{Fed, Unread};
pub use schema::{SCHEMA, SetAside};
pub(crate) use sighting::records;
pub use sighting::{AttemptSeen, Circumstances, Difference, Sighting, Software, sightings};
pub use trail::{Disagreement, Durations, Trail, Turn, Wanted, flips};
