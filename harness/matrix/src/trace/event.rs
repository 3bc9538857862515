//! The events of a trace as the format has them. Times are microseconds since the run began.

use serde::Serialize;
use serde_json::{Map, Value};

/// A trace: what a viewer reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The events; what encloses another one comes before it.
    pub trace_events: Vec<Event>,
    /// The unit in which a viewer shows times.
    pub display_time_unit: &'static str,
    /// What is known of the run as a whole.
    pub other_data: Map<String, Value>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "ph")]
pub enum Event {
    /// The name or the place of a process or a thread.
    #[serde(rename = "M")]
    Metadata {
        /// What it is about: `process_name`, `process_sort_index`, `thread_name`, `thread_sort_index`.
        name: &'static str,
        /// Which process.
        pid: u64,
        /// Which of its threads.
        tid: u64,
        /// The name or the place.
        args: Map<String, Value>,
    },
    /// A slice: something that lasts.
    #[serde(rename = "X")]
    Slice {
        /// What.
        name: String,
        /// Of which kind: `cell`, `attempt`, `level`, `stage`.
        cat: &'static str,
        /// When it began.
        ts: u64,
        /// How long it lasts.
        dur: u64,
        /// On which process.
        pid: u64,
        /// On which of its threads.
        tid: u64,
        /// What is known of it.
        args: Map<String, Value>,
    },
    /// Something that happens at once.
    #[serde(rename = "i")]
    Instant {
        /// What.
        name: String,
        /// Of which kind.
        cat: &'static str,
        /// When.
        ts: u64,
        /// On which process.
        pid: u64,
        /// On which of its threads.
        tid: u64,
        /// How far it reaches: `t`, its thread.
        s: &'static str,
        /// What is known of it.
        args: Map<String, Value>,
    },
    /// The value of a counter from now on.
    #[serde(rename = "C")]
    Counter {
        /// The counter.
        name: String,
        /// When it was read.
        ts: u64,
        /// On which process.
        pid: u64,
        /// The value, under the counter's own name.
        args: Map<String, Value>,
    },
}

/// A name or a place of the thread `tid` of the process `pid`.
pub(super) fn metadata(name: &'static str, (pid, tid): (u64, u64), value: Value) -> Event {
    let key = if name.ends_with("_sort_index") { "sort_index" } else { "name" };
    Event::Metadata { name, pid, tid, args: Map::from_iter([(key.to_owned(), value)]) }
}

/// Members without those that are null.
pub(super) fn known(args: Value) -> Map<String, Value> {
    let Value::Object(mut args) = args else { return Map::new() };
    args.retain(|_, value| !value.is_null());
    args
}
