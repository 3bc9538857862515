//! Resuming an interrupted run: cells that have a verdict keep it, the others are booted, in the same folder.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::build::build;
use super::folder::CELLS;
use super::moment::now;
use super::{CellRecord, Machine, PastRun, PastRunError, RunFolder, RunRecord, Tally};
use crate::scenario::{Cell, CellName};

/// One time that a run was resumed: an element of `resumed` in `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumption {
    /// When, UTC, RFC 3339.
    pub at: String,
    /// The version of nestmatrix that resumed it.
    pub nestmatrix: String,
    /// Identifies its program by the SHA-256 of the file.
    #[serde(default)]
    pub build: Option<String>,
    /// The machine on which it was resumed.
    pub machine: Machine,
    /// How many cells had a verdict then.
    pub verdicts: usize,
    /// The command line's arguments; none in runs of earlier versions.
    #[serde(default)]
    pub arguments: Vec<String>,
}

impl Resumption {
    fn now(build: &str, verdicts: usize, arguments: &[String]) -> Self {
        Self {
            at: now(),
            nestmatrix: env!("CARGO_PKG_VERSION").to_owned(),
            build: Some(build.to_owned()),
            machine: Machine::this(),
            verdicts,
            arguments: arguments.to_vec(),
        }
    }
}

/// Why a run can't be resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// Another process has it open.
    #[error("{} is still in progress, or is being resumed by another process", .0.display())]
    Busy(PathBuf),
    /// It was merged.
    #[error("{} was merged from other runs: resume those and merge them again", .0.display())]
    Merged(PathBuf),
    /// Its list of planned cells is missing.
    #[error("{} has no {CELLS}, so the cells that it has no verdict of are unknown", .0.display())]
    NoCells(PathBuf),
    /// It can't be read.
    #[error(transparent)]
    Unreadable(#[from] PastRunError),
    /// It can't be opened or locked.
    #[error("failed to open the verdicts of {}: {source}", .path.display())]
    Closed {
        /// Its folder.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// An earlier run, locked: while it is open, no other process can resume it.
#[derive(Debug)]
pub struct CutOff {
    folder: RunFolder,
    past: PastRun,
    planned: Vec<CellName>,
}

impl CutOff {
    /// Opens the run whose folder this is. Nothing in it is changed yet.
    ///
    /// # Errors
    /// It is still in progress, was merged, or can't be read.
    pub fn open(path: &Path) -> Result<Self, ResumeError> {
        let opened = RunFolder::open(path);
        let opened = opened.map_err(|source| ResumeError::Closed { path: path.to_owned(), source })?;
        // Locked before it is read, so that it can't change afterwards.
        let folder = opened.ok_or_else(|| ResumeError::Busy(path.to_owned()))?;
        let mut past = PastRun::read(path)?;
        if !past.record.merged.is_empty() {
            return Err(ResumeError::Merged(path.to_owned()));
        }
        let planned = past.planned.take().ok_or_else(|| ResumeError::NoCells(path.to_owned()))?;
        Ok(Self { folder, past, planned })
    }

    /// The run as a whole.
    pub fn record(&self) -> &RunRecord {
        &self.past.record
    }

    /// Its records so far.
    pub fn past(&self) -> &PastRun {
        &self.past
    }

    /// Whether it finished.
    pub fn is_through(&self) -> bool {
        self.past.record.ended.is_some() && !self.past.record.interrupted
    }

    /// The cells that were planned, in order.
    pub fn planned(&self) -> &[CellName] {
        &self.planned
    }

    /// Records that the run is resumed for its mutants, though all of its own cells have a verdict.
    ///
    /// # Errors
    /// It can't be written.
    pub fn note(&mut self, arguments: &[String]) -> io::Result<()> {
        let resumption = Resumption::now(&build(), self.past.cells.len(), arguments);
        self.past.record.resumed.push(resumption);
        self.folder.write_run(&self.past.record)
    }

    /// Adds cells to the run, which this process began and whose first cells it has booted: no resumption is recorded. Otherwise as
    /// [`CutOff::go_on`].
    pub fn extend(self, now: Vec<Cell>) -> (Resumed, Vec<Cell>) {
        let (resumed, left) = self.go_on(now);
        (Resumed { is_extended: true, ..resumed }, left)
    }

    /// Resumes the run. `now` are the cells that the matrix has now; the second result are those of them that still have to be
    /// booted.
    pub fn go_on(self, now: Vec<Cell>) -> (Resumed, Vec<Cell>) {
        let have: BTreeSet<&CellName> = self.past.cells.iter().map(|record| &record.cell).collect();
        let planned: BTreeSet<&CellName> = self.planned.iter().collect();
        let names: BTreeSet<&CellName> = now.iter().map(|cell| &cell.name).collect();
        let new = names.difference(&planned).map(|cell| (*cell).clone()).collect();
        let gone: Vec<CellName> = self.planned.iter().filter(|cell| !names.contains(cell)).cloned().collect();
        // A cell that no longer exists keeps its verdict.
        let kept = gone.iter().filter(|cell| have.contains(cell)).cloned();
        let cells = now.iter().map(|cell| cell.name.clone()).chain(kept).collect();
        let left = now.iter().filter(|cell| !have.contains(&cell.name)).cloned().collect();
        let Self { folder, past, planned } = self;
        (Resumed { folder, past, planned, cells, new, gone, is_extended: false }, left)
    }
}

/// A run that is being resumed.
#[derive(Debug)]
pub struct Resumed {
    folder: RunFolder,
    past: PastRun,
    planned: Vec<CellName>,
    cells: Vec<CellName>,
    /// Cells that the matrix did not have when the run began.
    pub new: Vec<CellName>,
    /// Cells that the matrix no longer has; those that have a verdict keep it.
    pub gone: Vec<CellName>,
    /// Whether the process that began the run only adds cells to it.
    is_extended: bool,
}

impl Resumed {
    /// The run's folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A run's folder, and what the run has when cells begin to boot.
pub(crate) struct Begun {
    pub(crate) folder: RunFolder,
    pub(crate) record: RunRecord,
    /// The cells that have a verdict.
    pub(crate) done: Vec<CellRecord>,
    /// Every cell of the run, in order.
    pub(crate) cells: Vec<CellName>,
    /// The beginning of the run, from which times are counted.
    pub(crate) began: Instant,
}

impl Resumed {
    /// How many cells have a verdict.
    pub fn verdicts(&self) -> usize {
        self.past.cells.len()
    }

    /// How many cells it has.
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Removes what was half written when the run was interrupted, and records that it is resumed.
    pub(crate) fn begin(self, build: &str, arguments: &[String]) -> io::Result<Begun> {
        let Self { folder, past, planned, cells, is_extended, .. } = self;
        let PastRun { mut record, cells: done, complete, .. } = past;
        folder.cut_verdicts(complete)?;
        let have: BTreeSet<&CellName> = done.iter().map(|record| &record.cell).collect();
        for cell in planned.iter().chain(&cells).filter(|cell| !have.contains(cell)) {
            folder.clear(cell)?;
        }
        folder.write_cells(&cells)?;
        record.verdicts = Tally::default();
        done.iter().for_each(|cell| record.verdicts.add(cell));
        record.cells = cells.len();
        (record.ended, record.interrupted) = (None, false);
        if !is_extended {
            record.resumed.push(Resumption::now(build, done.len(), arguments));
        }
        let began = instant_of(&record.began);
        Ok(Begun { folder, record, done, cells, began })
    }
}

/// The instant of a time of day, by the wall clock; now if the time can't be parsed.
fn instant_of(time: &str) -> Instant {
    let since = || -> Option<Duration> {
        SystemTime::now().duration_since(humantime::parse_rfc3339(time).ok()?).ok()
    };
    since().and_then(|since| Instant::now().checked_sub(since)).unwrap_or_else(Instant::now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::records::VerdictWord;

    fn cell(name: &str, verdict: &str) -> CellRecord {
        let record = json!({
            "cell": name, "scenario": "s", "document": "d", "claims": [], "architecture": "amd", "tier": "supported",
            "expectation": {"outcome": "works"}, "verdict": verdict, "levels": [], "steps": [], "stages": [],
            "attempts": [],
        });
        serde_json::from_value(record).unwrap()
    }

    fn wanted(name: &str) -> Cell {
        let cell = json!({
            "name": name, "scenario": "s", "title": "", "document": "d", "claims": [], "tier": "supported",
            "architecture": "amd", "levels": [], "deny-stand-ins": null, "expectation": {"outcome": "works"},
            "steps": [], "faults": [],
        });
        serde_json::from_value(cell).unwrap()
    }

    fn names(names: &[&str]) -> Vec<CellName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// A run with the planned cells `a` to `d`. It was killed after the verdicts of `b` and `a`, while it wrote that of `c`.
    fn killed(results: &Path) -> PathBuf {
        let mut folder = RunFolder::create(results).unwrap();
        let path = folder.path().to_owned();
        let record = json!({
            "format": super::super::FORMAT, "nestmatrix": "0.1.0", "run": folder.name(), "began": now(), "ended": null,
            "interrupted": false, "arguments": ["run-matrix"], "machine": Machine::this(), "emulators": [],
            "profile": null, "cells": 4, "verdicts": Tally::default(),
        });
        folder.write_cells(&names(&["s/amd/a", "s/amd/b", "s/amd/c", "s/amd/d"])).unwrap();
        folder.write_run(&serde_json::from_value(record).unwrap()).unwrap();
        for (name, verdict) in [("s/amd/b", "fail"), ("s/amd/a", "pass"), ("s/amd/c", "pass")] {
            let (of_cell, _) = RunFolder::cell_in(&path, &name.parse().unwrap()).unwrap();
            std::fs::write(of_cell.join("L0.console.log"), name).unwrap();
            folder.append(&CellRecord { symptom: Some("ä".into()), ..cell(name, verdict) }).unwrap();
        }
        drop(folder);
        let verdicts = path.join("verdicts.jsonl");
        let mut text = std::fs::read(&verdicts).unwrap();
        // Within a character.
        let end = text.iter().rposition(|byte| *byte == 0xc3).unwrap() + 1;
        text.truncate(end);
        std::fs::write(&verdicts, text).unwrap();
        path
    }

    #[test]
    fn what_was_half_written_is_taken_away_and_the_rest_kept() {
        let results = tempfile::tempdir().unwrap();
        let path = killed(results.path());
        let now = ["s/amd/a", "s/amd/b", "s/amd/c", "s/amd/d"].map(wanted).to_vec();
        let (resumed, left) = CutOff::open(&path).unwrap().go_on(now);
        assert_eq!(left.iter().map(|cell| cell.name.as_str()).collect::<Vec<_>>(), ["s/amd/c", "s/amd/d"]);
        assert!(resumed.new.is_empty() && resumed.gone.is_empty());
        let Begun { mut folder, record, done, cells, .. } = resumed.begin("0.1.0 (0)", &[]).unwrap();
        assert_eq!(done.len(), 2);
        assert_eq!((record.verdicts.pass, record.verdicts.fail, record.cells), (1, 1, 4));
        assert_eq!((record.resumed.len(), record.resumed[0].verdicts), (1, 2));
        assert_eq!(cells, names(&["s/amd/a", "s/amd/b", "s/amd/c", "s/amd/d"]));
        assert!(path.join("cells/s/amd/a/L0.console.log").is_file());
        assert!(!path.join("cells/s/amd/c").exists(), "a cell that was under way begins anew");
        folder.append(&cell("s/amd/c", "xfail")).unwrap();
        folder.write_run(&record).unwrap();
        let seen = PastRun::read(&path).unwrap().cells;
        let seen: Vec<(&str, VerdictWord)> =
            seen.iter().map(|record| (record.cell.as_str(), record.verdict)).collect();
        let [fail, pass, xfail] = [VerdictWord::Fail, VerdictWord::Pass, VerdictWord::Xfail];
        assert_eq!(seen, [("s/amd/b", fail), ("s/amd/a", pass), ("s/amd/c", xfail)]);
    }

    #[test]
    fn cells_that_came_and_went_since_are_told_and_no_verdict_is_lost() {
        let results = tempfile::tempdir().unwrap();
        let path = killed(results.path());
        let now = ["s/amd/b", "s/amd/d", "s/amd/e"].map(wanted).to_vec();
        let (resumed, left) = CutOff::open(&path).unwrap().go_on(now);
        assert_eq!(left.iter().map(|cell| cell.name.as_str()).collect::<Vec<_>>(), ["s/amd/d", "s/amd/e"]);
        assert_eq!(resumed.new, names(&["s/amd/e"]));
        assert_eq!(resumed.gone, names(&["s/amd/a", "s/amd/c"]));
        let begun = resumed.begin("0.1.0 (0)", &[]).unwrap();
        assert_eq!(begun.cells, names(&["s/amd/b", "s/amd/d", "s/amd/e", "s/amd/a"]));
        assert!(!path.join("cells/s/amd/c").exists());
        assert_eq!(PastRun::read(&path).unwrap().planned.unwrap(), begun.cells);
    }

    #[test]
    fn cells_that_the_same_process_adds_are_no_resumption() {
        let results = tempfile::tempdir().unwrap();
        let path = killed(results.path());
        let now = ["s/amd/a", "s/amd/b", "s/amd/e"].map(wanted).to_vec();
        let (extended, left) = CutOff::open(&path).unwrap().extend(now);
        assert_eq!(left.iter().map(|cell| cell.name.as_str()).collect::<Vec<_>>(), ["s/amd/e"]);
        let begun = extended.begin("0.1.0 (0)", &[]).unwrap();
        assert!(begun.record.resumed.is_empty());
        assert_eq!((begun.record.cells, begun.done.len()), (3, 2));
    }

    #[test]
    fn nobody_goes_on_with_a_run_that_somebody_has() {
        let results = tempfile::tempdir().unwrap();
        let begun = RunFolder::create(results.path()).unwrap();
        assert!(matches!(CutOff::open(begun.path()), Err(ResumeError::Busy(_))), "it has just begun");
        let path = killed(results.path());
        let first = CutOff::open(&path).unwrap();
        assert!(matches!(CutOff::open(&path), Err(ResumeError::Busy(_))), "another process resumes it");
        let (first, _) = first.go_on(vec![wanted("s/amd/c")]);
        assert!(matches!(CutOff::open(&path), Err(ResumeError::Busy(_))));
        let begun = first.begin("0.1.0 (0)", &[]).unwrap();
        assert!(matches!(CutOff::open(&path), Err(ResumeError::Busy(_))));
        drop(begun);
        assert!(CutOff::open(&path).is_ok());
    }

    #[test]
    fn that_somebody_goes_on_with_the_mutants_of_a_run_is_recorded_in_it_while_it_is_held() {
        let results = tempfile::tempdir().unwrap();
        let path = killed(results.path());
        let mut held = CutOff::open(&path).unwrap();
        held.note(&["mutate".into(), "--jobs".into(), "1".into()]).unwrap();
        assert!(
            matches!(CutOff::open(&path), Err(ResumeError::Busy(_))),
            "no other process resumes the mutants"
        );
        drop(held);
        let again = CutOff::open(&path).unwrap();
        let [resumed] = again.record().resumed.as_slice() else { panic!("{:?}", again.record()) };
        assert_eq!((resumed.arguments.last().map(String::as_str), resumed.verdicts), (Some("1"), 2));
        assert_eq!(again.past().cells.len(), 2, "its verdicts stay");
    }

    #[test]
    fn times_are_counted_from_when_the_run_began() {
        let then = SystemTime::now() - Duration::from_secs(1_000_000);
        let began = instant_of(&humantime::format_rfc3339_seconds(then).to_string());
        assert!(began.elapsed().as_secs().abs_diff(1_000_000) < 60, "{:?}", began.elapsed());
        assert!(instant_of("no time").elapsed().as_secs() < 60);
    }
}
