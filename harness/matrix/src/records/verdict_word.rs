//! The names of verdicts, as records, reports and exit codes use them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A verdict's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictWord {
    /// It works, as documented.
    Pass,
    /// It does not work, against the document.
    Fail,
    /// It stops as the document says.
    Xfail,
    /// It works though the document says that it stops: the document is stale.
    Xpass,
    /// Attempts in one setting gave different verdicts, or the cell is known to behave so.
    Flaky,
    /// It was not tried, because a requirement is missing.
    Skip,
    /// The harness or this machine is at fault; the verdict says nothing about the matrix.
    Error,
}

impl fmt::Display for VerdictWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Xfail => "xfail",
            Self::Xpass => "xpass",
            Self::Flaky => "flaky",
            Self::Skip => "skip",
            Self::Error => "error",
        })
    }
}
