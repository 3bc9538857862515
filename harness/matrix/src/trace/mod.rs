//! The timeline of a run as a trace for Perfetto and Chrome: the "Trace Event Format", in JSON.
//!
//! The run is a process, with one thread for each cell that ran in parallel. Each cell is a process too, with a thread for its
//! attempts and one for each level; the stages of a level are within the time when it was up. Viewers fold processes, so that 300
//! cells stay readable below the overview of the run.

mod event;
mod lanes;
mod timeline;

pub use event::{Event, Trace};
