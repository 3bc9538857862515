//! The timeline of a run as a trace that Perfetto and Chrome show: the "Trace Event Format", in JSON.
//!
//! The run itself is a process, whose threads are the places in which cells ran side by side. Each cell is one more, with a thread
//! for its attempts and one for each level, on which its stages stand within the time in which the level was up. A viewer shows a
//! process folded until somebody opens it, so that 300 cells stay readable: what ran when is on top.

mod event;
mod lanes;
mod timeline;

pub use event::{Event, Trace};
