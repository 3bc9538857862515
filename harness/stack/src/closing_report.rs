//! What is done once a stack has come to its end or has stopped: its levels' last words are read, and everything ends.

use std::time::{Duration, Instant};

use crate::host::ClosingReport;

use super::boot::Stack;
use super::{Metal, Usage};

impl Stack<'_> {
    /// Reads the counters and kernel messages of every host that answers. Of a stack that has not `stopped` they are evidence, so
    /// that a slow machine is waited for.
    pub(super) async fn last_lines_of(&mut self, stopped: bool) {
        for (level, host) in self.hosts.clone() {
            let longest = if stopped { self.limits.diagnostics() } else { self.limits.of(level).total };
            let mut cancellation = self.watch.cancellation();
            let read = tokio::select! {
                read = tokio::time::timeout(longest, host.closing_report()) => read,
                () = cancellation.requested() => return,
            };
            let Ok(Ok(ClosingReport { counters, messages, uptime })) = read else {
                // Nothing inside a host that does not answer can be asked either.
                break;
            };
            let slowdown = uptime.and_then(|uptime| self.slowdown(level, uptime));
            self.saw(level).clock_slowdown = slowdown;
            let unreadable =
                level.below().is_none() && self.plan.metal == Metal::Native && counters.is_empty();
            self.gathered.l0_counters_unreadable |= unreadable;
            let before = self.gathered.counters_before.get(&level);
            let both = serde_json::json!({"before": before, "after": &counters});
            let written =
                std::fs::write(self.record(&level.to_string(), "dmesg"), messages + "\n").and_then(|()| {
                    std::fs::write(self.record(&level.to_string(), "kvm.json"), both.to_string() + "\n")
                });
            if let Err(e) = written {
                tracing::warn!("the records of {level} can't be written: {e}");
            }
            self.gathered.counters_after.insert(level, counters);
        }
    }

    /// What the emulator of the outermost level has used so far.
    pub(super) async fn usage(&self) -> Usage {
        let outermost = self.plan.levels.first().map(|plan| plan.level);
        let Some(live) = self.live.iter().find(|live| Some(live.level) == outermost) else {
            return Usage::default();
        };
        Usage {
            cpu_seconds: live.qemu.cpu_time().await.unwrap_or_default().as_secs_f64(),
            emulator_seconds: live.qemu.lived().unwrap_or_default().as_secs_f64(),
            waited_seconds: live
                .qemu
                .run_delay()
                .map(|waits| waits.so_far())
                .unwrap_or_default()
                .as_secs_f64(),
            peak_memory_mib: live.qemu.peak_memory_mib().unwrap_or_default(),
        }
    }

    /// Ends every QEMU on this machine: those of the outermost level that is booted; all others run inside them.
    pub(super) async fn end(&mut self) -> Result<(), String> {
        let outermost = self.plan.levels.first().map(|plan| plan.level);
        let here = || self.live.iter().filter(|live| Some(live.level) == outermost);
        for live in here() {
            let _ = live.qemu.kill().await;
        }
        let deadline = Instant::now() + self.limits.diagnostics();
        for live in here() {
            while matches!(live.qemu.ended().await, Ok(None)) {
                if Instant::now() > deadline {
                    return Err(format!("the emulator of {} lingers after it was killed", live.level));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        self.live.clear();
        Ok(())
    }
}
