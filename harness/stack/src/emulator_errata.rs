//! What the emulated metal gets wrong, looked at in the stack: a level may depend on it in ways that no scenario shows, and a stop
//! may be known to come of it.

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::emulator_errata::{Dependence, Erratum, Signature, all, of};
use nestmatrix_model::{Accelerator, LevelNumber};

use super::boot::Stack;
use super::{Blame, Metal, Stop, Symptom};
use crate::host::parameter_script;

impl Stack<'_> {
    /// The errata of the emulator that plays this stack's metal, in its version.
    pub(super) fn errata(&self) -> Vec<&'static Erratum> {
        let profile = self.plan.profile;
        let architecture = all().iter().flat_map(|erratum| &erratum.architectures).copied();
        let architecture = architecture.into_iter().find(|of| std::ptr::eq(ArchInfo::of(*of), profile));
        let (Metal::Emulated, Some(architecture)) = (self.plan.metal, architecture) else {
            return Vec::new();
        };
        let program =
            if self.plan.emulator_is_l0() { profile.qemu } else { profile.metal.program(profile.qemu) };
        let outermost = self.plan.levels.first().and_then(|plan| self.levels.get(&plan.level));
        of(program, architecture, outermost.and_then(|seen| seen.qemu.as_deref())).collect()
    }

    /// The script that prints the parameters of KVM by which a level may depend on an erratum.
    pub(super) fn parameters_script(&self) -> String {
        let names = self.errata().into_iter().filter_map(|erratum| erratum.skips.as_ref());
        names
            .map(|dependence| parameter_script(self.plan.profile.kvm_module, &dependence.kvm_parameter))
            .collect()
    }

    /// Stops the stack before the level at `index` is launched with KVM by one that depends on an erratum.
    pub(super) fn check_errata(&self, index: usize) -> Result<(), Stop> {
        let plan = &self.plan.levels[index];
        let Some(host) = plan.level.below().filter(|_| plan.accelerator != Accelerator::Tcg) else {
            return Ok(());
        };
        let Some(facts) = self.facts.get(&host) else { return Ok(()) };
        for erratum in self.errata() {
            let Some(Dependence { kvm_parameter, cpu_feature, .. }) = &erratum.skips else { continue };
            let value =
                facts.kvm_parameters.get(kvm_parameter).filter(|value| matches!(value.as_str(), "0" | "N"));
            if let Some(value) = value {
                let module = self.plan.profile.kvm_module;
                let because = if facts.cpu_flags.contains(cpu_feature) {
                    String::new()
                } else {
                    format!(" because {host}'s CPU has no {cpu_feature}")
                };
                let why = format!(
                    "depends on what the emulated metal gets wrong: {erratum}; KVM of {host} ({module}) has {kvm_parameter}={value}{because}"
                );
                let symptom = Symptom::EmulatorErratum { level: host, erratum: erratum.id.clone(), why };
                return Err(Stop::stack(self.stage, symptom).not_its_fault());
            }
        }
        Ok(())
    }

    /// A stop that is charged to the emulated metal if it is known to come of one of its errata.
    pub(super) fn unless_emulator_erred(&self, symptom: Symptom, blame: Blame) -> (Symptom, Blame) {
        let Symptom::StoppedByQemu { level, said, diagnostics, erratum: None } = symptom else {
            return (symptom, blame);
        };
        let known =
            self.errata().into_iter().filter(|_| blame == Blame::Stack && self.is_guest_of_guest(level));
        let mut known = known.filter(|erratum| {
            erratum.shows.as_ref().is_some_and(|Signature { said, in_default_firmware }| {
                let is_said = said.iter().any(|text| diagnostics.lines().any(|line| line.contains(text)));
                is_said && (!in_default_firmware || self.is_in_default_firmware(level))
            })
        });
        let erratum = known.next().map(|erratum| erratum.id.clone());
        let blame = if erratum.is_some() { Blame::Harness } else { blame };
        (Symptom::StoppedByQemu { level, said, diagnostics, erratum }, blame)
    }

    /// Whether a level runs under two KVMs or more.
    fn is_guest_of_guest(&self, level: LevelNumber) -> bool {
        let outermost = u8::from(self.plan.emulator_is_l0());
        level.number() >= outermost + 2
    }
}
