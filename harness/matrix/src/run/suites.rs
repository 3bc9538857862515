//! Whether the test suites that a cell's steps run are there.

use nestmatrix_model::{Isa, PROGRAM, Step};

use super::fate::Planner;
use crate::records::SkipReason;
use crate::scenario::Cell;

impl Planner<'_> {
    /// The first suite that a cell needs and that can't run, and why. Without images nothing is known of suites either.
    pub(super) fn without_suite(&self, cell: &Cell) -> Option<SkipReason> {
        let kinds = cell.steps.iter().filter_map(Step::suite).map(|suite| suite.kind);
        let mut missing = kinds.filter_map(|suite| {
            let isa = cell.architecture.isa();
            let added = || self.catalog.suites().iter().any(|built| built.kind() == suite);
            let why = if isa != Isa::Amd64 {
                format!("{suite} has tests for {}, not for {isa}", Isa::Amd64)
            } else if !self.options.suppose_images && !added() {
                format!(
                    "no {suite} (add a folder in which it was built: `{PROGRAM} payloads add {suite} FOLDER`)"
                )
            } else {
                return None;
            };
            Some(SkipReason::NoSuite { suite, why })
        });
        missing.next()
    }
}
