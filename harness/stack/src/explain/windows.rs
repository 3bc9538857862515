//! Ends that have to do with Windows: of what it starts, and of a QEMU that can't tell it about KVM.

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{names_one_of, rejects_command_line};

use super::Explainer;
use crate::host::QemuEnd;
use crate::{Blame, Hypervisor, Stop, Symptom};

impl Explainer<'_> {
    /// What the end of `level` means if Windows has started it: no QEMU ran it. A failure of its kernel is the cause, if it shows one.
    /// If its role says that something else failed, such as a task, the stack is not at fault, unless a fault of the scenario did that.
    pub(super) fn of_end_in_windows(&self, level: LevelNumber, end: &QemuEnd) -> Option<Stop> {
        if self.request.plan.hypervisor_of(level) != Hypervisor::HyperV {
            return None;
        }
        let failure = self.console(level).and_then(|console| console.failure());
        let symptom = match (failure, &end.not_started) {
            (Some((failure, said)), _) => Symptom::GuestFailed { level, failure, said },
            (None, Some(why)) if !self.machines.was_killed(level) => {
                return Some(Stop::harness(self.stage, why.clone()).about(level));
            }
            (None, _) => Symptom::ShutDown { level, said: end.output.clone() },
        };
        Some(Stop { stage: self.stage, symptom, blame: Blame::Stack })
    }

    /// The stop of a level whose QEMU refuses what only the recipe of its Windows asks for: features of its CPU that this kernel or this
    /// QEMU does not have. The processor may nest without them. Other messages may name them too.
    pub(super) fn of_refused_enlightenment(&self, level: LevelNumber, said: &str) -> Option<Stop> {
        let plan = self.request.level(level).filter(|_| self.is_launching(level))?;
        let is_refusal = said.contains("is not supported by kernel") || rejects_command_line(said);
        let is_named = is_refusal && names_one_of(said, plan.enlightenments_of_recipe());
        let symptom = || Symptom::CommandLineRejected {
            level,
            said: said.to_owned(),
            asked_for: false,
            by_libvirt: false,
        };
        is_named.then(|| Stop::stack(self.stage, symptom()).not_its_fault())
    }
}
