//! What a scenario knows of its cell beforehand, held against what came of it.

use serde::{Deserialize, Serialize};

use crate::scenario::{Expectation, Limitation, Since};
use crate::stack::Observation;

use super::execute::Run;
use super::{CellRecord, PlannedLevel, VerdictWord};

/// A verdict that its scenario has something to say of.
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
}

impl Known {
    /// What stands behind the verdict.
    pub fn note(self) -> &'static str {
        match self {
            Self::Stale => "known stale",
            Self::Wrong => "known",
            Self::CameBack => "known to be gone, came back",
            Self::Righted => "known wrong no longer",
        }
    }
}

impl CellRecord {
    /// What its scenario knew of what came of it, if it did.
    pub fn known(&self) -> Option<Known> {
        let (stale, wrong) = (self.expectation.known_stale(), self.expectation.known_wrong());
        match self.verdict {
            VerdictWord::Xpass if stale.is_some() => Some(Known::Stale),
            VerdictWord::Fail if self.as_described && stale.is_some() => Some(Known::CameBack),
            VerdictWord::Fail if self.as_described && wrong.is_some() => Some(Known::Wrong),
            VerdictWord::Pass if wrong.is_some() => Some(Known::Righted),
            _ => None,
        }
    }

    /// What its scenario says of it, where [`CellRecord::known`] has something.
    pub fn known_text(&self) -> Option<String> {
        self.known()?;
        match &self.expectation {
            Expectation::Stops { known_stale, .. } => known_stale.as_ref().map(ToString::to_string),
            Expectation::Works { known_wrong } => known_wrong.as_ref().map(ToString::to_string),
            Expectation::MayStop(_) => None,
        }
    }

    /// The stop that its scenario describes, if it stopped so.
    pub(super) fn described(&self) -> Option<&Limitation> {
        let stops_so = self.verdict == VerdictWord::Xfail || self.as_described;
        let known_wrong = || self.expectation.known_wrong().map(|known| &known.limitation);
        self.expectation.limitation().or_else(known_wrong).filter(|_| stops_so)
    }

    /// Whether it fails a run: a fail or an xpass that is news, or an error.
    pub fn is_trouble(&self) -> bool {
        match self.verdict {
            VerdictWord::Pass | VerdictWord::Xfail | VerdictWord::Skip => false,
            VerdictWord::Xpass => self.known() != Some(Known::Stale),
            VerdictWord::Fail => self.known() != Some(Known::Wrong),
            VerdictWord::Error => true,
        }
    }
}

impl Run {
    /// Whether all kernels and QEMUs of a stack have the change that came with these versions. The QEMU that plays L0's metal is
    /// none of the stack's.
    pub(super) fn has_change(
        &self,
        since: &Since,
        levels: &[PlannedLevel],
        observation: &Observation,
    ) -> bool {
        let seen = |level: &PlannedLevel| observation.levels.get(&level.spec.level);
        let image = |level: &PlannedLevel| level.boots.as_ref().and_then(|key| self.image(key).ok());
        let kernel = |level| {
            let of_image = image(level).and_then(|image| image.kernel_version());
            of_image.map(|kernel| kernel.release.as_str()).or_else(|| seen(level)?.kernel.as_deref())
        };
        // A level that did not come up has told nothing, but it was to be run by what the image of its host has.
        let qemu = |host, level| {
            let of_image = image(host).and_then(|image| image.qemu_version());
            seen(level).and_then(|seen| seen.qemu.as_deref()).or(of_image.map(|qemu| qemu.upstream.as_str()))
        };
        let hosts = levels.iter().zip(levels.iter().skip(1));
        since.includes(levels.iter().map(kernel), hosts.map(|(host, level)| qemu(host, level)))
    }
}
