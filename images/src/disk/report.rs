//! What the system inside reports while it is prepared: lines on its console, between two marks. Nothing of it is trusted: lines and
//! their number are limited, and control characters are removed.

/// The first line of a report.
const BEGIN: &str = "nestmatrix-prepare-begin";
/// The last one, followed by the exit status.
const END: &str = "nestmatrix-prepare-end";

/// The most characters of a value.
const LONGEST_VALUE: usize = 400;
/// The most bytes of a line that are looked at.
const LONGEST_LINE: usize = 4096;
/// The most lines that are kept of each kind that may come repeatedly.
const MOST_CHANGES: usize = 1000;
const MOST_ERRORS: usize = 10;

/// What a system reported about its preparation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreparationReport {
    /// The exit status of the script; none if the report has not ended.
    pub status: Option<u32>,
    /// `ID` of its os-release(5).
    pub system: Option<String>,
    /// `VERSION_ID` of its os-release(5).
    pub version: Option<String>,
    /// The release of the kernel that it boots.
    pub kernel: Option<String>,
    /// What its QEMU prints as its version; none if it has no QEMU.
    pub qemu: Option<String>,
    /// What preparation changed, in order.
    pub changes: Vec<String>,
    /// Why it failed.
    pub errors: Vec<String>,
}

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportEvent {
    /// The report begins.
    Begun,
    /// What happens now.
    Progress(String),
    /// Another line of the report.
    Line,
    /// The report is complete.
    Ended,
}

/// Reads a report from the lines of a console.
#[derive(Debug, Clone, Default)]
pub struct ReportReader {
    report: PreparationReport,
    has_begun: bool,
}

impl ReportReader {
    /// Has read nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a line of the console. Returns nothing for lines that are not of a report, and for all lines after its end.
    pub fn line(&mut self, line: &[u8]) -> Option<ReportEvent> {
        if self.report.status.is_some() {
            return None;
        }
        let line = String::from_utf8_lossy(&line[..line.len().min(LONGEST_LINE)]);
        let line: String = line.trim().chars().filter(|c| !c.is_control()).take(LONGEST_VALUE).collect();
        if line == BEGIN {
            // A system that was reset while it was prepared begins again.
            *self = Self { has_begun: true, ..Self::default() };
            return Some(ReportEvent::Begun);
        }
        if !self.has_begun {
            return None;
        }
        if let Some(status) = line.strip_prefix(END) {
            self.report.status = Some(status.trim().parse().ok()?);
            return Some(ReportEvent::Ended);
        }
        let (key, value) = line.split_once('=')?;
        let value = value.trim().to_owned();
        let field = match key {
            "progress" => return Some(ReportEvent::Progress(value)),
            "change" => return keep(&mut self.report.changes, value, MOST_CHANGES),
            "error" => return keep(&mut self.report.errors, value, MOST_ERRORS),
            "system" => &mut self.report.system,
            "version" => &mut self.report.version,
            "kernel" => &mut self.report.kernel,
            "qemu" => &mut self.report.qemu,
            _ => return None,
        };
        *field = (!value.is_empty()).then_some(value);
        Some(ReportEvent::Line)
    }

    /// Whether a report has begun.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether the report is complete.
    pub fn is_complete(&self) -> bool {
        self.report.status.is_some()
    }

    /// The report so far.
    pub fn report(self) -> PreparationReport {
        self.report
    }
}

fn keep(lines: &mut Vec<String>, line: String, most: usize) -> Option<ReportEvent> {
    if lines.len() < most {
        // A console that prints a line on two devices shows it twice.
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    } else if lines.len() == most {
        lines.push("more lines, which were not kept".to_owned());
    }
    Some(ReportEvent::Line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<ReportEvent>, PreparationReport) {
        let mut reader = ReportReader::new();
        let events = text.lines().filter_map(|line| reader.line(line.as_bytes())).collect();
        (events, reader.report())
    }

    #[test]
    fn a_report_is_between_its_marks() {
        let (events, report) = read(
            "change=before\nsystem=fake\nnestmatrix-prepare-begin\r\n[    1.0] a message of the kernel\nprogress=reading\nsystem=rhel\n\
             version=9.4\nkernel=5.14.0-427\nqemu=QEMU emulator version 8.2.0\nchange=installed qemu-kvm 8.2\n\
             change=masked kdump.service\nchange=masked kdump.service\nnestmatrix-prepare-end 0\nkernel=other\nerror=late\n",
        );
        assert_eq!(events[..2], [ReportEvent::Begun, ReportEvent::Progress("reading".to_owned())]);
        assert_eq!(events.last(), Some(&ReportEvent::Ended));
        let expected = PreparationReport {
            status: Some(0),
            system: Some("rhel".to_owned()),
            version: Some("9.4".to_owned()),
            kernel: Some("5.14.0-427".to_owned()),
            qemu: Some("QEMU emulator version 8.2.0".to_owned()),
            changes: vec!["installed qemu-kvm 8.2".to_owned(), "masked kdump.service".to_owned()],
            errors: Vec::new(),
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn a_report_without_end_has_no_status() {
        for text in
            ["nestmatrix-prepare-begin\nsystem=x\n", "nestmatrix-prepare-begin\nnestmatrix-prepare-end\n", ""]
        {
            assert_eq!(read(text).1.status, None, "{text:?}");
        }
        let (_, report) =
            read("nestmatrix-prepare-begin\nqemu=\nerror=no space left\nnestmatrix-prepare-end 1\n");
        assert_eq!(
            (report.status, report.qemu, report.errors),
            (Some(1), None, vec!["no space left".to_owned()])
        );
    }

    #[test]
    fn a_restart_begins_a_new_report() {
        let (_, report) = read(
            "nestmatrix-prepare-begin\nchange=a\nnestmatrix-prepare-begin\nchange=b\nnestmatrix-prepare-end 0\n",
        );
        assert_eq!(report.changes, ["b"]);
    }

    #[test]
    fn hostile_lines_neither_grow_nor_reach_the_terminal() {
        let mut reader = ReportReader::new();
        reader.line(BEGIN.as_bytes());
        for number in 0..100_000 {
            reader.line(format!("change=\x1b[31m{number}{}", "x".repeat(10_000)).as_bytes());
            reader.line(format!("error={number}").as_bytes());
        }
        reader.line(&[b'\xff'; 100_000]);
        reader.line(b"nestmatrix-prepare-end 99999999999999999999");
        let report = reader.report();
        assert_eq!(
            (report.status, report.changes.len(), report.errors.len()),
            (None, MOST_CHANGES + 1, MOST_ERRORS + 1)
        );
        let size: usize = report.changes.iter().map(String::len).sum();
        assert!(size < 1 << 20, "{size} bytes");
        assert!(!report.changes[0].contains('\x1b'));
    }
}
