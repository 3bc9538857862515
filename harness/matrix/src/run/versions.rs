//! Which kernels and QEMUs a stack ran with, held against the versions that a scenario names.

use nestmatrix_stack::{Metal, Observation};

use super::PlannedLevel;
use super::execute::Run;
use crate::scenario::{Cell, KnownFlaky, MetalWord, Since};

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
