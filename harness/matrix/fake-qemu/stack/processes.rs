//! What is known about the processes in a level.

use super::{Process, Stack};

impl Stack {
    /// What the agent of a level knows about a process; it forgets one that has ended.
    pub fn look(&self, level: u8, pid: i64) -> Option<Process> {
        self.change(level, |level| match level.processes.get(&pid)?.end {
            Some(_) => level.processes.remove(&pid),
            None => level.processes.get(&pid).cloned(),
        })
    }

    /// Whether a process runs in a level.
    pub fn runs(&self, level: u8, pid: i64) -> bool {
        let levels = self.levels();
        levels
            .get(&level)
            .and_then(|level| level.processes.get(&pid))
            .is_some_and(|process| process.end.is_none())
    }

    /// The CPU time of a process in a level, in hundredths of a second.
    pub fn cpu_ticks(&self, level: u8, pid: i64) -> u128 {
        let qemu = self.levels().get(&level).and_then(|level| level.processes.get(&pid)?.qemu);
        let busy = qemu.is_some_and(|qemu| self.script.busy.contains(&qemu));
        if busy { self.began.elapsed().as_millis() / 10 } else { 1 }
    }
}
