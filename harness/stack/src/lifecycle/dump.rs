//! Reads the console of a level whose kernel panics and which has a crash kernel: what comes after the panic, and what the crash
//! kernel sees of the dump.

use std::cell::RefCell;
use std::collections::BTreeMap;

use nestmatrix_vmm::guest::{GuestFailure, GuestSymptom, kernel_message, symptom_in};

use crate::console_view::ConsoleListener;

/// What every kernel prints first. The crash kernel is booted without `quiet`.
const BOOTS: &str = "Linux version ";
/// What a kernel that panicked prints if it stays: no other kernel runs then.
const STAYS: &str = "end Kernel panic";
/// A shell's status of a program that it could not start (126 and 127), or that a signal ended, is at least this.
const KILLED: u8 = 126;
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

/// Why what came after a panic does not show that the crash kernel saw the dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unshown {
    /// The level did not do it.
    ByLevel(String),
    /// It is not known: what reads the log did not run to its end, or its words are lost.
    Unknown(String),
}

impl AfterPanic {
    /// What it shows: that the crash kernel came up and saw a dump of the kernel that panicked. That kernel has this release, and this
    /// nonce in its log.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn judge(&self, release: &str, nonce: &str) -> Result<String, Unshown> {
        let by_level = |why: String| Err(Unshown::ByLevel(why));
        let report = match self {
            Self::Report(report) => report,
            Self::NoOtherKernel => return by_level("no crash kernel was booted".to_owned()),
            Self::Failed(said) => return by_level(format!("its crash kernel failed: {said}")),
            Self::ShutDown(reason) => {
                return by_level(format!("no crash kernel came up: its machine has shut down ({reason})"));
            }
        };
        let value = |key: &str| report.get(key).map(String::as_str).unwrap_or_default();
        let (kernel, crashed) = (value("kernel"), value("crashed"));
        let up = format!("its crash kernel {kernel} came up");
        let size: u64 = value("size").parse().unwrap_or_default();
        if size == 0 {
            return by_level(format!("{up} and saw no dump: /proc/vmcore is missing or empty"));
        }
        if crashed != release {
            return by_level(format!("{up} and saw a dump of kernel {crashed:?}, not of {release}"));
        }
        let log = match (value("log"), value("nonce")) {
            ("0", found) if found == nonce => "with the nonce that was written to its log before".to_owned(),
            ("0", found) => {
                return by_level(format!(
                    "{up}, and the log in the dump has the nonce {found:?}, not {nonce}"
                ));
            }
            // Of an older vmcore-dmesg, which does not know the format of a newer kernel's log.
            (status, _) if status.parse().is_ok_and(|status: u8| status < KILLED) => {
                format!("whose log vmcore-dmesg can't read (status {status}: {:?})", value("said"))
            }
            (status, _) => {
                let said = value("said");
                return Err(Unshown::Unknown(format!(
                    "{up}, and its log was not read (status {status:?}: {said:?})"
                )));
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
        let field = self.report.is_some().then(|| line.split_once('=')).flatten();
        if let (Some(report), Some((key, value))) = (&mut self.report, field.filter(|(key, _)| is_key(key))) {
            // A line of the dead kernel's log may be part of it.
            report.insert(key.to_owned(), value.to_owned());
        } else if let (true, Some((failure, said))) = (self.boots, failure_in(line)) {
            self.after = Some(AfterPanic::Failed(failure.describe(&said)));
        } else if message.starts_with(BOOTS) {
            self.boots = true;
        } else if !self.boots && message.contains(STAYS) {
            self.after = Some(AfterPanic::NoOtherKernel);
        } else if line == BEGIN {
            self.report = Some(BTreeMap::new());
        } else if line == END {
            self.after = self.report.take().map(AfterPanic::Report);
        }
    }
}

/// How a kernel reports that it does not continue.
fn failure_in(line: &str) -> Option<(GuestFailure, String)> {
    match symptom_in(line)? {
        GuestSymptom::Fatal(failure, said) => Some((failure, said)),
        GuestSymptom::Panicked(said) => Some((GuestFailure::KernelPanic, said)),
        GuestSymptom::Stall(_) => None,
    }
}

/// Whether a line of the report can begin with this.
fn is_key(word: &str) -> bool {
    matches!(word, "kernel" | "size" | "crashed" | "log" | "nonce" | "said")
}
