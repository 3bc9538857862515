//! Why a stack stopped, as data: the kind of symptom, its level, and the messages about it.
//!
//! The messages of a guest, a kernel or a QEMU are kept apart from the harness's description. Only the messages are compared
//! with a document, so that the harness's own words confirm no document.

mod details;
mod text;

use std::borrow::Cow;

use nestmatrix_model::{LevelNumber, SymptomKind};
use nestmatrix_vmm::guest::GuestFailure;
use nestmatrix_vmm::qemu::{Ended, HardwareDifference};
use serde::{Deserialize, Serialize};

pub use details::{Contradiction, ExitStatus, NestedSetting};
use text::with_diagnostics;

use crate::host::Diagnostics;

/// Why a stack stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Symptom {
    /// QEMU could not give `level` a CPU feature that it requires.
    MissingCpuFeature {
        /// The level.
        level: LevelNumber,
        /// The feature, by QEMU's name.
        feature: String,
        /// The requested CPU model.
        model: String,
        /// If nesting requires the feature: how KVM's `nested` parameter is set below.
        nested: Option<NestedSetting>,
    },
    /// QEMU did not switch a machine property on that `level` requires.
    MissingMachineProperty {
        /// The level.
        level: LevelNumber,
        /// The property, by QEMU's name.
        property: String,
        /// The machine type with its version.
        machine_type: String,
    },
    /// `level` does not have the hardware that was requested for it.
    WrongHardware {
        /// The level.
        level: LevelNumber,
        /// The difference.
        difference: HardwareDifference,
    },
    /// The QEMU of `level` refused its command line, or libvirt refused the machine.
    CommandLineRejected {
        /// The level.
        level: LevelNumber,
        /// What QEMU printed.
        said: String,
        /// Whether the scenario itself asks for what was refused.
        asked_for: bool,
        /// Whether libvirt refused the machine, so that there was no QEMU.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_libvirt: bool,
    },
    /// The QEMU of `level` ended; of L0, the emulator that plays its metal.
    QemuEnded {
        /// The level.
        level: LevelNumber,
        /// How.
        ended: Ended,
        /// What QEMU printed.
        said: String,
    },
    /// The QEMU of `level` stopped it.
    StoppedByQemu {
        /// The level.
        level: LevelNumber,
        /// QEMU's run state.
        said: String,
        /// The messages of QEMU and the kernel under it about that.
        #[serde(default, skip_serializing_if = "Diagnostics::is_empty")]
        diagnostics: Diagnostics,
        /// The id of the erratum of the emulated metal that it is charged to, if it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        erratum: Option<String>,
    },
    /// The QEMU of `level` refused a command on its monitor.
    QmpRefused {
        /// The level.
        level: LevelNumber,
        /// The command.
        command: String,
        /// QEMU's answer.
        said: String,
    },
    /// The QEMU of `level` runs it without KVM.
    WithoutKvm {
        /// The level.
        level: LevelNumber,
    },
    /// `level` must host and has no KVM that it can use.
    NoKvm {
        /// The level.
        level: LevelNumber,
        /// KVM's module for the architecture.
        module: String,
        /// Whether it is loaded.
        loaded: bool,
        /// The last message of the level's kernel about KVM.
        said: Option<String>,
        /// Whether this is about a second machine of the level.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        second: bool,
    },
    /// `level` is a Windows that must start guests, and has no Hyper-V that can.
    NoHypervisor {
        /// The level.
        level: LevelNumber,
        /// What its role is called.
        role: String,
        /// What Windows says against it, and why its role's own test failed last. It may be the role's own text.
        why: Option<String>,
    },
    /// The kernel of `level` reported that it does not continue.
    GuestFailed {
        /// The level.
        level: LevelNumber,
        /// How it failed.
        failure: GuestFailure,
        /// The kernel's own words.
        said: String,
    },
    /// QEMU reported that its guest panicked.
    GuestPanicked {
        /// The level.
        level: LevelNumber,
        /// The messages of QEMU and the kernel under it about that.
        #[serde(default, skip_serializing_if = "Diagnostics::is_empty")]
        diagnostics: Diagnostics,
    },
    /// `level` shut down before its work was done.
    ShutDown {
        /// The level.
        level: LevelNumber,
        /// QEMU's reason.
        said: String,
    },
    /// A step ended with another status than expected.
    StepStatus {
        /// The level it ran in.
        level: LevelNumber,
        /// Its name.
        step: String,
        /// Its exit status.
        status: i64,
        /// The status that was expected.
        wanted: ExitStatus,
        /// What it printed.
        said: String,
    },
    /// A step did not print what was expected.
    StepOutput {
        /// The level it ran in.
        level: LevelNumber,
        /// Its name.
        step: String,
        /// What was expected.
        wanted: String,
        /// What it printed.
        said: String,
    },
    /// Tests of a suite failed.
    TestFailed {
        /// The level whose QEMU ran them.
        level: LevelNumber,
        /// The name of the step.
        step: String,
        /// How many cases failed or came to no result, and were not known to.
        failed: usize,
        /// How many cases there are.
        of: usize,
        /// The first of them, one in a line, with what was seen.
        said: String,
    },
    /// The performance of `level` compared with another level is not as expected.
    WrongRatio {
        /// The level.
        level: LevelNumber,
        /// The name of the step, the ratio that was measured, and the expected one.
        seen: String,
    },
    /// The migration of `level` failed.
    MigrationFailed {
        /// The level.
        level: LevelNumber,
        /// The status that QEMU reports.
        status: String,
        /// QEMU's reason.
        said: String,
    },
    /// `level` does not continue after an event in its life, such as a migration, or a second machine of it stopped.
    StandsStill {
        /// The level.
        level: LevelNumber,
        /// What was seen.
        seen: String,
    },
    /// The kernel of `level` complained after an event in the life of a level.
    KernelComplained {
        /// The level.
        level: LevelNumber,
        /// The kernel's own words.
        said: String,
    },
    /// The clock of `level` did not run as it should during such an event.
    WrongClock {
        /// The level.
        level: LevelNumber,
        /// What was seen.
        seen: String,
    },
    /// The report of `level` contradicts that it was nested.
    NotNested {
        /// The level.
        level: LevelNumber,
        /// In which way.
        contradiction: Contradiction,
    },
    /// `level` showed no progress, or did not finish in time.
    Timeout {
        /// The level.
        level: LevelNumber,
        /// How long the wait took, in seconds, without the time in which its emulator waited for a CPU.
        seconds: u64,
        /// Whether it was busy all the time.
        busy: bool,
        /// The last line of its console.
        last_line: Option<String>,
        /// The message of its kernel about a CPU that it did not get, or about a task that did not continue.
        said: Option<String>,
    },
    /// Something that must run in a level did not start.
    NotStarted {
        /// The level in which it was to run.
        level: LevelNumber,
        /// What, and why it did not.
        why: String,
    },
    /// `level` should run a guest but depends on what the emulated metal gets wrong. The guest was not started.
    EmulatorErratum {
        /// The level.
        level: LevelNumber,
        /// The id of the erratum.
        erratum: String,
        /// What the emulator gets wrong, and how the level depends on it.
        why: String,
    },
    /// Evidence is missing.
    MissingEvidence {
        /// What is missing.
        what: String,
    },
    /// The harness or its machine failed.
    Harness {
        /// The level that it is about, if any.
        level: Option<LevelNumber>,
        /// What happened.
        why: String,
        /// The id of the erratum of the emulated metal that it is charged to, if it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        erratum: Option<String>,
    },
    /// The user asked the harness to end.
    Interrupted,
    /// Written by another version of nestmatrix.
    #[serde(other)]
    Unknown,
}

impl Symptom {
    /// Its kind.
    pub fn kind(&self) -> SymptomKind {
        match self {
            Self::MissingCpuFeature { .. } => SymptomKind::MissingCpuFeature,
            Self::MissingMachineProperty { .. } => SymptomKind::MissingMachineProperty,
            Self::WrongHardware { .. } => SymptomKind::WrongHardware,
            Self::CommandLineRejected { .. } => SymptomKind::CommandLineRejected,
            Self::QemuEnded { .. } => SymptomKind::QemuEnded,
            Self::StoppedByQemu { .. } => SymptomKind::StoppedByQemu,
            Self::QmpRefused { .. } => SymptomKind::QmpRefused,
            Self::WithoutKvm { .. } => SymptomKind::WithoutKvm,
            Self::NoKvm { .. } => SymptomKind::NoKvm,
            Self::NoHypervisor { .. } => SymptomKind::NoHypervisor,
            Self::GuestFailed { .. } => SymptomKind::GuestFailed,
            Self::GuestPanicked { .. } => SymptomKind::GuestPanicked,
            Self::ShutDown { .. } => SymptomKind::ShutDown,
            Self::StepStatus { .. } => SymptomKind::StepStatus,
            Self::StepOutput { .. } => SymptomKind::StepOutput,
            Self::TestFailed { .. } => SymptomKind::TestFailed,
            Self::WrongRatio { .. } => SymptomKind::WrongRatio,
            Self::MigrationFailed { .. } => SymptomKind::MigrationFailed,
            Self::StandsStill { .. } => SymptomKind::StandsStill,
            Self::KernelComplained { .. } => SymptomKind::KernelComplained,
            Self::WrongClock { .. } => SymptomKind::WrongClock,
            Self::NotNested { .. } => SymptomKind::NotNested,
            Self::Timeout { .. } => SymptomKind::Timeout,
            Self::NotStarted { .. } => SymptomKind::NotStarted,
            Self::EmulatorErratum { .. } => SymptomKind::EmulatorErratum,
            Self::MissingEvidence { .. } => SymptomKind::MissingEvidence,
            Self::Harness { .. } => SymptomKind::Harness,
            Self::Interrupted => SymptomKind::Interrupted,
            Self::Unknown => SymptomKind::Unknown,
        }
    }

    /// The id of the erratum of the emulated metal that it is charged to, if it is.
    pub fn charged_to(&self) -> Option<&str> {
        match self {
            Self::StoppedByQemu { erratum, .. } | Self::Harness { erratum, .. } => erratum.as_deref(),
            _ => None,
        }
    }

    /// The level that it is about, if any.
    pub fn level(&self) -> Option<LevelNumber> {
        match self {
            Self::MissingCpuFeature { level, .. }
            | Self::MissingMachineProperty { level, .. }
            | Self::WrongHardware { level, .. }
            | Self::CommandLineRejected { level, .. }
            | Self::QemuEnded { level, .. }
            | Self::StoppedByQemu { level, .. }
            | Self::QmpRefused { level, .. }
            | Self::WithoutKvm { level }
            | Self::NoKvm { level, .. }
            | Self::NoHypervisor { level, .. }
            | Self::GuestFailed { level, .. }
            | Self::GuestPanicked { level, .. }
            | Self::ShutDown { level, .. }
            | Self::StepStatus { level, .. }
            | Self::StepOutput { level, .. }
            | Self::TestFailed { level, .. }
            | Self::WrongRatio { level, .. }
            | Self::MigrationFailed { level, .. }
            | Self::StandsStill { level, .. }
            | Self::KernelComplained { level, .. }
            | Self::WrongClock { level, .. }
            | Self::NotNested { level, .. }
            | Self::Timeout { level, .. }
            | Self::NotStarted { level, .. }
            | Self::EmulatorErratum { level, .. } => Some(*level),
            Self::Harness { level, .. } => *level,
            Self::MissingEvidence { .. } | Self::Interrupted | Self::Unknown => None,
        }
    }

    /// The messages of a guest, a kernel or a QEMU about it: only these may be compared with a document.
    pub fn said(&self) -> Option<Cow<'_, str>> {
        let said = match self {
            Self::StoppedByQemu { said, diagnostics, .. } => {
                return with_diagnostics(Some(said), diagnostics);
            }
            Self::GuestPanicked { diagnostics, .. } => return with_diagnostics(None, diagnostics),
            Self::MissingCpuFeature { feature, .. } => feature,
            Self::MissingMachineProperty { property, .. } => property,
            Self::WrongHardware { difference, .. } => match difference {
                HardwareDifference::FeatureOn { feature } => feature,
                HardwareDifference::CpuProperty { property, .. } => property,
                HardwareDifference::Device { device } => device,
                _ => return None,
            },
            Self::CommandLineRejected { said, .. }
            | Self::QemuEnded { said, .. }
            | Self::QmpRefused { said, .. }
            | Self::GuestFailed { said, .. }
            | Self::ShutDown { said, .. }
            | Self::StepStatus { said, .. }
            | Self::StepOutput { said, .. }
            | Self::TestFailed { said, .. }
            | Self::MigrationFailed { said, .. }
            | Self::KernelComplained { said, .. } => said,
            Self::NoKvm { said, .. } | Self::Timeout { said, .. } => said.as_ref()?,
            Self::NotNested { contradiction, .. } => match contradiction {
                Contradiction::Nonce { got, .. } | Contradiction::Hypervisor { got, .. } => got,
            },
            Self::WithoutKvm { .. }
            | Self::NoHypervisor { .. }
            | Self::StandsStill { .. }
            | Self::WrongRatio { .. }
            | Self::WrongClock { .. }
            | Self::NotStarted { .. }
            | Self::EmulatorErratum { .. }
            | Self::MissingEvidence { .. }
            | Self::Harness { .. }
            | Self::Interrupted
            | Self::Unknown => return None,
        };
        Some(said).filter(|said| !said.is_empty()).map(|said| Cow::Borrowed(said.as_str()))
    }
}
