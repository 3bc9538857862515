//! Checks of the processor: its vendor, its flags, and whether a hypervisor is below it.

use nestmatrix_model::Architecture;

use super::subject::{NATIVE, PROCEDURES, Place, Subject};
use crate::doctor::finding::{Check, Finding};
use crate::doctor::probe::Probe;

/// The architecture of a host, by its processor. `None` if the documents do not cover it or it is unknown.
pub fn own_architecture(probe: &Probe) -> Option<Architecture> {
    Architecture::of_machine(probe.isa()?, &probe.processor, |flag| probe.has_flag(flag))
}

impl Subject<'_> {
    pub(super) fn processor(&self) -> Finding {
        let (architecture, probe) = (self.architecture, self.probe);
        let is = if probe.processor.is_empty() { "unknown" } else { &probe.processor };
        if own_architecture(probe) == Some(architecture) {
            return Finding::ok(Check::Processor, is);
        }
        let profile = self.profile();
        let what = format!("requires {}: this one is {is}", profile.processor);
        let ruled_out = profile.unsuitable_processor.filter(|one| probe.processor.starts_with(one.model));
        let claim = ruled_out.map(|one| format!("{PROCEDURES}/{}", one.claim));
        Finding::missing(Check::Processor, NATIVE, what).by(claim)
    }

    pub(super) fn cpu_flags(&self) -> Option<Finding> {
        let profile = self.profile();
        let documented = profile.documented_flags;
        if documented.is_empty() {
            return None;
        }
        let missing: Vec<&str> =
            documented.iter().copied().filter(|flag| !self.probe.has_flag(flag)).collect();
        let claims = self.claims(&["cpu-flags"]);
        if missing.is_empty() {
            return Some(Finding::ok(Check::CpuFlags, format!("flags {}", documented.join(", "))).by(claims));
        }
        let what = format!("/proc/cpuinfo does not list {}", missing.join(" or "));
        // KVM works without nested paging, only slowly.
        if !profile.virtualization_flag.is_some_and(|flag| missing.contains(&flag)) {
            return Some(Finding::warning(Check::CpuFlags, what).by(claims));
        }
        let advice = match self.place {
            Place::Level { level, .. } if level.below().is_some() => {
                "the CPU that its QEMU provides does not have it; host-passthrough does, if nesting is on one level below"
                    .to_owned()
            }
            _ if self.probe.is_guest() => {
                format!(
                    "this machine is itself a guest: on its host, switch nesting on and give it a CPU with {} (in \
                     libvirt, <cpu mode='host-passthrough'/>)",
                    missing.join(" and ")
                )
            }
            _ => "enable virtualization in the firmware setup, if the processor supports it".to_owned(),
        };
        Some(Finding::missing(Check::CpuFlags, NATIVE, what).advise(advice).by(claims))
    }

    pub(super) fn bare_metal(&self) -> Option<Finding> {
        let must_be = self.profile().procedure.is_some_and(|procedure| procedure.l0_is_bare_metal);
        if !must_be || matches!(self.place, Place::Level { .. }) {
            return None;
        }
        let claims = [format!("{PROCEDURES}/l0-is-bare-metal")];
        Some(if self.probe.is_guest() {
            let what =
                "this machine is itself a guest: stacks with this machine as L0 are nested one level deeper";
            Finding::warning(Check::BareMetal, what).by(claims)
        } else {
            Finding::ok(Check::BareMetal, "no hypervisor below").by(claims)
        })
    }
}
