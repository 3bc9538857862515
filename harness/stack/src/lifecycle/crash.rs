//! Makes the kernel of a level panic. The panic must be seen.

use nestmatrix_model::LevelNumber;

use crate::Stop;
use crate::stack::Stack;
use crate::watch::{Abort, Watch};

/// The script that makes a kernel panic, after it has ended itself: otherwise no answer would come. With `panic` at 0, the kernel
/// does not reset its machine by itself, so that only the harness does.
const CRASH: &str = "echo 1 >/proc/sys/kernel/sysrq && echo 0 >/proc/sys/kernel/panic && sync || exit 1
(sleep 1; echo c >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &";

impl Stack<'_> {
    /// Makes the kernel of `level` panic, and waits until its console or its QEMU shows that; returns what was seen. The level does
    /// not continue.
    pub(super) async fn crash(&mut self, level: LevelNumber) -> Result<String, Stop> {
        self.watch.expect_crash(level);
        let begun = self.run(level, CRASH).await?;
        if begun.status != Some(0) {
            let said = String::from_utf8_lossy(&begun.stderr).trim().to_owned();
            return Err(self.harness(format!("{level} can't be made to panic: {said:?}")).about(level));
        }
        let ended = |watch: &Watch| {
            let shut_down = || watch.shut_down(level).map(str::to_owned);
            watch.crash(level).map(Ok).or_else(|| shut_down().map(Err))
        };
        let seen = self.until(level, ended).await?;
        // The words of the kernel and the event of QEMU come on different channels.
        if let Some(abort) = self.watch.settle().await {
            return Err(self.explain(abort, false).await);
        }
        match (self.watch.crash(level), seen) {
            (Some(seen), _) | (None, Ok(seen)) => Ok(format!("{level} has crashed: {seen}")),
            (None, Err(reason)) => Err(self.explain(Abort::ShutDown { level, reason }, false).await),
        }
    }
}
