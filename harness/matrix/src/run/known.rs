//! What a scenario knows of its cell beforehand, held against what came of it.

use nestmatrix_stack::{Metal, Observation};
use serde::{Deserialize, Serialize};

use super::execute::Run;
use super::{CellRecord, PlannedLevel, VerdictWord};
use crate::scenario::{Cell, Expectation, KnownFlaky, Limitation, MetalWord, Since};

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
    /// A flaky cell: it is known to be, with the software that ran.
    Flaky,
}

impl Known {
    /// What stands behind the verdict.
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
    /// What its scenario knew of what came of it, if it did.
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

    /// What its scenario says of it, where [`CellRecord::known`] has something.
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

    /// The stop that its scenario describes, if it stopped so.
    pub(super) fn described(&self) -> Option<&Limitation> {
        if self.verdict == VerdictWord::Flaky {
            return self.known_flaky.as_ref().map(|known| &known.limitation).filter(|_| self.as_described);
        }
        let stops_so = self.verdict == VerdictWord::Xfail || self.as_described;
        let known_wrong = || self.expectation.known_wrong().map(|known| &known.limitation);
        self.expectation.limitation().or_else(known_wrong).filter(|_| stops_so)
    }

    /// Whether it fails a run: a fail, an xpass or a flaky cell that is news, or an error.
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

impl Run {
    /// Whether all kernels and QEMUs of a stack have the change that came with these versions.
    pub(super) fn has_change(
        &self,
        since: &Since,
        levels: &[PlannedLevel],
        observation: &Observation,
    ) -> bool {
        let (kernels, qemus) = self.versions(levels, observation);
        since.includes(kernels.iter().map(Option::as_deref), qemus.iter().map(Option::as_deref))
    }

    /// What is known of a cell's being flaky on the metal and with the versions that it ran on.
    pub(super) fn known_flaky<'c>(
        &self,
        cell: &'c Cell,
        metal: Metal,
        levels: &[PlannedLevel],
        observation: &Observation,
    ) -> Option<&'c KnownFlaky> {
        let on = match metal {
            Metal::Native => MetalWord::Native,
            Metal::Emulated => MetalWord::Emulated,
        };
        let (kernels, qemus) = self.versions(levels, observation);
        let are = |versions: &Since| {
            versions.are(kernels.iter().map(Option::as_deref), qemus.iter().map(Option::as_deref))
        };
        cell.known_flaky.iter().find(|known| {
            known.metal.is_none_or(|metal| metal == on) && known.versions.as_ref().is_none_or(are)
        })
    }

    /// The versions of all kernels and QEMUs of a stack, as far as they are known. The QEMU that plays L0's metal is none of the
    /// stack's.
    fn versions(
        &self,
        levels: &[PlannedLevel],
        observation: &Observation,
    ) -> (Vec<Option<String>>, Vec<Option<String>>) {
        let seen = |level: &PlannedLevel| observation.levels.get(&level.spec.level);
        let image = |level: &PlannedLevel| level.boots.as_ref().and_then(|key| self.image(key).ok());
        let kernel = |level: &PlannedLevel| {
            let of_image = image(level).and_then(|image| image.kernel_version());
            let release = of_image.map(|kernel| kernel.release.as_str());
            release.or_else(|| seen(level)?.kernel.as_deref()).map(str::to_owned)
        };
        // A level that did not come up has told nothing, but it was to be run by what the image of its host has.
        let qemu = |(host, level): (&PlannedLevel, &PlannedLevel)| {
            let of_image = image(host).and_then(|image| image.qemu_version());
            let version = seen(level).and_then(|seen| seen.qemu.as_deref());
            version.or(of_image.map(|qemu| qemu.upstream.as_str())).map(str::to_owned)
        };
        let hosts = levels.iter().zip(levels.iter().skip(1));
        (levels.iter().map(kernel).collect(), hosts.map(qemu).collect())
    }
}
