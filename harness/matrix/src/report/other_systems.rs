//! The systems that ran instead of the documented ones: what the marks behind their names mean.

use std::fmt;

use nestmatrix_model::Fidelity;

use super::matrix::short;
use super::text::{grouped, one_line};
use crate::records::LevelRecord;

/// A system that ran instead of documented ones.
pub(super) struct OtherSystem<'r> {
    /// How near it is to them.
    pub(super) fidelity: Fidelity,
    /// Its image.
    pub(super) os: &'r str,
    /// Why it was used.
    pub(super) reason: Option<&'r str>,
    /// The documented systems in short, each once.
    required: Vec<String>,
}

/// Those among these levels, the nearest ones first.
pub(super) fn other_systems<'r>(levels: impl Iterator<Item = &'r LevelRecord>) -> Vec<OtherSystem<'r>> {
    let others = levels.filter(|level| level.fidelity != Fidelity::Product);
    let groups =
        grouped(others, |level| (level.fidelity, level.os.as_str(), level.fidelity_reason.as_deref()));
    let other =
        |((fidelity, os, reason), levels): ((Fidelity, &'r str, Option<&'r str>), Vec<&LevelRecord>)| {
            let mut required: Vec<String> =
                levels.iter().map(|level| short(&one_line(&level.required))).collect();
            required.sort();
            required.dedup();
            OtherSystem { fidelity, os, reason, required }
        };
    let mut others: Vec<OtherSystem<'r>> = groups.into_iter().map(other).collect();
    // The sort is stable, so it keeps the order of the levels.
    others.sort_by_key(|other| other.fidelity);
    others
}

/// What such a system is to the documented one: `debian-13 stands in for RHEL 10`. The reason of a rebuild says that it is one.
pub(super) fn is_used_for(fidelity: Fidelity) -> &'static str {
    match fidelity {
        Fidelity::Product => "is",
        Fidelity::Rebuild => "is used for",
        Fidelity::StandIn => "stands in for",
    }
}

/// `debian-13 stands in for RHEL 10.0+: same 6.12 kernel line`, without the mark.
impl fmt::Display for OtherSystem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.os, is_used_for(self.fidelity), self.required.join(", "))?;
        self.reason.map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}
