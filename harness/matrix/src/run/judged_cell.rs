//! The result of a cell after all its attempts, and its record.

use std::io;
use std::path::Path;
use std::time::Duration;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_stack::{Observation, Stop, Symptom, Usage};
use tokio::task::JoinError;

use super::Verdict;
use super::attempts::bring_back;
use super::cell::Done;
use super::execute::Run;
use super::panic::described;
use super::ready_cell::{ReadyCell, ReadyLevel};
use super::schedule::Dispatch;
use crate::contained::RelativeFolder;
use crate::disposable_host::HostChange;
use crate::records::{
    Attempt, CellRecord, DiskRecord, ImageRecord, LevelRecord, OtherQemuRecord, Restored, RunFolder,
    VerdictWord,
};
use crate::scenario::{ImageChoice, KnownFlaky};

/// An attempt that counts: the last attempt of one repetition of a cell.
pub(super) struct CountedAttempt {
    pub(super) verdict: Verdict,
    pub(super) known_flaky: Option<KnownFlaky>,
    pub(super) observation: Observation,
    /// What it changed on this machine.
    pub(super) host_changes: Vec<HostChange>,
    pub(super) restored: Option<Restored>,
    /// Why it was not restored from a snapshot.
    pub(super) cold: Option<String>,
    /// Its number among all attempts, from 1.
    pub(super) number: usize,
}

impl ReadyCell {
    /// The verdict of one attempt, and what its scenario knows about the cell's flakiness there.
    pub(super) fn judge(&self, observation: &Observation) -> (Verdict, Option<&KnownFlaky>) {
        let cell = &self.cell;
        let architecture = ArchInfo::of(cell.architecture);
        let known_flaky = self.known_flaky(observation);
        let verdict = Verdict::judge(&cell.expectation, observation, cell.innermost(), architecture)
            .by_versions(&cell.expectation, |since| self.has_change(since, observation))
            .or_flaky(known_flaky, &observation.stages);
        (verdict, known_flaky)
    }

    /// The record of the cell after all its attempts, whose files are in `folder`; none if no attempt counts.
    pub(super) fn record(
        &self,
        mut counted: Vec<CountedAttempt>,
        attempts: Vec<Attempt>,
        (folder, relative): (&Path, RelativeFolder),
    ) -> io::Result<Option<CellRecord>> {
        let cell = &self.cell;
        let verdicts: Vec<Verdict> = counted.iter().map(|attempt| attempt.verdict.clone()).collect();
        let Some((word, best)) = Verdict::together(&verdicts) else { return Ok(None) };
        let CountedAttempt { verdict, known_flaky, observation, host_changes, restored, cold, number } =
            counted.swap_remove(best);
        let last = attempts.len();
        let described_attempt = (number < last).then_some(number);
        if described_attempt.is_some() {
            bring_back(folder, number, last)?;
        }
        let as_described = match word {
            VerdictWord::Flaky => verdicts.iter().all(Verdict::is_as_described),
            _ => verdict.is_as_described(),
        };
        // A pass is never recorded without its evidence.
        let evidence = verdict.evidence().map(serde_json::to_value).transpose()?;
        // A cell that is skipped while it boots also stopped somewhere.
        let stop = verdict.stop().or(observation.stop.as_ref().filter(|_| word == VerdictWord::Skip));
        let skipped = match &verdict {
            Verdict::Skip(reasons) => reasons.clone(),
            _ => Vec::new(),
        };
        let blank = match &skipped[..] {
            [] => CellRecord::blank(cell, word),
            reasons => CellRecord::skipped(cell, reasons, self.must_run),
        };
        let symptom = match skipped.is_empty() {
            true => verdict.symptom(&cell.expectation),
            false => blank.symptom.clone(),
        };
        Ok(Some(CellRecord {
            metal: Some(self.metal),
            guest_of: self.guest_of.clone(),
            emulator: self.emulator_image().map(ImageRecord::from),
            installed_emulator: self.installed_emulator().cloned(),
            known_flaky,
            as_described,
            stage: stop.map(|stop| stop.stage),
            level: stop.and_then(Stop::level),
            symptom,
            symptom_data: stop.map(|stop| stop.symptom.clone()),
            levels: self.levels.iter().map(|level| level.record(&observation)).collect(),
            evidence,
            steps: observation.steps,
            stages: observation.stages,
            host_changes,
            restored,
            cold,
            attempts,
            described_attempt,
            folder: Some(relative),
            ..blank
        }))
    }
}

impl ReadyLevel {
    fn record(&self, observation: &Observation) -> LevelRecord {
        let Self { planned, image, uefi, swtpm, other_qemu, guest } = self;
        LevelRecord {
            level: planned.spec.level,
            required: planned.spec.system.to_string(),
            os: planned.choice.image.clone(),
            image: image.as_ref().map(ImageRecord::from),
            fidelity: planned.choice.fidelity,
            fidelity_reason: planned.choice.reason.clone(),
            disk: image.as_ref().and_then(DiskRecord::of),
            uefi: uefi.clone(),
            swtpm: swtpm.as_ref().map(ImageRecord::from),
            other_qemu: planned.other_qemu.as_ref().zip(other_qemu.as_ref()).map(|(planned, image)| {
                let ImageChoice { image: os, fidelity, reason } = planned.choice.clone();
                let qemu = image.qemu_version().map(|qemu| qemu.version.clone());
                OtherQemuRecord { os, image: image.into(), qemu, fidelity, fidelity_reason: reason }
            }),
            guest: guest.clone(),
            seen: observation.levels.get(&planned.spec.level).cloned().unwrap_or_default(),
        }
    }
}

impl Run {
    /// The result of a cell whose task panicked. Its stack was dropped with the task.
    pub(super) fn panicked(
        &self,
        ready: &ReadyCell,
        dispatch: &Dispatch,
        began: Duration,
        error: JoinError,
    ) -> Done {
        let cell = &ready.cell;
        let symptom = match error.try_into_panic() {
            Ok(payload) => described(&*payload),
            Err(e) => format!("the harness gave up the cell's task: {e}"),
        };
        ready.folders.remove();
        let attempt = Attempt {
            start: began.as_secs_f64(),
            end: self.began.elapsed().as_secs_f64(),
            booted: None,
            verdict: VerdictWord::Error,
            from: dispatch.restores.clone(),
            symptom: Some(symptom.clone()),
            timeout_scale: Some(self.setting.timeout_scale),
            usage: Usage::default(),
        };
        let record = CellRecord {
            metal: Some(ready.metal),
            guest_of: ready.guest_of.clone(),
            symptom_data: Some(Symptom::Harness { level: None, why: symptom.clone(), erratum: None }),
            symptom: Some(symptom),
            attempts: vec![attempt],
            folder: RunFolder::cell_in(&self.folder, &cell.name).ok().map(|(_, folder)| folder),
            ..CellRecord::blank(cell, VerdictWord::Error)
        };
        Done { record: Some(Box::new(record)), usage: Usage::default() }
    }
}
