//! What a viewer requires of a trace: a validator of the parts of the "Trace Event Format" that are used.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The contents of a valid trace.
#[derive(Debug, Default)]
pub struct Seen {
    /// Names of slices, by their kind.
    pub slices: BTreeMap<String, Vec<String>>,
    /// Names of instant events.
    pub instants: Vec<String>,
    /// The values of each counter of each process, in the order of time.
    pub counters: BTreeMap<(u64, String), Vec<u64>>,
}

/// Checks a trace, and returns its contents.
///
/// # Panics
/// It is not valid.
pub fn validate(trace: &Value) -> Seen {
    let events = trace["traceEvents"].as_array().expect("a list of events");
    let mut names: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut processes = BTreeSet::new();
    for event in events.iter().filter(|event| event["ph"] == "M") {
        let track = (number(event, "pid"), number(event, "tid"));
        match text(event, "name") {
            "process_name" => {
                assert!(!text(&event["args"], "name").is_empty(), "{event}");
                assert!(processes.insert(track.0), "a process has one name: {event}");
            }
            "thread_name" => {
                let name = text(&event["args"], "name").to_owned();
                assert_eq!(names.insert(track, name), None, "a thread has one name: {event}");
            }
            "process_sort_index" | "thread_sort_index" => _ = number(&event["args"], "sort_index"),
            other => panic!("{other} is no metadata: {event}"),
        }
    }
    let mut seen = Seen::default();
    let mut open: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
    for event in events.iter().filter(|event| event["ph"] != "M") {
        let (pid, ts, name) = (number(event, "pid"), number(event, "ts"), text(event, "name"));
        assert!(!name.is_empty() && !name.chars().any(char::is_control), "{event}");
        assert!(processes.contains(&pid), "its process has a name: {event}");
        match text(event, "ph") {
            "X" => {
                let track = (pid, number(event, "tid"));
                assert!(names.contains_key(&track), "its thread has a name: {event}");
                // The number is unsigned, so it is not negative.
                let end = ts + number(event, "dur");
                let open = open.entry(track).or_default();
                // A slice that has ended before can't enclose this one.
                while open.last().is_some_and(|(_, parent)| *parent <= ts && end > *parent) {
                    open.pop();
                }
                if let Some((start, parent)) = open.last() {
                    assert!(*start <= ts && end <= *parent, "it is within what is around it: {event}");
                }
                open.push((ts, end));
                seen.slices.entry(text(event, "cat").to_owned()).or_default().push(name.to_owned());
            }
            "i" => {
                assert!(names.contains_key(&(pid, number(event, "tid"))), "its thread has a name: {event}");
                assert_eq!(event["s"], "t", "{event}");
                seen.instants.push(name.to_owned());
            }
            "C" => {
                let values = event["args"].as_object().expect("values");
                assert_eq!(values.len(), 1, "{event}");
                let value = values.values().next().and_then(Value::as_u64).expect("a count");
                let counter = seen.counters.entry((pid, name.to_owned())).or_default();
                counter.push(value);
                assert!(counter.is_sorted(), "a counter never goes back: {event}");
            }
            other => panic!("{other} is no kind of event: {event}"),
        }
    }
    seen
}

fn number(value: &Value, member: &str) -> u64 {
    value[member].as_u64().unwrap_or_else(|| panic!("{member} is no whole number: {value}"))
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} is no text: {value}"))
}
