//! The report that the innermost level's userspace prints on its console.
//!
//! The init of the minimal image (images/recipes/init) prints the report: lines `KEY=VALUE` between a begin and an end marker.

use serde::{Deserialize, Serialize};

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
}

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
                "nonce" => &mut report.nonce,
                "kernel" => &mut report.kernel,
                "hypervisor" => &mut report.hypervisor,
                "cpu" => &mut report.cpu,
                _ => return,
            };
            value.trim().clone_into(field);
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
        let lines =
            ["SeaBIOS", BEGIN, "nonce=17", "kernel=6.1.0", "hypervisor=KVM", "cpu=AMD", "later=x", END];
        let reader = read(&lines);
        let expected = InnermostReport {
            nonce: "17".into(),
            kernel: "6.1.0".into(),
            hypervisor: "KVM".into(),
            cpu: "AMD".into(),
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
}
