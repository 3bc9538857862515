//! Compares a verdict with what the cell's scenario knows beforehand.

use serde::{Deserialize, Serialize};

use super::{CellRecord, VerdictWord};
use crate::scenario::{Expectation, Limitation};

/// How a verdict relates to what its scenario knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// An xpass: the limitation is known to be gone.
    Stale,
    /// A fail: the claim is known to be wrong, and the stack stopped as it did when that was seen.
    Wrong,
    /// A fail: the limitation is known to be gone, and it shows itself again.
    CameBack,
    /// A pass: the claim is known to be wrong, and the stack works.
    Righted,
    /// A flaky cell: it is known to be, with the software that ran.
    Flaky,
}

impl Known {
    /// The note that reports print after the verdict.
    pub fn note(self) -> &'static str {
        match self {
            Self::Stale => "known stale",
            Self::Wrong | Self::Flaky => "known",
            Self::CameBack => "known to be gone, came back",
            Self::Righted => "known wrong no longer",
        }
    }
}

impl CellRecord {
    /// What its scenario knew about this verdict, if anything.
    pub fn known(&self) -> Option<Known> {
        let (stale, wrong) = (self.expectation.known_stale(), self.expectation.known_wrong());
        match self.verdict {
            VerdictWord::Xpass if stale.is_some() => Some(Known::Stale),
            VerdictWord::Fail if self.as_described && stale.is_some() => Some(Known::CameBack),
            VerdictWord::Fail if self.as_described && wrong.is_some() => Some(Known::Wrong),
            VerdictWord::Pass if wrong.is_some() => Some(Known::Righted),
            VerdictWord::Flaky if self.as_described && self.known_flaky.is_some() => Some(Known::Flaky),
            _ => None,
        }
    }

    /// The text of its scenario about this verdict, if [`CellRecord::known`] has something.
    pub fn known_text(&self) -> Option<String> {
        if self.known()? == Known::Flaky {
            return self.known_flaky.as_ref().map(ToString::to_string);
        }
        match &self.expectation {
            Expectation::Stops { known_stale, .. } => known_stale.as_ref().map(ToString::to_string),
            Expectation::Works { known_wrong } => known_wrong.as_ref().map(ToString::to_string),
            Expectation::MayStop(_) => None,
        }
    }

    /// The stop that its scenario describes, if the stack stopped so.
    pub(crate) fn described(&self) -> Option<&Limitation> {
        if self.verdict == VerdictWord::Flaky {
            return self.known_flaky.as_ref().map(|known| &known.limitation).filter(|_| self.as_described);
        }
        let stops_so = self.verdict == VerdictWord::Xfail || self.as_described;
        let known_wrong = || self.expectation.known_wrong().map(|known| &known.limitation);
        self.expectation.limitation().or_else(known_wrong).filter(|_| stops_so)
    }

    /// Whether it fails a run: an error, or a fail, an xpass or a flaky cell that is not known yet.
    pub fn is_trouble(&self) -> bool {
        match self.verdict {
            VerdictWord::Pass | VerdictWord::Xfail | VerdictWord::Skip => false,
            VerdictWord::Xpass => self.known() != Some(Known::Stale),
            VerdictWord::Fail => self.known() != Some(Known::Wrong),
            VerdictWord::Flaky => self.known() != Some(Known::Flaky),
            VerdictWord::Error => true,
        }
    }
}
