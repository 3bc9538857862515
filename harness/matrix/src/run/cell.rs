//! Carries out one cell: its stack is booted, from its beginning or from a snapshot, judged, and retried where that may help.

use nestmatrix_model::{LevelNumber, Stage, StageKind, SymptomKind};
use nestmatrix_stack::{HostReboot, Limits, Observation, Snapshot, Stop, Usage};

use super::attempts::set_aside;
use super::execute::Run;
use super::judged_cell::CountedAttempt;
use super::ready_cell::ReadyCell;
use super::schedule::Dispatch;
use super::snapshots::SnapshotNews;
use super::{RunError, RunEvent, Verdict};
use crate::records::{Attempt, CellRecord, CpuModels, Restored, RunFolder, VerdictWord, write_cpu_models};

/// The factor of the time limits of a second attempt, if the first one ran out of time.
const SLOWER: f64 = 2.0;

/// The result of a cell.
pub(super) struct Done {
    /// Its record; none if it was interrupted.
    pub(super) record: Option<Box<CellRecord>>,
    /// What its last attempt used.
    pub(super) usage: Usage,
}

impl Run {
    /// Boots and judges one cell.
    pub(super) async fn cell(&self, ready: &ReadyCell, dispatch: &Dispatch) -> Result<Done, RunError> {
        let mut done = Done { record: None, usage: Usage::default() };
        let cell = &ready.cell;
        self.listener.event(&RunEvent::CellBegan { cell: &cell.name });
        self.listener.event(&RunEvent::StageBegan { cell: &cell.name, stage: Stage::Provision });
        let cannot_record = |source| RunError::Records { path: self.folder.clone(), source };
        let (folder, relative) = RunFolder::cell_in(&self.folder, &cell.name).map_err(cannot_record)?;
        let mut attempts: Vec<Attempt> = Vec::new();
        let mut counted: Vec<CountedAttempt> = Vec::new();
        let repeat = if self.setting.inspector.is_some() { 1 } else { self.setting.repeat.max(1) };
        let mut timeout_scale = self.setting.timeout_scale;
        let mut is_retry = false;
        loop {
            let start = self.began.elapsed().as_secs_f64();
            let (snapshot, cold) = self.snapshot_for(ready, dispatch, is_retry).await;
            let mut booted = None;
            // Only the first attempt saves snapshots.
            let saves = if attempts.is_empty() { &dispatch.saves[..] } else { &[] };
            let mut is_rebooted = false;
            let mut boot = async |rebooted: Option<HostReboot>| {
                is_rebooted = rebooted.is_some();
                match self.prepare(ready, snapshot.as_ref(), !saves.is_empty(), &folder).await {
                    Ok(prepared) => {
                        booted = Some(self.began.elapsed().as_secs_f64());
                        let limits = Limits::new(ready.metal, timeout_scale);
                        let prepared = prepared.after(rebooted);
                        self.boot(ready, prepared, limits, snapshot.as_ref(), saves).await
                    }
                    // The snapshot may be the reason, so the next attempt does without it.
                    Err(stop) => {
                        let restored = snapshot.as_ref().map(|_| false);
                        Observation { restored, ..Observation::stopped(stop) }
                    }
                }
            };
            let (observation, host_changes) = match ready.changes_host {
                true => self.boot_and_restore_host(ready, boot).await,
                false => (boot(None).await, Vec::new()),
            };
            ready.folders.remove();
            if observation.stop.as_ref().is_some_and(Stop::is_interrupted) {
                return Ok(done);
            }
            let end = (self.began.elapsed() - observation.paused).as_secs_f64();
            if observation.stop.is_none() {
                // The needs of a stack that stopped early say nothing about others.
                done.usage = observation.usage;
            }
            if let Some(models) = &observation.cpu_models {
                let facts = observation.levels.get(&cell.innermost());
                let models = CpuModels {
                    cell: cell.name.clone(),
                    level: cell.innermost(),
                    qemu: facts.and_then(|facts| facts.qemu.clone()),
                    machine: facts.and_then(|facts| facts.machine.clone()),
                    models: models.clone(),
                };
                write_cpu_models(&self.folder, &models).map_err(cannot_record)?;
            }
            let (verdict, known_flaky) = ready.judge(&observation);
            attempts.push(Attempt {
                start,
                end,
                booted,
                verdict: verdict.itself().word(),
                from: snapshot.as_ref().map(|snapshot| snapshot.description().key.clone()),
                symptom: verdict.symptom(&cell.expectation),
                timeout_scale: Some(timeout_scale),
                usage: observation.usage,
            });
            // Another attempt would reboot the machine again, and no process would count how often.
            let is_last = is_rebooted || self.host_problem.borrow().is_some();
            // In a debug session the user has inspected the first attempt, and that is what they asked for.
            let may_be_retried = !is_retry && !is_last && self.setting.inspector.is_none();
            let restore = Restore::of(observation.restored, ready.copied_mib().is_none());
            if may_be_retried && needs_retry(cell.innermost(), !cell.faults.is_empty(), &verdict, restore) {
                if restore.casts_doubt() {
                    self.discard(snapshot.as_ref());
                }
                set_aside(&folder, attempts.len()).map_err(cannot_record)?;
                if verdict.stop().is_some_and(Stop::is_timeout) {
                    timeout_scale *= SLOWER;
                }
                is_retry = true;
                continue;
            }
            let number = attempts.len();
            counted.push(CountedAttempt {
                known_flaky: known_flaky.cloned(),
                verdict,
                observation,
                host_changes,
                restored: snapshot.as_ref().map(Restored::from),
                cold,
                number,
            });
            if counted.len() < repeat && !is_last {
                set_aside(&folder, number).map_err(cannot_record)?;
                (timeout_scale, is_retry) = (self.setting.timeout_scale, false);
                continue;
            }
            let record = ready.record(counted, attempts, (&folder, relative)).map_err(cannot_record)?;
            // The script is not evidence, and a full disk is reported when the verdict is written.
            if let Some(record) = &record
                && let Err(e) = self.write_script(ready, record, &folder)
            {
                tracing::warn!("failed to write the script of {}: {e}", cell.name);
            }
            done.record = record.map(Box::new);
            return Ok(done);
        }
    }

    /// The snapshot that an attempt is restored from, or why it boots from its beginning.
    async fn snapshot_for(
        &self,
        ready: &ReadyCell,
        dispatch: &Dispatch,
        is_retry: bool,
    ) -> (Option<Snapshot>, Option<String>) {
        match &dispatch.restores {
            _ if is_retry => {
                let again = "retried from the beginning";
                (None, self.setting.snapshots.is_some().then(|| again.to_owned()))
            }
            None => (None, self.why_not_restored(ready).await),
            Some(key) => match ready.snapshots.iter().find(|link| link.key == *key) {
                Some(link) => match self.no_room_to_restore(ready) {
                    None => self.look_up(link).await,
                    why => (None, why),
                },
                None => (None, None),
            },
        }
    }

    /// Removes a snapshot from which a stack could not be restored: other cells would fail as well.
    fn discard(&self, snapshot: Option<&Snapshot>) {
        if let (Some(snapshot), Some(cache)) = (snapshot, &self.setting.snapshots) {
            self.report(SnapshotNews::Lost(snapshot.description().key.clone()));
            let _ = cache.discard(snapshot);
        }
    }
}

/// Whether an attempt was restored from a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restore {
    /// It booted from its beginning.
    No,
    /// The snapshot could not be restored.
    Failed,
    /// It was. An emulator that copies the memory did not try the snapshot before it counted.
    Done { was_tried: bool },
}

impl Restore {
    fn of(restored: Option<bool>, was_tried: bool) -> Self {
        match restored {
            None => Self::No,
            Some(false) => Self::Failed,
            Some(true) => Self::Done { was_tried },
        }
    }

    /// Whether what does not work may be the snapshot's fault.
    fn casts_doubt(self) -> bool {
        matches!(self, Self::Failed | Self::Done { was_tried: false })
    }
}

/// Whether a cell is retried: if the harness or its machine failed before the innermost level ran, if an erratum of the emulated
/// metal stopped it, which does not stop every boot, or if a stack that should work ran out of time, which may be this machine's
/// fault, or did not work and came from a snapshot that was not tried before it counted. Everything else that the innermost level does counts. What stops a stack with an injected fault is taken for the fault's
/// work, unless it is charged to an erratum.
fn needs_retry(innermost: LevelNumber, has_faults: bool, verdict: &Verdict, restore: Restore) -> bool {
    let Some(stop) = verdict.stop() else { return false };
    match verdict.word() {
        VerdictWord::Error => {
            let innermost = Stage::Level(innermost, StageKind::Launch);
            // The next attempt would have the same command line.
            let for_good = stop.symptom.kind() == SymptomKind::CommandLineRejected;
            let early = !for_good && stop.stage > Stage::Provision && stop.stage <= innermost;
            let is_erratum = stop.symptom.charged_to().is_some();
            restore == Restore::Failed || is_erratum || (!has_faults && early)
        }
        VerdictWord::Fail => !has_faults && (stop.is_timeout() || restore.casts_doubt()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use nestmatrix_stack::host::Diagnostics;
    use nestmatrix_stack::{Blame, Symptom};
    use rstest::rstest;

    use super::*;

    fn stopped_by_qemu(erratum: Option<&str>) -> Symptom {
        Symptom::StoppedByQemu {
            level: LevelNumber::ALL[2],
            said: "internal-error".into(),
            diagnostics: Diagnostics::default(),
            erratum: erratum.map(str::to_owned),
        }
    }

    fn harness(erratum: Option<&str>) -> Symptom {
        Symptom::Harness { level: None, why: "it broke".into(), erratum: erratum.map(str::to_owned) }
    }

    #[rstest]
    #[case::erratum("l2-boot", stopped_by_qemu(Some("tcg-no-nrips")), true)]
    #[case::erratum_of_a_silent_level("l2-boot", harness(Some("tcg-no-nrips")), true)]
    #[case::late("l2-boot", harness(None), false)]
    #[case::early("l1-boot", harness(None), true)]
    #[case::launch_of_the_innermost("l2-launch", harness(None), true)]
    fn an_error_is_retried_if_it_says_nothing_of_the_innermost_level(
        #[case] stage: &str,
        #[case] symptom: Symptom,
        #[case] expected: bool,
    ) {
        let stop = Stop { stage: stage.parse().unwrap(), symptom, blame: Blame::Harness };
        let innermost = LevelNumber::ALL[2];
        let is_erratum = stop.symptom.charged_to().is_some();
        assert_eq!(needs_retry(innermost, false, &Verdict::Error(stop.clone()), Restore::No), expected);
        assert_eq!(
            needs_retry(innermost, true, &Verdict::Error(stop), Restore::No),
            is_erratum,
            "with a fault"
        );
    }

    #[rstest]
    #[case::of_a_cold_stack(Restore::No, false)]
    #[case::of_a_restored_one(Restore::Done { was_tried: true }, false)]
    #[case::from_a_snapshot_that_was_not_tried(Restore::Done { was_tried: false }, true)]
    fn what_the_innermost_level_does_counts_unless_its_snapshot_may_be_at_fault(
        #[case] restore: Restore,
        #[case] expected: bool,
    ) {
        let stop =
            Stop { stage: "l2-boot".parse().unwrap(), symptom: stopped_by_qemu(None), blame: Blame::Stack };
        let innermost = LevelNumber::ALL[2];
        assert_eq!(needs_retry(innermost, false, &Verdict::Fail(stop.clone()), restore), expected);
        assert!(!needs_retry(innermost, true, &Verdict::Fail(stop), restore), "a fault may be the cause");
    }
}
