//! Errors of the emulated metal: a level may depend on one in ways that no scenario shows, and a stop may have a known erratum
//! as its cause.

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::emulator_errata::{Dependence, Erratum, Signature, all, of};
use nestmatrix_model::{LevelNumber, SuiteKind};

use nestmatrix_vmm::qemu::Instance;

use super::{Blame, Metal, StackPlan, Symptom};
use crate::host::{Facts, parameter_script};
use crate::plan::SPARE_FIRST_CPU;

/// The errata of the emulator that plays a stack's metal, in its version.
pub(super) struct Errata {
    all: Vec<&'static Erratum>,
    /// Whether L0's machine has several CPUs, and guests of its KVM may run on the first one.
    shares_first_cpu: bool,
}

/// How the machine of a test ended before its test did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EndOfMachine<'a> {
    /// It reset itself, and its test did not say why.
    Reset,
    /// KVM could not run it.
    StoppedByKvm {
        /// What QEMU said.
        said: Vec<&'a str>,
        /// Whether it had its default firmware, and got no further.
        in_default_firmware: bool,
    },
}

/// QEMU's reason for the stop of a machine that reset itself (QMP, `ShutdownCause`).
const RESET: &str = "guest-reset";

impl Errata {
    /// The errata of this stack's emulator, in the version of its QEMU if that is known.
    pub(super) fn of_stack(plan: &StackPlan, qemu: Option<&str>) -> Self {
        let profile = plan.profile;
        let architecture = all().iter().flat_map(|erratum| &erratum.architectures).copied();
        let architecture = architecture.into_iter().find(|of| std::ptr::eq(ArchInfo::of(*of), profile));
        let (Metal::Emulated, Some(architecture)) = (plan.metal, architecture) else {
            return Self { all: Vec::new(), shares_first_cpu: false };
        };
        let program = if plan.emulator_is_l0() { profile.qemu } else { profile.metal.program(profile.qemu) };
        let shares_first_cpu = !plan.levels.is_empty() && {
            let machine = plan.machine(0, Instance::First);
            let parameters = machine.boot.parameters().unwrap_or_default();
            machine.hardware.cpus > 1 && !parameters.split(' ').any(|word| word == SPARE_FIRST_CPU)
        };
        Self { all: of(program, architecture, qemu).collect(), shares_first_cpu }
    }

    /// The script that prints the parameters of KVM that show whether a level depends on an erratum.
    pub(super) fn parameters_script(&self, kvm_module: &str) -> String {
        let skips = self.all.iter().filter_map(|erratum| erratum.skips.as_ref());
        skips.map(|dependence| parameter_script(kvm_module, &dependence.kvm_parameter)).collect()
    }

    /// Why a guest of KVM must not be launched on `host`, if what the host reports shows that it depends on an erratum.
    pub(super) fn dependence(&self, host: LevelNumber, facts: &Facts, kvm_module: &str) -> Option<Symptom> {
        self.all.iter().find_map(|erratum| {
            let Dependence { kvm_parameter, cpu_feature, .. } = erratum.skips.as_ref()?;
            let value = facts.kvm_parameters.get(kvm_parameter);
            let value = value.filter(|value| matches!(value.as_str(), "0" | "N"))?;
            let because = if facts.cpu_flags.contains(cpu_feature) {
                String::new()
            } else {
                format!(" because {host}'s CPU has no {cpu_feature}")
            };
            let why = format!(
                "depends on what the emulated metal gets wrong: {erratum}; KVM of {host} ({kvm_module}) has {kvm_parameter}={value}{because}"
            );
            Some(Symptom::EmulatorErratum { level: host, erratum: erratum.id.clone(), why })
        })
    }

    /// Whether the emulator has the erratum of this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.all.iter().any(|erratum| erratum.id == id)
    }

    /// The cases of a suite that fail because of an erratum, under KVM as well: pattern and reference.
    pub(super) fn failing_cases(&self, suite: SuiteKind) -> Vec<(String, String)> {
        let of_erratum = |erratum: &&'static Erratum| {
            let fails = erratum.fails.iter().filter(|fails| fails.suite == suite && !fails.without_kvm);
            let reference = format!("emulator erratum {}", erratum.id);
            let pair = move |case: &String| (case.clone(), reference.clone());
            fails.flat_map(|fails| &fails.cases).map(pair).collect::<Vec<_>>()
        };
        self.all.iter().flat_map(of_erratum).collect()
    }

    /// The erratum that concerns the default firmware of a machine.
    pub(super) fn of_default_firmware(&self) -> Option<&'static Erratum> {
        let concerns_firmware =
            |erratum: &&Erratum| erratum.shows.as_ref().is_some_and(|shows| shows.in_default_firmware);
        self.all.iter().copied().find(concerns_firmware)
    }

    /// The erratum that is known to end the emulator itself, found by what it printed.
    pub(super) fn cause_of_end(&self, output: &str) -> Option<&'static Erratum> {
        let said = |shows: &Signature| shows.emulator_said.iter().any(|text| output.contains(text));
        self.all.iter().copied().find(|erratum| erratum.shows.as_ref().is_some_and(said))
    }

    /// The erratum that is known to cause a stop of a guest of KVM, found by the messages about it. `is_in_default_firmware` says
    /// whether the machine had its default firmware and got no further.
    pub(super) fn cause_of(
        &self,
        symptom: &Symptom,
        is_in_default_firmware: bool,
    ) -> Option<&'static Erratum> {
        match symptom {
            Symptom::ShutDown { said, .. } if said == RESET => self.cause_of_reset(),
            Symptom::StoppedByQemu { diagnostics, erratum: None, .. } => {
                let said: Vec<&str> = diagnostics.lines().collect();
                self.cause_of_stop(&said, is_in_default_firmware)
            }
            _ => None,
        }
    }

    /// The same of a test that ran as a guest of KVM, under this many of them. KVM stops a guest of a guest only.
    pub(super) fn cause_of_end_of_test(
        &self,
        end: &EndOfMachine<'_>,
        kvms: usize,
    ) -> Option<&'static Erratum> {
        match end {
            EndOfMachine::Reset if kvms >= 1 => self.cause_of_reset(),
            EndOfMachine::StoppedByKvm { said, in_default_firmware } if kvms >= 2 => {
                self.cause_of_stop(said, *in_default_firmware)
            }
            _ => None,
        }
    }

    /// The erratum that is known to reset a guest of KVM.
    pub(super) fn cause_of_reset(&self) -> Option<&'static Erratum> {
        let shows = |erratum: &&Erratum| erratum.shows.as_ref().is_some_and(|shows| shows.reset_on_first_cpu);
        self.all.iter().copied().filter(|_| self.shares_first_cpu).find(shows)
    }

    /// The erratum that is known to let KVM stop a guest of a guest, found by the messages about it.
    fn cause_of_stop(&self, lines: &[&str], is_in_default_firmware: bool) -> Option<&'static Erratum> {
        self.all.iter().copied().find(|erratum| {
            erratum.shows.as_ref().is_some_and(|Signature { said, in_default_firmware, .. }| {
                let is_said = said.iter().any(|text| lines.iter().any(|line| line.contains(text)));
                is_said && (!in_default_firmware || is_in_default_firmware)
            })
        })
    }
}

/// The symptom and who is at fault, if it is the emulated metal with this erratum.
pub(super) fn charge(symptom: Symptom, to: &Erratum) -> (Symptom, Blame) {
    let symptom = match symptom {
        Symptom::StoppedByQemu { level, said, diagnostics, .. } => {
            Symptom::StoppedByQemu { level, said, diagnostics, erratum: Some(to.id.clone()) }
        }
        Symptom::QemuEnded { level, .. } => {
            let why = format!("{symptom}; {}", to.wrong);
            Symptom::Harness { level: Some(level), why, erratum: Some(to.id.clone()) }
        }
        Symptom::ShutDown { level, .. } => {
            let why = format!("{symptom}; its kernel said nothing, and {}", to.wrong);
            Symptom::Harness { level: Some(level), why, erratum: Some(to.id.clone()) }
        }
        other => other,
    };
    (symptom, Blame::Harness)
}
