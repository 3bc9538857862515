//! From libvirt's own words to the cause of its refusal.

use nestmatrix_model::LevelNumber;

use super::{Explainer, asks_for_what_is_named, harness_if};
use crate::{Blame, LevelPlan, Symptom};

/// What libvirt says if a CPU is not the requested one (src/qemu/qemu_process.c).
const FAILED_CHECK: &str = "guest CPU doesn't match specification";

/// What libvirt says before the names of features that a CPU should have, if it refuses the CPU (src/cpu/cpu_x86.c,
/// src/qemu/qemu_process.c).
const LIBVIRT_MISSES_FEATURES: [&str; 2] = ["does not provide required features: ", "missing features: "];

impl Explainer<'_> {
    /// What it means that libvirt refuses the machine of `level`.
    pub(super) fn of_refusal_by_libvirt(&self, level: LevelNumber, said: String) -> (Symptom, Blame) {
        let cpu = self.machines.requested(level.into()).map(|requested| &requested.machine.cpu);
        let missing = cpu.and_then(|cpu| Some((feature_missing_for_libvirt(&said, &cpu.require)?, cpu)));
        if let Some((feature, cpu)) = missing {
            let model = cpu.model.clone();
            return (Symptom::MissingCpuFeature { level, feature, model, nested: None }, Blame::Stack);
        }
        let hardware = self.machines.requested(level.into()).map(|requested| &requested.machine.hardware);
        let plan = self.request.level(level);
        // A scenario that sets the check asks for its outcome.
        let of_check = |plan: &LevelPlan| plan.settings.cpu.check.is_some() && said.contains(FAILED_CHECK);
        let asked_for =
            plan.is_some_and(|plan| asks_for_what_is_named(plan, hardware, &said) || of_check(plan));
        (Symptom::CommandLineRejected { level, said, asked_for, by_libvirt: true }, harness_if(!asked_for))
    }
}

/// The required feature that libvirt says is missing, if it names no other ones: they may be the reason.
fn feature_missing_for_libvirt(said: &str, required: &[String]) -> Option<String> {
    let names = LIBVIRT_MISSES_FEATURES.iter().find_map(|begin| Some(said.split_once(begin)?.1))?;
    let mut names = names.split([',', ' ']).filter(|name| !name.is_empty());
    let (name, other) = (names.next()?, names.next());
    required.iter().find(|feature| *feature == name && other.is_none()).cloned()
}
