//! The events of a trace, as the format defines them. Times are microseconds since the run began.

use serde::Serialize;
use serde_json::{Map, Value};

/// A trace.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The events. An event that encloses another one comes before it.
    pub trace_events: Vec<Event>,
    /// The unit of times in a viewer.
    pub display_time_unit: &'static str,
    /// Facts about the whole run.
    pub other_data: Map<String, Value>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "ph")]
pub enum Event {
    /// The name or the position of a process or a thread.
    #[serde(rename = "M")]
    Metadata {
        /// What is set: `process_name`, `process_sort_index`, `thread_name`, `thread_sort_index`.
        name: &'static str,
        /// The process.
        pid: u64,
        /// The thread.
        tid: u64,
        /// The name or the position.
        args: Map<String, Value>,
    },
    /// A slice: something with a duration.
    #[serde(rename = "X")]
    Slice {
        /// Its name.
        name: String,
        /// Its kind: `cell`, `attempt`, `level`, `stage`.
        cat: &'static str,
        /// When it began.
        ts: u64,
        /// How long it lasts.
        dur: u64,
        /// The process.
        pid: u64,
        /// The thread.
        tid: u64,
        /// Its details.
        args: Map<String, Value>,
    },
    /// Something without a duration.
    #[serde(rename = "i")]
    Instant {
        /// Its name.
        name: String,
        /// Its kind.
        cat: &'static str,
        /// When it happened.
        ts: u64,
        /// The process.
        pid: u64,
        /// The thread.
        tid: u64,
        /// Its scope: `t`, the thread.
        s: &'static str,
        /// Its details.
        args: Map<String, Value>,
    },
    /// The value of a counter from now on.
    #[serde(rename = "C")]
    Counter {
        /// The counter.
        name: String,
        /// When it was read.
        ts: u64,
        /// The process.
        pid: u64,
        /// The value, by the counter's name.
        args: Map<String, Value>,
    },
}

/// Sets a name or a position of the thread `tid` of the process `pid`.
pub(super) fn metadata(name: &'static str, (pid, tid): (u64, u64), value: Value) -> Event {
    let key = if name.ends_with("_sort_index") { "sort_index" } else { "name" };
    Event::Metadata { name, pid, tid, args: Map::from_iter([(key.to_owned(), value)]) }
}

/// The members that are not null.
pub(super) fn known(args: Value) -> Map<String, Value> {
    let Value::Object(mut args) = args else { return Map::new() };
    args.retain(|_, value| !value.is_null());
    args
}
