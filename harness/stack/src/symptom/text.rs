//! A symptom in the words of the harness.

use std::borrow::Cow;
use std::fmt;

use nestmatrix_model::LevelNumber;

use super::{Contradiction, ExitStatus, NestedSetting, Symptom};
use crate::host::{Diagnostics, last_lines_of};

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("not fail"),
            Self::Failure => f.write_str("fail"),
            Self::Exactly(status) => write!(f, "exit with {status}"),
        }
    }
}

/// QEMU's report about a guest, and the other messages, one per line.
pub(super) fn with_diagnostics<'a>(
    said: Option<&'a String>,
    diagnostics: &'a Diagnostics,
) -> Option<Cow<'a, str>> {
    let lines: Vec<&str> = said.map(String::as_str).into_iter().chain(diagnostics.lines()).collect();
    match lines[..] {
        [] => None,
        [line] => Some(Cow::Borrowed(line)),
        _ => Some(Cow::Owned(lines.join("\n"))),
    }
}

/// A line or two of it: all of it is in a file of the cell.
fn write_diagnostics(
    f: &mut fmt::Formatter<'_>,
    level: LevelNumber,
    diagnostics: &Diagnostics,
) -> fmt::Result {
    if let Some(message) = diagnostics.message() {
        write!(f, ": {message}")?;
    }
    match (diagnostics.kernel_on_kvm(), level.below()) {
        (Some(line), Some(below)) => write!(f, "; {below}'s kernel says {line:?}"),
        _ => Ok(()),
    }
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingCpuFeature { feature, model, nested, .. } => {
                write!(f, "missing CPU feature: {feature} (model {model})")?;
                match nested {
                    Some(NestedSetting { level, module, value }) => {
                        write!(f, "; {module} of {level} has nested={value}")
                    }
                    None => Ok(()),
                }
            }
            Self::MissingMachineProperty { property, machine_type, .. } => {
                write!(f, "missing machine property: {property} ({machine_type})")
            }
            Self::WrongHardware { level, difference } => write!(f, "wrong hardware of {level}: {difference}"),
            Self::CommandLineRejected { level, said, by_libvirt: true, .. } => {
                write!(f, "libvirt refused {level}'s machine: {said}")
            }
            Self::CommandLineRejected { level, said, .. } => {
                write!(f, "{level}'s QEMU rejected its command line: {}", last_lines_of(said))
            }
            Self::QemuEnded { level, ended, said } => {
                match level.below() {
                    Some(_) => write!(f, "{level}'s QEMU {ended}")?,
                    None => write!(f, "the emulator that plays {level}'s metal {ended}")?,
                }
                match last_lines_of(said) {
                    words if words.is_empty() => Ok(()),
                    words => write!(f, ": {words}"),
                }
            }
            Self::StoppedByQemu { level, said, diagnostics, erratum } => {
                write!(f, "{level}'s QEMU stopped it ({said})")?;
                write_diagnostics(f, *level, diagnostics)?;
                match erratum {
                    Some(id) => write!(f, " (emulator erratum {id})"),
                    None => Ok(()),
                }
            }
            Self::QmpRefused { level, command, said } => {
                write!(f, "{level}'s QEMU refused {command}: {said}")
            }
            Self::WithoutKvm { level } => {
                write!(f, "{level}'s QEMU does not run it with KVM (query-kvm: enabled is false)")
            }
            Self::NoKvm { level, module, loaded, said, second } => {
                let subject = if *second { "the second " } else { "" };
                let loaded = if *loaded { "is loaded" } else { "is not loaded" };
                write!(f, "{subject}{level} has no usable /dev/kvm ({module} {loaded}")?;
                match said {
                    Some(said) => write!(f, "; its kernel says {said:?})"),
                    None => f.write_str(")"),
                }
            }
            Self::NoHypervisor { level, role, why } => {
                write!(f, "{level} can't start guests of {role}")?;
                match why {
                    Some(why) => write!(f, ": {why}"),
                    None => f.write_str(": its role's own test ([ready]) never ended"),
                }
            }
            Self::GuestFailed { failure, said, .. } => f.write_str(&failure.describe(said)),
            Self::GuestPanicked { level, diagnostics } => {
                f.write_str("the guest panicked (GUEST_PANICKED)")?;
                write_diagnostics(f, *level, diagnostics)
            }
            Self::ShutDown { level, said } => {
                write!(f, "{level} shut down before its work was done ({said})")
            }
            Self::StepStatus { level, step, status, wanted, said } => {
                write!(f, "{step} on {level}: it exited with status {status}, it should {wanted}; ")?;
                write!(f, "it printed {said:?}")
            }
            Self::StepOutput { level, step, wanted, said } => {
                write!(f, "{step} on {level}: {wanted:?} is not in its output; it printed {said:?}")
            }
            Self::TestFailed { level, step, failed, of, said } => {
                write!(f, "{step} on {level}: {failed} of {of} cases failed: {}", said.replace('\n', "; "))
            }
            Self::MigrationFailed { level, status, said } => {
                write!(f, "the migration of {level} is {status}: {said}")
            }
            Self::StandsStill { seen, .. }
            | Self::WrongClock { seen, .. }
            | Self::WrongRatio { seen, .. } => f.write_str(seen),
            Self::KernelComplained { level, said } => write!(f, "{level}'s kernel complains: {said:?}"),
            Self::NotNested { level, contradiction: Contradiction::Nonce { got, expected } } => {
                write!(f, "{level} gave back nonce {got:?}, it was started with {expected:?}")
            }
            Self::NotNested { level, contradiction: Contradiction::Hypervisor { got, expected } } => {
                write!(f, "{level} says that its hypervisor is {got:?}, not {expected}")
            }
            Self::Timeout { seconds, busy, last_line, said, .. } => {
                match busy {
                    true => write!(f, "busy, but not done after {seconds} s")?,
                    false => write!(f, "no progress for {seconds} s")?,
                }
                if let Some(said) = said {
                    write!(f, ", its kernel says {said:?}")?;
                }
                match last_line {
                    Some(line) => write!(f, ", last line {line:?}"),
                    None => f.write_str(", nothing on its console"),
                }
            }
            Self::NotStarted { level, why } => write!(f, "{level}: {why}"),
            Self::EmulatorErratum { why, .. } => f.write_str(why),
            Self::MissingEvidence { what } => write!(f, "missing evidence: {what}"),
            Self::Harness { why, erratum: Some(id), .. } => write!(f, "{why} (emulator erratum {id})"),
            Self::Harness { why, erratum: None, .. } => f.write_str(why),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Unknown => f.write_str("a reason that this version does not know"),
        }
    }
}
