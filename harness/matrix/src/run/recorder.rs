//! Keeps the record of a run in progress: each verdict is on disk before the listener hears of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use super::{Fate, Planned, Rerouted, RunError, RunEvent, RunListener, RunPlan, Setting};
use crate::records::{
    Begun, CellRecord, FORMAT, Machine, Outcome, Purpose, RunFolder, RunRecord, Tally, UndeliveredImage,
    build, now,
};
use crate::scenario::CellName;

/// A run's folder and what it holds so far.
pub(super) struct Recorder {
    listener: Rc<dyn RunListener>,
    results: PathBuf,
    folder: RunFolder,
    record: RunRecord,
    /// The cells that have a verdict.
    done: BTreeMap<CellName, CellRecord>,
    /// Every cell of the run, in order.
    cells: Vec<CellName>,
    /// The cells that are recorded as skipped.
    skipped: BTreeSet<CellName>,
    called: Instant,
    /// The beginning of the run, from which times are counted.
    began: Instant,
}

impl Recorder {
    /// Begins the record of a run, or resumes that of `setting.resumed`.
    pub(super) fn begin(
        plan: &RunPlan,
        setting: &mut Setting,
        listener: Rc<dyn RunListener>,
    ) -> Result<Self, RunError> {
        let called = Instant::now();
        let results = setting.results.clone();
        let build = build();
        let begun = match setting.resumed.take() {
            Some(resumed) => resumed.begin(&build, &setting.arguments),
            None => begin(plan, setting, called, &build),
        };
        let begun = begun.map_err(|source| RunError::Records { path: results.clone(), source })?;
        let Begun { folder, record, done, cells, began } = begun;
        let done = done.into_iter().map(|record| (record.cell.clone(), record)).collect();
        let skipped = BTreeSet::new();
        let recorder = Self { listener, results, folder, record, done, cells, skipped, called, began };
        recorder.write_run()?;
        Ok(recorder)
    }

    /// The run's folder.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The beginning of the run, from which times are counted.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Whether a cell has a verdict.
    pub(super) fn has(&self, cell: &CellName) -> bool {
        self.done.contains_key(cell)
    }

    /// Records the verdict of a cell.
    pub(super) fn take(&mut self, cell: CellRecord) -> Result<(), RunError> {
        self.record.verdicts.add(&cell);
        self.folder.append(&cell).map_err(|source| self.cannot_record(source))?;
        self.listener.event(&RunEvent::CellEnded { record: &cell });
        self.done.insert(cell.cell.clone(), cell);
        Ok(())
    }

    /// Records the cells that the plan skips, those that were not recorded as skipped before.
    pub(super) fn take_skipped(&mut self, plan: &RunPlan) -> Result<(), RunError> {
        for planned in &plan.cells {
            if let Planned { fate: Fate::Skipped(reasons), cell, must_run, .. } = planned
                && self.skipped.insert(cell.name.clone())
            {
                self.take(CellRecord::skipped(cell, reasons, *must_run))?;
            }
        }
        Ok(())
    }

    /// Records that an archive does not deliver an image.
    pub(super) fn take_undelivered(&mut self, image: UndeliveredImage, rerouted: Rerouted) {
        self.listener.event(&RunEvent::Undelivered { image: &image, rerouted });
        self.record.undelivered.retain(|before| before.recipe != image.recipe);
        self.record.undelivered.push(image);
    }

    /// Records which emulators run outermost levels.
    pub(super) fn take_emulators(&mut self, emulators: BTreeSet<String>) {
        self.record.emulators.extend(emulators);
        self.record.emulators.sort();
        self.record.emulators.dedup();
    }

    /// Ends the record.
    pub(super) fn end(mut self, is_cancelled: bool) -> Result<Outcome, RunError> {
        self.record.ended = Some(now());
        // A stack whose debug session ended before its boot has no verdict either.
        self.record.interrupted = is_cancelled || self.done.len() < self.cells.len();
        self.write_run()?;
        let records = self.cells.iter().filter_map(|cell| self.done.remove(cell)).collect();
        let folder = self.folder.path().to_owned();
        Ok(Outcome { folder, run: self.record, records, took: self.called.elapsed() })
    }

    fn write_run(&self) -> Result<(), RunError> {
        self.folder.write_run(&self.record).map_err(|source| self.cannot_record(source))
    }

    fn cannot_record(&self, source: std::io::Error) -> RunError {
        RunError::Records { path: self.results.clone(), source }
    }
}

/// Makes the folder of a new run.
fn begin(plan: &RunPlan, setting: &Setting, began: Instant, build: &str) -> std::io::Result<Begun> {
    let folder = match setting.purpose {
        Purpose::Matrix => RunFolder::create(&setting.results)?,
        Purpose::Repro | Purpose::Bisect | Purpose::Mutation | Purpose::CpuModels => {
            RunFolder::create_aside(&setting.results)?
        }
    };
    let cells: Vec<CellName> = plan.cells.iter().map(|planned| planned.cell.name.clone()).collect();
    folder.write_cells(&cells)?;
    let record = RunRecord {
        format: FORMAT,
        nestmatrix: env!("CARGO_PKG_VERSION").to_owned(),
        build: Some(build.to_owned()),
        run: folder.name(),
        purpose: setting.purpose,
        began: now(),
        ended: None,
        interrupted: false,
        arguments: setting.arguments.clone(),
        // An argument that is not text can't be recorded.
        working_folder: std::env::current_dir().ok().filter(|folder| folder.to_str().is_some()),
        machine: Machine::this(),
        emulators: Vec::new(),
        undelivered: Vec::new(),
        profile: plan.profile.as_ref().map(|profile| profile.name.clone()),
        shard: setting.part.as_ref().map(|part| part.shard),
        division: setting.part.as_ref().map(|part| part.division.clone()),
        cells: cells.len(),
        verdicts: Tally::default(),
        resumed: Vec::new(),
        merged: Vec::new(),
        conflicts: Vec::new(),
        missing_shards: Vec::new(),
        missing_cells: Vec::new(),
    };
    Ok(Begun { folder, record, done: Vec::new(), cells, began })
}
