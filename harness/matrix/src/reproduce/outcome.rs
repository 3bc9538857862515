//! The outcome of a stack, short enough to be compared: where it stopped, and the kind of symptom. Details that differ from
//! boot to boot (times, addresses, last lines) are left out.

use nestmatrix_model::{LevelNumber, Stage};
use nestmatrix_stack::{Contradiction, Symptom};
use nestmatrix_vmm::qemu::HardwareDifference;

/// A stop, as recorded.
#[derive(Debug, Clone, Copy)]
pub struct Stopped<'a> {
    /// Where.
    pub stage: Stage,
    /// What was seen.
    pub symptom: &'a Symptom,
}

/// The outcome in the words of the script (`works`, `stopped` in runtime/end.sh); none if a script can't see its kind.
pub(super) fn of(stop: Option<Stopped<'_>>) -> Option<String> {
    let Some(Stopped { stage, symptom }) = stop else { return Some("works".into()) };
    Some(format!("{stage}: {}", kind(symptom)?))
}

/// The words of the document that a script must see too before its outcome counts as the same: for kinds that can have many
/// reasons.
pub(super) fn wanted<'a>(stop: Stopped<'_>, documented: &'a str) -> Option<&'a str> {
    let of_many_reasons = matches!(
        stop.symptom,
        Symptom::QemuEnded { .. }
            | Symptom::CommandLineRejected { .. }
            | Symptom::StepStatus { .. }
            | Symptom::GuestFailed { .. }
    );
    let said = stop.symptom.said().unwrap_or_default();
    (of_many_reasons && said.contains(documented)).then_some(documented)
}

fn kind(symptom: &Symptom) -> Option<String> {
    let of_level = |level: LevelNumber, kind: &str| Some(format!("{}: {kind}", word(level)));
    match symptom {
        Symptom::MissingCpuFeature { feature, .. } => Some(format!("missing CPU feature: {feature}")),
        Symptom::MissingMachineProperty { property, .. } => {
            Some(format!("missing machine property: {property}"))
        }
        Symptom::CommandLineRejected { level, .. } | Symptom::QemuEnded { level, .. } => {
            of_level(*level, "QEMU ended")
        }
        Symptom::StoppedByQemu { level, .. } => of_level(*level, "stopped by QEMU"),
        Symptom::WithoutKvm { level } => of_level(*level, "not run with KVM"),
        Symptom::NoKvm { level, second: false, .. } => of_level(*level, "no usable /dev/kvm"),
        Symptom::GuestFailed { level, failure, .. } => of_level(*level, failure.name()),
        Symptom::GuestPanicked { level, .. } => of_level(*level, "the guest panicked"),
        Symptom::ShutDown { level, .. } => of_level(*level, "shut down"),
        Symptom::NotNested { contradiction: Contradiction::Nonce { .. }, .. } => Some("another nonce".into()),
        Symptom::NotNested { contradiction: Contradiction::Hypervisor { .. }, .. } => {
            Some("another hypervisor".into())
        }
        Symptom::Timeout { .. } => Some("not done in time".into()),
        Symptom::StepStatus { .. } => Some("another exit status".into()),
        Symptom::StepOutput { .. } => Some("another output".into()),
        Symptom::WrongHardware { level, difference } => match difference {
            HardwareDifference::Cpus { .. } => of_level(*level, "another number of CPUs"),
            HardwareDifference::FeatureOn { feature } => Some(format!("CPU feature is on: {feature}")),
            HardwareDifference::Device { device } => Some(format!("missing device: {device}")),
            // A script does not ask for these.
            HardwareDifference::MaxCpus { .. }
            | HardwareDifference::CpusOfKernel { .. }
            | HardwareDifference::MemoryOfKernel { .. }
            | HardwareDifference::DeviceOfKernel { .. }
            | HardwareDifference::DiskContent { .. }
            | HardwareDifference::TpmOfKernel { .. }
            | HardwareDifference::Memory { .. }
            | HardwareDifference::SmallPages
            | HardwareDifference::CpuProperty { .. } => None,
        },
        Symptom::NoKvm { second: true, .. }
        | Symptom::NoHypervisor { .. }
        | Symptom::QmpRefused { .. }
        | Symptom::TestFailed { .. }
        | Symptom::WrongRatio { .. }
        | Symptom::MigrationFailed { .. }
        | Symptom::StandsStill { .. }
        | Symptom::KernelComplained { .. }
        | Symptom::WrongClock { .. }
        | Symptom::NotStarted { .. }
        | Symptom::EmulatorErratum { .. }
        | Symptom::MissingEvidence { .. }
        | Symptom::Harness { .. }
        | Symptom::Interrupted
        | Symptom::Unknown => None,
    }
}

/// As the script calls a level: `l1`.
pub(super) fn word(level: LevelNumber) -> String {
    level.to_string().to_lowercase()
}

#[cfg(test)]
mod tests {
    use nestmatrix_stack::ExitStatus;
    use nestmatrix_vmm::guest::GuestFailure;
    use nestmatrix_vmm::qemu::Ended;
    use rstest::rstest;

    use super::*;

    fn l1() -> LevelNumber {
        LevelNumber::ALL[1]
    }

    fn feature() -> Symptom {
        let (feature, model) = ("svm".to_owned(), "host".to_owned());
        Symptom::MissingCpuFeature { level: l1(), feature, model, nested: None }
    }

    fn panic() -> Symptom {
        let said = "Kernel panic - not syncing: Attempted to kill init!".to_owned();
        Symptom::GuestFailed { level: l1(), failure: GuestFailure::KernelPanic, said }
    }

    fn ended(said: &str) -> Symptom {
        Symptom::QemuEnded { level: l1(), ended: Ended::Exited(1), said: said.to_owned() }
    }

    fn no_kvm(second: bool) -> Symptom {
        let module = "kvm_amd".to_owned();
        Symptom::NoKvm { level: l1(), module, loaded: false, said: None, second }
    }

    fn status(said: &str) -> Symptom {
        let (step, said) = ("unload".to_owned(), said.to_owned());
        Symptom::StepStatus { level: l1(), step, status: 1, wanted: ExitStatus::Success, said }
    }

    fn slow() -> Symptom {
        let last_line = Some("Kernel panic - not syncing: of another".to_owned());
        Symptom::Timeout { level: l1(), seconds: 91, busy: false, last_line, said: None }
    }

    #[rstest]
    #[case("l1-launch", feature(), Some("l1-launch: missing CPU feature: svm"))]
    #[case("l1-boot", panic(), Some("l1-boot: l1: kernel panic"))]
    #[case("l2-boot", ended(""), Some("l2-boot: l1: QEMU ended"))]
    #[case("l2-launch", Symptom::WithoutKvm { level: l1() }, Some("l2-launch: l1: not run with KVM"))]
    #[case("l1-kvm", no_kvm(false), Some("l1-kvm: l1: no usable /dev/kvm"))]
    #[case("step-1", no_kvm(true), None)]
    #[case("l2-boot", slow(), Some("l2-boot: not done in time"))]
    #[case("step-2", status(""), Some("step-2: another exit status"))]
    #[case("l1-boot", Symptom::Harness { level: None, why: "kernel panic".into(), erratum: None }, None)]
    fn a_symptom_is_of_a_kind(#[case] stage: &str, #[case] symptom: Symptom, #[case] expected: Option<&str>) {
        let stop = Stopped { stage: stage.parse().unwrap(), symptom: &symptom };
        assert_eq!(of(Some(stop)).as_deref(), expected);
    }

    #[rstest]
    #[case(ended("qemu: KVM does not support it"), "KVM does not support it", true)]
    #[case(status("the module is in use"), "in use", true)]
    #[case(panic(), "Attempted to kill", true)]
    // The kind already says it.
    #[case(feature(), "svm", false)]
    #[case(ended("cannot allocate memory"), "KVM does not support it", false)]
    // Documents don't quote the harness's own words.
    #[case(ended("cannot allocate memory"), "exited with status 1", false)]
    fn words_of_the_document_are_wanted_where_they_were_said(
        #[case] symptom: Symptom,
        #[case] documented: &str,
        #[case] expected: bool,
    ) {
        let stop = Stopped { stage: "l1-launch".parse().unwrap(), symptom: &symptom };
        assert_eq!(wanted(stop, documented), expected.then_some(documented));
    }

    #[test]
    fn a_stack_that_came_to_its_end_works() {
        assert_eq!(of(None).as_deref(), Some("works"));
    }
}
