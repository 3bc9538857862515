//! Makes the kernel of a level panic. The panic must be seen, and then the dump, if the level has a crash kernel.

use std::rc::Rc;

use nestmatrix_model::LevelNumber;

use super::dump::{AfterPanic, DumpReader, Unshown};
use crate::console_view::ConsoleView;
use crate::random::random_hex;
use crate::stack::Stack;
use crate::watch::{Abort, Watch};
use crate::{Blame, Stop, Symptom};

/// The script that makes a kernel panic, after it has ended itself: otherwise no answer would come. With `panic` at 0, the kernel
/// does not reset its machine by itself, so that only the harness does.
const CRASH: &str = "echo 1 >/proc/sys/kernel/sysrq && echo 0 >/proc/sys/kernel/panic && sync || exit 1
(sleep 1; echo c >/proc/sysrq-trigger) </dev/null >/dev/null 2>&1 &";

impl Stack<'_> {
    /// Makes the kernel of `level` panic, and waits until its console or its QEMU shows that; returns what was seen. The level does
    /// not continue. A level with a crash kernel must then show the dump.
    pub(super) async fn crash(&mut self, level: LevelNumber) -> Result<String, Stop> {
        let has_crash_kernel = self.request.level(level).is_some_and(|plan| plan.settings.kdump.is_some());
        if !has_crash_kernel {
            return self.panic(level, CRASH).await;
        }
        let nonce = random_hex::<16>().map_err(|e| self.harness(format!("failed to get a nonce: {e}")))?;
        let reader = Rc::new(DumpReader::default());
        let console = self.watch.console(level).cloned();
        let console = console.ok_or_else(|| self.harness(format!("{level} is not watched")))?;
        // From now on: the crash kernel may be up before the panic has been explained.
        console.listen(Some(Rc::<DumpReader>::clone(&reader)));
        let marked = format!("echo nestmatrix-dump-nonce={nonce} >/dev/kmsg && {CRASH}");
        let seen = self.panic_and_wait(level, &marked, &console, &reader).await;
        console.listen(None);
        let (seen, after) = seen?;
        if let AfterPanic::ShutDown(reason) = &after {
            let stop = self.explain(Abort::ShutDown { level, reason: reason.clone() }, false).await;
            // The metal may have reset it, or another process has ended its QEMU.
            if stop.blame == Blame::Harness {
                return Err(stop);
            }
        }
        let kernel = self.ledger.known_of(level).and_then(|known| known.kernel.as_deref());
        match after.judge(kernel.unwrap_or_default(), &nonce) {
            Ok(shown) => Ok(format!("{seen}; {shown}")),
            Err(Unshown::ByLevel(why)) => {
                let symptom = Symptom::StandsStill { level, seen: format!("{seen}; {why}") };
                Err(Stop::stack(self.stage, symptom))
            }
            Err(Unshown::Unknown(why)) => Err(self.harness(format!("{seen}; {why}")).about(level)),
        }
    }

    /// Runs `script`, which makes the kernel of `level` panic, and waits until it is known what came after that. Returns both.
    async fn panic_and_wait(
        &mut self,
        level: LevelNumber,
        script: &str,
        console: &ConsoleView,
        reader: &DumpReader,
    ) -> Result<(String, AfterPanic), Stop> {
        let seen = self.panic(level, script).await?;
        // It is not the reason if nothing comes after it.
        console.forget_failure();
        let after = self.until(level, |watch: &Watch| {
            let shut_down = || watch.shut_down(level).map(|reason| AfterPanic::ShutDown(reason.to_owned()));
            reader.after_panic().or_else(shut_down)
        });
        Ok((seen, after.await?))
    }

    /// Runs `script`, which makes the kernel of `level` panic, and waits until that is seen.
    async fn panic(&mut self, level: LevelNumber, script: &str) -> Result<String, Stop> {
        self.watch.expect_crash(level);
        let begun = self.run(level, script).await?;
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
