//! Reads the console of a level whose kernel panics and which has a crash kernel: what comes after the panic, and what the crash
//! kernel sees of the dump.

use std::cell::RefCell;
use std::collections::BTreeMap;

use nestmatrix_vmm::guest::{GuestSymptom, kernel_message, symptom_in};

use crate::console_view::ConsoleListener;

/// What every kernel prints first. The crash kernel is booted without `quiet`.
const BOOTS: &str = "Linux version ";
/// What a kernel that panicked prints if it stays: no other kernel runs then.
const STAYS: &str = "end Kernel panic";
/// The lines around the report of a crash kernel.
const BEGIN: &str = "nestmatrix-dump-begin";
const END: &str = "nestmatrix-dump-end";

/// What came after a panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AfterPanic {
    /// The crash kernel has reported this.
    Report(BTreeMap<String, String>),
    /// The kernel that panicked stays.
    NoOtherKernel,
    /// The crash kernel has failed, too, in these words.
    Failed(String),
    /// The machine was reset or powered off, for this reason of QEMU.
    ShutDown(String),
}

impl AfterPanic {
    /// What it shows: that the crash kernel came up and saw a dump of the kernel that panicked. That kernel has this release, and this
    /// nonce in its log.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn judge(&self, release: &str, nonce: &str) -> Result<String, String> {
        let report = match self {
            Self::Report(report) => report,
            Self::NoOtherKernel => return Err("no crash kernel was booted".to_owned()),
            Self::Failed(said) => return Err(format!("its crash kernel failed: {said}")),
            Self::ShutDown(reason) => {
                return Err(format!("no crash kernel came up: its machine has shut down ({reason})"));
            }
        };
        let value = |key: &str| report.get(key).map(String::as_str).unwrap_or_default();
        let (kernel, crashed) = (value("kernel"), value("crashed"));
        let up = format!("its crash kernel {kernel} came up");
        let size: u64 = value("size").parse().unwrap_or_default();
        if size == 0 {
            return Err(format!("{up} and saw no dump: /proc/vmcore is missing or empty"));
        }
        if crashed != release {
            return Err(format!("{up} and saw a dump of kernel {crashed:?}, not of {release}"));
        }
        let log = match (value("log"), value("nonce")) {
            ("0", found) if found == nonce => "with the nonce that was written to its log before".to_owned(),
            ("0", found) => {
                return Err(format!("{up}, and the log in the dump has the nonce {found:?}, not {nonce}"));
            }
            (status, _) => {
                format!("whose log vmcore-dmesg can't read (status {status}: {:?})", value("said"))
            }
        };
        Ok(format!("{up} and saw a dump of {} MiB of kernel {crashed}, {log}", size >> 20))
    }
}

/// Reads every line from before the panic on.
#[derive(Debug, Default)]
pub(super) struct DumpReader(RefCell<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// Whether the crash kernel boots.
    boots: bool,
    /// Its report, once it has begun.
    report: Option<BTreeMap<String, String>>,
    after: Option<AfterPanic>,
}

impl DumpReader {
    /// What came after the panic, once that is known.
    pub(super) fn after_panic(&self) -> Option<AfterPanic> {
        self.0.borrow().after.clone()
    }
}

impl ConsoleListener for DumpReader {
    fn line(&self, line: &str) {
        self.0.borrow_mut().line(line);
    }

    fn is_complete(&self) -> bool {
        self.0.borrow().after.is_some()
    }
}

impl Heard {
    fn line(&mut self, line: &str) {
        if self.after.is_some() {
            return;
        }
        let (line, message) = (line.trim(), kernel_message(line));
        if let (true, Some(GuestSymptom::Fatal(failure, said))) = (self.boots, symptom_in(line)) {
            self.after = Some(AfterPanic::Failed(failure.describe(&said)));
        } else if message.starts_with(BOOTS) {
            self.boots = true;
        } else if !self.boots && message.contains(STAYS) {
            self.after = Some(AfterPanic::NoOtherKernel);
        } else if line == BEGIN {
            self.report = Some(BTreeMap::new());
        } else if line == END {
            self.after = self.report.take().map(AfterPanic::Report);
        } else if let (Some(report), Some((key, value))) = (&mut self.report, line.split_once('=')) {
            report.insert(key.to_owned(), value.to_owned());
        }
    }
}
