//! The report of the innermost level's userspace: lines `KEY=VALUE` between a begin and an end marker.
//!
//! The init of the minimal image (images/recipes/init) prints it on the console. An installed system is asked for it.

use nestmatrix_vmm::guest::excerpt;
use serde::{Deserialize, Serialize};

use crate::host::cpus_in;

const BEGIN: &str = "nestmatrix-report-begin";
const END: &str = "nestmatrix-report-end";

/// The innermost level's report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InnermostReport {
    /// The nonce that it was started with, read from its own kernel command line.
    pub nonce: String,
    /// Its kernel release.
    pub kernel: String,
    /// The hypervisor that its kernel detected; `none` if it detected none.
    pub hypervisor: String,
    /// Its CPU's model name.
    pub cpu: String,
    /// `ID` of its os-release, if it is an installed system.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// `VERSION_ID` of its os-release, if it is an installed system.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// How many CPUs its kernel uses; absent in reports of older images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
}

/// The script with which an installed system reports. Its nonce is the identifier of its machine, as its firmware passes it on: the
/// SMBIOS tables on x86 and Arm, the device tree on POWER. Where its hypervisor is named differs in the same way.
pub(crate) const REPORT_SCRIPT: &str = "\
nonce=
for f in /sys/class/dmi/id/product_uuid /proc/device-tree/vm,uuid; do
  [ -r $f ] && nonce=$(tr -d '\\000\\n-' <$f)
done
hypervisor=$(dmesg | sed -n -e 's/.*Hypervisor detected: //p' -e 's/.*smccc: \\(KVM\\): hypervisor services detected.*/\\1/p' | tail -n 1)
if [ -e /proc/device-tree/hypervisor/compatible ] && grep -q linux,kvm /proc/device-tree/hypervisor/compatible; then
  hypervisor=KVM
fi
# Without the kernel's first messages, nothing is known.
[ -n \"$hypervisor\" ] || ! dmesg | grep -q 'Linux version' || hypervisor=none
cpu=$(sed -n -e 's/^model name[[:space:]]*: //p' -e 's/^cpu[[:space:]]*: //p' -e 's/^CPU part[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
. /etc/os-release
echo nestmatrix-report-begin
echo nonce=$nonce
echo kernel=$(uname -r)
echo hypervisor=$hypervisor
echo \"cpu=$cpu\"
echo cpus=$(cat /sys/devices/system/cpu/online)
echo system=$ID
echo version=$VERSION_ID
echo nestmatrix-report-end
";

/// Reads a report from console lines as they come.
#[derive(Debug, Default)]
pub(super) struct ReportReader {
    open: Option<Open>,
    complete: Option<InnermostReport>,
    damaged: bool,
    /// Whether a line had bytes that neither a kernel nor the report has.
    garbled: bool,
}

/// A report of which the end has not come.
#[derive(Debug, Default)]
struct Open {
    report: InnermostReport,
    /// The bytes of its lines so far, with a line break after each.
    read: usize,
    /// The bytes that it had when it was printed, without the last line break; none in reports of older images, and in those that
    /// are no lines on a console.
    printed: Option<usize>,
}

impl Open {
    /// Whether anything was added, lost or put in between. The kernel prints on the same console, and its whole lines don't count.
    fn is_whole(&self) -> bool {
        self.printed.is_none_or(|printed| printed.checked_add(1) == Some(self.read))
    }
}

impl ReportReader {
    /// Takes in the next line.
    pub(super) fn line(&mut self, line: &str) {
        let raw = line.trim_end_matches(['\r', '\n']);
        let line = line.trim();
        // As a console shows a zero, and what is not UTF-8.
        self.garbled |= line.contains("\\u{0}") || line.contains(char::REPLACEMENT_CHARACTER);
        if line.ends_with(BEGIN) {
            self.open = Some(Open::default());
        } else if line == END {
            let whole = self.open.take().filter(Open::is_whole);
            self.damaged |= whole.is_none();
            // The first complete report counts: a guest can't withdraw it.
            self.complete = self.complete.take().or(whole.map(|open| open.report));
        } else if let Some(Open { report, read, printed }) = &mut self.open
            && let Some((key, value)) = line.split_once('=')
        {
            let field = match key {
                "cpus" => {
                    report.cpus = cpus_in(value);
                    None
                }
                "nonce" => Some(&mut report.nonce),
                "kernel" => Some(&mut report.kernel),
                "hypervisor" => Some(&mut report.hypervisor),
                "cpu" => Some(&mut report.cpu),
                "system" => Some(&mut report.system),
                "version" => Some(&mut report.version),
                "uptime" => None,
                "size" => {
                    *printed = Some(value.parse().unwrap_or_default());
                    return;
                }
                _ => return,
            };
            *read += raw.len() + 1;
            if let Some(field) = field {
                // An agent's answer has no longest line.
                *field = excerpt(value.trim());
            }
        }
    }

    /// Whether userspace has begun to report.
    pub(super) fn begun(&self) -> bool {
        self.open.is_some() || self.complete.is_some() || self.damaged
    }

    /// Whether a report may have come of which some marks are lost: it has begun and not ended, or the console was disturbed.
    pub(super) fn may_have_lost_marks(&self) -> bool {
        (self.open.is_some() || self.garbled) && self.complete.is_none()
    }

    /// The report, once it is complete.
    pub(super) fn complete(&self) -> Option<&InnermostReport> {
        self.complete.as_ref()
    }

    /// Whether a report came that can't be read, because its lines are not as they were printed.
    pub(super) fn is_damaged(&self) -> bool {
        // Only the mark of the end is missing.
        let without_end = self.open.as_ref().is_some_and(|open| open.printed.is_some());
        self.complete.is_none() && (self.damaged || without_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> ReportReader {
        let mut reader = ReportReader::default();
        lines.iter().for_each(|line| reader.line(line));
        reader
    }

    #[test]
    fn a_report_counts_once_it_is_complete() {
        let lines = [
            "SeaBIOS",
            BEGIN,
            "nonce=17",
            "kernel=6.1.0",
            "hypervisor=KVM",
            "cpu=AMD",
            "cpus=0-1",
            "later=x",
            END,
        ];
        let reader = read(&lines);
        let expected = InnermostReport {
            nonce: "17".into(),
            kernel: "6.1.0".into(),
            hypervisor: "KVM".into(),
            cpu: "AMD".into(),
            cpus: Some(2),
            ..InnermostReport::default()
        };
        assert_eq!(reader.complete(), Some(&expected));
        let cut = read(&lines[..6]);
        assert!(cut.begun() && cut.complete().is_none());
        assert!(read(&["nonce=17", END]).is_damaged());
    }

    #[test]
    fn a_second_report_does_not_replace_the_first() {
        let reader = read(&[BEGIN, "nonce=1", END, BEGIN, "nonce=2", END]);
        assert_eq!(reader.complete().map(|r| r.nonce.as_str()), Some("1"));
    }

    /// A report as the minimal image prints it.
    const PRINTED: [&str; 6] = [BEGIN, "nonce=1", "cpus=0-1", "uptime=0.5", "size=27", END];

    #[rstest::rstest]
    #[case::as_printed(&PRINTED, true)]
    #[case::with_line_breaks_of_a_terminal(
        &["nestmatrix-report-begin\r", "nonce=1\r", "cpus=0-1\r", "uptime=0.5\r", "size=27\r", "nestmatrix-report-end\r"],
        true
    )]
    #[case::with_a_line_of_the_kernel(&[BEGIN, "nonce=1", "[ 0.1] x=1", "cpus=0-1", "uptime=0.5", "size=27", END], true)]
    #[case::a_line_is_lost(&[BEGIN, "nonce=1", "uptime=0.5", "size=27", END], false)]
    #[case::a_value_is_longer(&[BEGIN, "nonce=1", "cpus=0-1[ 0.1] x", "uptime=0.5", "size=27", END], false)]
    #[case::a_key_is_lost(&[BEGIN, "nonce=1", "cpu[ 0.1] x", "s=0-1", "uptime=0.5", "size=27", END], false)]
    #[case::the_size_is_none(&[BEGIN, "nonce=1", "cpus=0-1", "uptime=0.5", "size=2[ 0.1] x", END], false)]
    #[case::the_size_is_too_large(&[BEGIN, "nonce=1", "cpus=0-1", "uptime=0.5", "size=18446744073709551615", END], false)]
    #[case::the_beginning_is_lost(&["nestmatrix-rep[ 0.1] x", "nonce=1", "cpus=0-1", "uptime=0.5", "size=27", END], false)]
    #[case::the_end_is_lost(&[BEGIN, "nonce=1", "cpus=0-1", "uptime=0.5", "size=27", "nest[ 0.1]"], false)]
    fn a_report_that_is_not_as_it_was_printed_is_damaged(#[case] lines: &[&str], #[case] whole: bool) {
        let reader = read(lines);
        assert_eq!((reader.complete().is_some(), reader.is_damaged()), (whole, !whole));
    }

    #[test]
    fn a_report_that_has_only_begun_is_not_damaged() {
        assert!((1..4).all(|count| !read(&PRINTED[..count]).is_damaged()));
    }

    proptest::proptest! {
        #[test]
        fn a_report_without_both_marks_is_none_whatever_is_printed(
            lines in proptest::collection::vec("(nonce=|kernel=|cpus=|=|0-7|nestmatrix-report-|begin|\\PC){0,6}", 0..20),
        ) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).filter(|line| line.trim() != END).collect();
            proptest::prop_assert!(read(&lines).complete().is_none());
            let ended = read(&[lines.as_slice(), &[END]].concat());
            let begun = lines.iter().any(|line| line.trim().ends_with(BEGIN));
            proptest::prop_assert_eq!(ended.complete().is_some(), begun);
        }
    }
}
