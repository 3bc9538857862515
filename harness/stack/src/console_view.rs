//! The output of a level's console so far. The console's reader writes it and the watch reads it. There is no queue between
//! them that a guest could fill by printing faster than it is read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use nestmatrix_vmm::guest::{GuestFailure, GuestSymptom, SharedAnswers, kernel_message, symptom_in};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::lifecycle::is_complaint;
use super::report::ReportReader;

/// Lines of a console that are kept.
const KEPT_LINES: usize = 20;
/// Complaints of a kernel that are kept.
const KEPT_COMPLAINTS: usize = 100;

/// Reads the lines of a console, besides the harness itself.
pub trait ConsoleListener: std::fmt::Debug {
    /// Takes in the next line.
    fn line(&self, line: &str);
    /// Whether the level has said all that it has to say, and may shut down.
    fn is_complete(&self) -> bool;
}

/// The output of one level's console. Cheap to clone; all clones are the same console.
#[derive(Debug, Clone)]
pub(super) struct ConsoleView(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    shown: RefCell<Shown>,
    answers: SharedAnswers,
    /// The text that the user's guest prints when it works, if the boot waits for it.
    awaited: RefCell<Option<String>>,
    /// Reads every line, too.
    listener: RefCell<Option<Rc<dyn ConsoleListener>>>,
    /// Notified after every line, for the watch of the stack.
    changed: Rc<Notify>,
}

#[derive(Debug, Default)]
struct Shown {
    lines: VecDeque<String>,
    report: ReportReader,
    /// Whether the awaited text has come after the report.
    is_ready: bool,
    /// How the level failed, in its kernel's words. The first failure is the cause; the others are consequences.
    failure: Option<(GuestFailure, String)>,
    /// Whether the failure was reported already.
    is_reported: bool,
    /// Whether there was a failure, though it may be forgotten.
    has_failed: bool,
    stall: Option<String>,
    /// What its kernel has complained about.
    complaints: Vec<String>,
    last_line_at: Option<Instant>,
}

impl ConsoleView {
    /// The view of a console without output. It notifies `changed` after every line.
    pub(super) fn new(changed: Rc<Notify>) -> Self {
        Self(Rc::new(Inner {
            shown: RefCell::default(),
            answers: SharedAnswers::default(),
            awaited: RefCell::default(),
            listener: RefCell::default(),
            changed,
        }))
    }

    /// Takes in the next line.
    pub(super) fn line(&self, line: String) {
        self.0.answers.line(&line);
        if let Some(listener) = &*self.0.listener.borrow() {
            listener.line(&line);
        }
        let mut shown = self.0.shown.borrow_mut();
        shown.last_line_at = Some(Instant::now());
        shown.is_ready |= self.is_awaited(&shown, &line);
        shown.report.line(&line);
        match symptom_in(&line) {
            Some(GuestSymptom::Fatal(failure, said)) if shown.failure.is_none() => {
                shown.failure = Some((failure, said));
            }
            // The message itself can't be read, or this would be a consequence of it.
            Some(GuestSymptom::Panicked(said)) if !shown.has_failed => {
                shown.failure = Some((GuestFailure::KernelPanic, said));
            }
            Some(GuestSymptom::Stall(said)) => shown.stall = Some(said),
            Some(GuestSymptom::Fatal(..) | GuestSymptom::Panicked(_)) | None => {}
        }
        shown.has_failed |= shown.failure.is_some();
        if is_complaint(&line) && shown.complaints.len() < KEPT_COMPLAINTS {
            shown.complaints.push(kernel_message(&line).to_owned());
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

    /// Takes in what has come so far of the next line. A prompt is not ended.
    pub(super) fn unfinished(&self, text: &str) {
        let mut shown = self.0.shown.borrow_mut();
        let is_ready = self.is_awaited(&shown, text);
        if is_ready && !std::mem::replace(&mut shown.is_ready, true) {
            self.0.changed.notify_one();
        }
    }

    /// Whether a text is the awaited one. The report comes before the guest.
    fn is_awaited(&self, shown: &Shown, text: &str) -> bool {
        let awaited = self.0.awaited.borrow();
        // What the init of the harness says is not the guest's.
        let of_harness = text.starts_with("nestmatrix") || text.contains("/.nestmatrix/");
        let is_awaited = awaited.as_ref().is_some_and(|awaited| text.contains(awaited));
        shown.report.complete().is_some() && is_awaited && !of_harness
    }

    /// From now on, `text` is awaited after the report.
    pub(super) fn await_text(&self, text: &str) {
        self.0.awaited.replace(Some(text.to_owned()));
    }

    /// Whether the awaited text has come, if one is awaited.
    pub(super) fn is_ready(&self) -> bool {
        self.0.awaited.borrow().is_none() || self.0.shown.borrow().is_ready
    }

    /// The level boots again: what it has shown so far was its earlier life.
    pub(super) fn begin_again(&self) {
        self.0.answers.clear();
        *self.0.shown.borrow_mut() = Shown::default();
    }

    /// The output of the shell on it.
    pub(super) fn answers(&self) -> &SharedAnswers {
        &self.0.answers
    }

    /// From now on, `listener` reads every line, or nothing does.
    pub(super) fn listen(&self, listener: Option<Rc<dyn ConsoleListener>>) {
        self.0.listener.replace(listener);
    }

    /// Whether the level has reported and its guest works, or has said all that a listener waits for.
    pub(super) fn is_complete(&self) -> bool {
        let heard_all = self.0.listener.borrow().as_ref().is_some_and(|listener| listener.is_complete());
        heard_all || self.report(|report| report.complete().is_some()) && self.is_ready()
    }

    /// The level's report as far as it is known.
    pub(super) fn report<T>(&self, known: impl FnOnce(&ReportReader) -> T) -> T {
        known(&self.0.shown.borrow().report)
    }

    /// How the level failed, if its kernel reports that.
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

    /// The failure so far was meant to happen: it explains nothing that comes later.
    pub(super) fn forget_failure(&self) {
        let mut shown = self.0.shown.borrow_mut();
        (shown.failure, shown.is_reported) = (None, false);
    }

    /// The last message of the level's kernel about CPU time that it did not get.
    pub(super) fn stall(&self) -> Option<String> {
        self.0.shown.borrow().stall.clone()
    }

    /// What the level's kernel has complained about.
    pub(super) fn complaints(&self) -> Vec<String> {
        self.0.shown.borrow().complaints.clone()
    }

    /// The last line that is not empty.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> ConsoleView {
        let view = ConsoleView::new(Rc::default());
        view.await_text("login:");
        view
    }

    fn report(view: &ConsoleView) {
        let lines = ["nestmatrix-report-begin", "nonce=1", "nestmatrix-report-end"];
        lines.into_iter().for_each(|line| view.line(line.to_owned()));
    }

    #[test]
    fn a_prompt_counts_before_its_line_ends_and_only_after_the_report() {
        let view = view();
        view.line("login: is on the kernel's command line".to_owned());
        view.unfinished("login: ");
        assert!(!view.is_ready());
        report(&view);
        assert!(!view.is_ready() && !view.is_complete());
        view.unfinished("log");
        assert!(!view.is_ready());
        view.unfinished("login: ");
        assert!(view.is_ready() && view.is_complete());
    }

    #[test]
    fn a_panic_is_noticed_although_its_message_is_mixed_with_other_output() {
        let view = view();
        view.line(
            "mou[    n0.47t:97 n58]o Ker nel p/panicro - not sycncin/g: Attempted to kill init!".to_owned(),
        );
        assert_eq!(view.failure(), None);
        view.line("[    0.483124]  panic+0x118/0x2f4".to_owned());
        assert_eq!(view.new_failure(), Some((GuestFailure::KernelPanic, "panic+0x118/0x2f4".to_owned())));
    }

    #[test]
    fn the_stack_of_a_panic_that_was_meant_to_happen_is_no_other_one() {
        let view = view();
        view.line("[   12.0] Kernel panic - not syncing: sysrq triggered crash".to_owned());
        view.forget_failure();
        view.line("[   12.1]  panic+0x118/0x2f4".to_owned());
        assert_eq!(view.failure(), None);
        view.line("[    1.0] Kernel panic - not syncing: System is deadlocked on memory".to_owned());
        assert!(view.failure().is_some());
    }

    #[test]
    fn what_was_said_before_a_reset_does_not_count() {
        let view = view();
        report(&view);
        view.line("my-guest login: root".to_owned());
        assert!(view.is_ready());
        view.begin_again();
        report(&view);
        assert!(!view.is_ready());
    }
}
