//! What a level's console has shown so far. The console's reader writes it and the watch reads it: no queue lies between
//! them that a guest could fill by printing faster than anyone reads.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use nestmatrix_vmm::guest::{GuestFailure, GuestSymptom, SharedAnswers, symptom_in};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::report::ReportReader;

/// Lines of a console that are kept.
const KEPT_LINES: usize = 20;

/// What the console of one level has shown. Cheap to clone; all clones are the same console.
#[derive(Debug, Clone)]
pub(super) struct ConsoleView(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    shown: RefCell<Shown>,
    answers: SharedAnswers,
    /// Rung after every line, for the watch of the stack.
    changed: Rc<Notify>,
}

#[derive(Debug, Default)]
struct Shown {
    lines: VecDeque<String>,
    report: ReportReader,
    /// How the level failed, by its kernel's own words. The first failure is the cause; what follows are consequences.
    failure: Option<(GuestFailure, String)>,
    /// Whether the failure was reported already.
    is_reported: bool,
    stall: Option<String>,
    last_line_at: Option<Instant>,
}

impl ConsoleView {
    /// The view of a console that has shown nothing yet. It rings `changed` after every line.
    pub(super) fn new(changed: Rc<Notify>) -> Self {
        Self(Rc::new(Inner { shown: RefCell::default(), answers: SharedAnswers::default(), changed }))
    }

    /// Takes in the next line.
    pub(super) fn line(&self, line: String) {
        self.0.answers.line(&line);
        let mut shown = self.0.shown.borrow_mut();
        shown.last_line_at = Some(Instant::now());
        shown.report.line(&line);
        match symptom_in(&line) {
            Some(GuestSymptom::Fatal(failure, said)) if shown.failure.is_none() => {
                shown.failure = Some((failure, said));
            }
            Some(GuestSymptom::Stall(said)) => shown.stall = Some(said),
            Some(GuestSymptom::Fatal(..)) | None => {}
        }
        if !line.trim().is_empty() {
            shown.lines.push_back(line);
            if shown.lines.len() > KEPT_LINES {
                shown.lines.pop_front();
            }
        }
        drop(shown);
        self.0.changed.notify_one();
    }

    /// What the shell on it has said.
    pub(super) fn answers(&self) -> &SharedAnswers {
        &self.0.answers
    }

    /// What is known of the level's report.
    pub(super) fn report<T>(&self, known: impl FnOnce(&ReportReader) -> T) -> T {
        known(&self.0.shown.borrow().report)
    }

    /// How the level failed, if its kernel says that it did.
    pub(super) fn failure(&self) -> Option<(GuestFailure, String)> {
        self.0.shown.borrow().failure.clone()
    }

    /// The same, but only once.
    pub(super) fn new_failure(&self) -> Option<(GuestFailure, String)> {
        let mut shown = self.0.shown.borrow_mut();
        let failure = shown.failure.clone().filter(|_| !shown.is_reported);
        shown.is_reported |= failure.is_some();
        failure
    }

    /// What the level's kernel last said of CPU time that it did not get.
    pub(super) fn stall(&self) -> Option<String> {
        self.0.shown.borrow().stall.clone()
    }

    /// The last line that says something.
    pub(super) fn last_line(&self) -> Option<String> {
        self.0.shown.borrow().lines.back().cloned()
    }

    /// The last lines.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.0.shown.borrow().lines.iter().cloned().collect()
    }

    /// When the last line came.
    pub(super) fn last_line_at(&self) -> Option<Instant> {
        self.0.shown.borrow().last_line_at
    }
}
