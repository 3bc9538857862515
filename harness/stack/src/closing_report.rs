//! The last questions to every host, when a stack has ended or stopped: KVM's counters, kernel messages, and clocks.

use std::io::Write as _;
use std::rc::Rc;

use nestmatrix_model::LevelNumber;

use crate::host::ClosingReport;

use super::check_windows::PATIENCE;
use super::stack::Stack;

impl Stack<'_> {
    /// Notes that a level was not removed from the level around it, in what that has said at the end.
    pub(super) fn note_left(&self, level: LevelNumber, why: &str) {
        tracing::warn!("{level} is not cleaned up: {why}");
        let Some(around) = level.below() else { return };
        let file = self.request.records().file(&around.to_string(), "dmesg");
        let note = format!("nestmatrix: {level} is not cleaned up: {why}\n");
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
        if let Err(e) = opened.and_then(|mut file| file.write_all(note.as_bytes())) {
            tracing::warn!("the records of {around} can't be written: {e}");
        }
    }

    /// Reads the counters and kernel messages of every host that answers. For a stack that has not `stopped` they are evidence,
    /// so this waits even for a slow machine.
    pub(super) async fn read_closing_reports(&mut self, stopped: bool) {
        let records = self.request.records();
        for (level, host) in self.levels.hosts() {
            let limits = self.limits.run;
            let patience = if Rc::clone(&host).windows().is_some() { PATIENCE } else { 1 };
            let longest = if stopped { limits.diagnostics() * patience } else { limits.of(level).total };
            let mut cancellation = self.watch.cancellation();
            let read = tokio::select! {
                read = tokio::time::timeout(longest, host.closing_report()) => read,
                () = cancellation.requested() => return,
            };
            let ClosingReport { counters, messages, uptime } = match read {
                Ok(Ok(report)) => report,
                // If a host does not answer, the levels inside it can't be asked either.
                Ok(Err(e)) => {
                    self.ledger.measurements.no_counters_after = Some(e.to_string());
                    break;
                }
                Err(_) => {
                    let why = format!("{level} did not answer within {} s", longest.as_secs());
                    self.ledger.measurements.no_counters_after = Some(why);
                    break;
                }
            };
            let slowdown = uptime.and_then(|uptime| self.clocks.slowdown(level, uptime));
            self.ledger.level(level).clock_slowdown = slowdown;
            let before = self.ledger.measurements.counters_before.get(&level);
            let is_told = before.is_some_and(|before| !self.hides_exits(before));
            let of_guest = match is_told && self.hides_exits(&counters) {
                true => self.counters_from_guest(level, longest).await,
                false => None,
            };
            let mut counters = counters;
            counters.extend(of_guest.unwrap_or_default());
            let is_this_machine = self.request.plan.is_this_machine(level);
            let measured = &mut self.ledger.measurements;
            measured.machine_counters_unreadable |= is_this_machine && counters.is_empty();
            let before = measured.counters_before.get(&level);
            let both = serde_json::json!({"before": before, "after": &counters});
            let label = level.to_string();
            let written = std::fs::write(records.file(&label, "dmesg"), messages + "\n")
                .and_then(|()| std::fs::write(records.file(&label, "kvm.json"), both.to_string() + "\n"));
            if let Err(e) = written {
                tracing::warn!("the records of {level} can't be written: {e}");
            }
            measured.counters_after.insert(level, counters);
        }
    }
}
