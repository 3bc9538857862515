//! What a cell changed on a disposable host, for its record.

use serde::{Deserialize, Serialize};

/// Longest value that is recorded, in characters.
const KEPT: usize = 2000;

/// A thing that was found in one state and left in another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostChange {
    /// Its path: `/sys/module/kvm_amd/parameters/nested`.
    pub what: String,
    /// Its value before the cell; absent if it was not there.
    pub found: Option<String>,
    /// Its value after the cell; absent if it was not there.
    pub left: Option<String>,
    /// Whether it is again as it was found.
    pub restored: bool,
}

impl HostChange {
    /// A change that is not restored yet.
    pub(super) fn new(what: &str, found: Option<String>, left: Option<String>) -> Self {
        let kept = |value: String| value.chars().take(KEPT).collect();
        Self { what: what.to_owned(), found: found.map(kept), left: left.map(kept), restored: false }
    }

    /// For a sentence: `/proc/sys/vm/nr_hugepages is "512" and was "0"`.
    pub(super) fn describe(&self) -> String {
        let value =
            |value: &Option<String>| value.as_ref().map_or("missing".to_owned(), |v| format!("{v:?}"));
        format!("{} is {} and was {}", self.what, value(&self.left), value(&self.found))
    }
}
