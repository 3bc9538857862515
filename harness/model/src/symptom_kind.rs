//! The kinds of reasons why a stack stops. A scenario can name one. Code that must know why a stack stopped uses the kind, never
//! the text of a message.

use crate::word::Word;
use crate::word_traits;

/// A kind of reason why a stack stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SymptomKind {
    /// QEMU could not give a level a CPU feature that it requires.
    MissingCpuFeature,
    /// QEMU did not give a level a machine property that it requires.
    MissingMachineProperty,
    /// A level does not have the hardware that was requested for it.
    WrongHardware,
    /// QEMU refused its command line: it does not know an option, a machine type, a property or a CPU model in it.
    CommandLineRejected,
    /// QEMU ended.
    QemuEnded,
    /// QEMU stopped the level.
    StoppedByQemu,
    /// QEMU refused a command on its monitor.
    QmpRefused,
    /// QEMU runs a level without KVM.
    WithoutKvm,
    /// A level that must host has no usable KVM.
    NoKvm,
    /// A Windows level that must start guests has no Hyper-V that can.
    NoHypervisor,
    /// A level's kernel reported a fatal failure.
    GuestFailed,
    /// QEMU reported that its guest panicked.
    GuestPanicked,
    /// A level shut down before its work was done.
    ShutDown,
    /// A step ended with an unexpected status.
    StepStatus,
    /// A step printed an unexpected text.
    StepOutput,
    /// A test of a suite failed.
    TestFailed,
    /// The performance of a level compared with another one is not as expected.
    WrongRatio,
    /// A migration failed.
    MigrationFailed,
    /// A level does not continue after its migration, or after another event in its life.
    StandsStill,
    /// A level's kernel complained after an event in the life of a level.
    KernelComplained,
    /// A level's clock did not run as it should during such an event.
    WrongClock,
    /// The evidence contradicts that the stack was nested.
    NotNested,
    /// A level showed no progress, or did not finish in time.
    Timeout,
    /// A program in a level could not be started, so it has no result.
    NotStarted,
    /// The cell depends on an erratum of the emulated metal.
    EmulatorErratum,
    /// Evidence is missing.
    MissingEvidence,
    /// The harness or its machine failed.
    Harness,
    /// The user asked the harness to end.
    Interrupted,
    /// Written by another version of nestmatrix.
    Unknown,
}

impl Word for SymptomKind {
    const WHAT: &'static str = "kind of symptom";
    const ALL: &'static [Self] = &[
        Self::MissingCpuFeature,
        Self::MissingMachineProperty,
        Self::WrongHardware,
        Self::CommandLineRejected,
        Self::QemuEnded,
        Self::StoppedByQemu,
        Self::QmpRefused,
        Self::WithoutKvm,
        Self::NoKvm,
        Self::NoHypervisor,
        Self::GuestFailed,
        Self::GuestPanicked,
        Self::ShutDown,
        Self::StepStatus,
        Self::StepOutput,
        Self::TestFailed,
        Self::WrongRatio,
        Self::MigrationFailed,
        Self::StandsStill,
        Self::KernelComplained,
        Self::WrongClock,
        Self::NotNested,
        Self::Timeout,
        Self::NotStarted,
        Self::EmulatorErratum,
        Self::MissingEvidence,
        Self::Harness,
        Self::Interrupted,
        Self::Unknown,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::MissingCpuFeature => "missing-cpu-feature",
            Self::MissingMachineProperty => "missing-machine-property",
            Self::WrongHardware => "wrong-hardware",
            Self::CommandLineRejected => "command-line-rejected",
            Self::QemuEnded => "qemu-ended",
            Self::StoppedByQemu => "stopped-by-qemu",
            Self::QmpRefused => "qmp-refused",
            Self::WithoutKvm => "without-kvm",
            Self::NoKvm => "no-kvm",
            Self::NoHypervisor => "no-hypervisor",
            Self::GuestFailed => "guest-failed",
            Self::GuestPanicked => "guest-panicked",
            Self::ShutDown => "shut-down",
            Self::StepStatus => "step-status",
            Self::StepOutput => "step-output",
            Self::TestFailed => "test-failed",
            Self::WrongRatio => "wrong-ratio",
            Self::MigrationFailed => "migration-failed",
            Self::StandsStill => "stands-still",
            Self::KernelComplained => "kernel-complained",
            Self::WrongClock => "wrong-clock",
            Self::NotNested => "not-nested",
            Self::Timeout => "timeout",
            Self::NotStarted => "not-started",
            Self::EmulatorErratum => "emulator-erratum",
            Self::MissingEvidence => "missing-evidence",
            Self::Harness => "harness",
            Self::Interrupted => "interrupted",
            Self::Unknown => "unknown",
        }
    }
}

word_traits!(SymptomKind);

impl SymptomKind {
    /// Whether a document can describe it: it is about the stack, not about the harness or this machine.
    pub fn is_documentable(self) -> bool {
        !matches!(
            self,
            Self::NotStarted
                | Self::EmulatorErratum
                | Self::MissingEvidence
                | Self::Harness
                | Self::Interrupted
                | Self::Unknown
        )
    }
}
