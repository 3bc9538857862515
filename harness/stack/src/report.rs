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
    open: Option<InnermostReport>,
    complete: Option<InnermostReport>,
}

impl ReportReader {
    /// Takes in the next line.
    pub(super) fn line(&mut self, line: &str) {
        let line = line.trim();
        if line.ends_with(BEGIN) {
            self.open = Some(InnermostReport::default());
        } else if line == END {
            // The first complete report counts: a guest can't withdraw it.
            let report = self.open.take();
            self.complete = self.complete.take().or(report);
        } else if let Some(report) = &mut self.open
            && let Some((key, value)) = line.split_once('=')
        {
            let field = match key {
                "cpus" => {
                    report.cpus = cpus_in(value);
                    return;
                }
                "nonce" => &mut report.nonce,
                "kernel" => &mut report.kernel,
                "hypervisor" => &mut report.hypervisor,
                "cpu" => &mut report.cpu,
                "system" => &mut report.system,
                "version" => &mut report.version,
                _ => return,
            };
            // An agent's answer has no longest line.
            *field = excerpt(value.trim());
        }
    }

    /// Whether userspace has begun to report.
    pub(super) fn begun(&self) -> bool {
        self.open.is_some() || self.complete.is_some()
    }

    /// The report, once it is complete.
    pub(super) fn complete(&self) -> Option<&InnermostReport> {
        self.complete.as_ref()
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
        assert!(!read(&["nonce=17", END]).begun());
    }

    #[test]
    fn a_second_report_does_not_replace_the_first() {
        let reader = read(&[BEGIN, "nonce=1", END, BEGIN, "nonce=2", END]);
        assert_eq!(reader.complete().map(|r| r.nonce.as_str()), Some("1"));
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
