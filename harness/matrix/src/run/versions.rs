//! Compares the kernels and QEMUs of a stack with the versions that a scenario names.

use nestmatrix_stack::{Metal, Observation};

use super::ready_cell::{ReadyCell, ReadyLevel};
use crate::scenario::{KnownFlaky, MetalWord, Since};

impl ReadyCell {
    /// Whether all kernels and QEMUs of its stack have the change that came with these versions.
    pub(super) fn has_change(&self, since: &Since, observation: &Observation) -> bool {
        let (kernels, qemus) = self.versions(observation);
        since.includes(kernels.iter().map(Option::as_deref), qemus.iter().map(Option::as_deref))
    }

    /// What its scenario knows about its flakiness, on the metal and with the versions that it ran on.
    pub(super) fn known_flaky(&self, observation: &Observation) -> Option<&KnownFlaky> {
        let on = match self.metal {
            Metal::Native => MetalWord::Native,
            Metal::Emulated => MetalWord::Emulated,
        };
        let (kernels, qemus) = self.versions(observation);
        let are = |versions: &Since| {
            versions.are(kernels.iter().map(Option::as_deref), qemus.iter().map(Option::as_deref))
        };
        self.cell.known_flaky.iter().find(|known| {
            known.metal.is_none_or(|metal| metal == on) && known.versions.as_ref().is_none_or(are)
        })
    }

    /// The versions of all kernels and QEMUs of its stack, as far as they are known. The QEMU that plays L0's metal is not part of
    /// the stack.
    fn versions(&self, observation: &Observation) -> (Vec<Option<String>>, Vec<Option<String>>) {
        let seen = |level: &ReadyLevel| observation.levels.get(&level.planned.spec.level);
        let kernel = |level: &ReadyLevel| {
            let release = level.kernel().map(|kernel| kernel.release.as_str());
            release.or_else(|| seen(level)?.kernel.as_deref()).map(str::to_owned)
        };
        // A level that did not come up has reported nothing, but its host's image shows which QEMU was to run it.
        let qemu = |(host, level): (&ReadyLevel, &ReadyLevel)| {
            let of_image = host.image.as_ref().and_then(|image| image.qemu_version());
            let version = seen(level).and_then(|seen| seen.qemu.as_deref());
            version.or(of_image.map(|qemu| qemu.upstream.as_str())).map(str::to_owned)
        };
        let hosts = self.levels.iter().zip(self.levels.iter().skip(1));
        (self.levels.iter().map(kernel).collect(), hosts.map(qemu).collect())
    }
}
