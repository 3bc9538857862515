//! Several runs seen as one: for each cell the verdict that counts, and the others.
//!
//! This is not merging, which makes one run of equal runs. Here a later run takes precedence over an earlier one, since it was
//! made to see whether something has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use nestmatrix_model::Stage;

use super::merge::{counted, machine_of_all};
use super::{CellMutation, CellRecord, PastRun, RunRecord, Tally, VerdictWord};
use crate::contained;
use crate::scenario::{CellName, Matrix};

/// What reports show.
#[derive(Debug, Clone, Default)]
pub struct Overview {
    /// The runs, the newest first.
    pub runs: Vec<OverviewRun>,
    /// The cells that have a verdict, in the order of the matrix; those that the matrix does not have (any more) come last.
    pub cells: Vec<OverviewCell>,
    /// Planned cells without a verdict in any run.
    pub without_verdict: Vec<CellName>,
    /// The results of the cells' mutants, for each cell from the newest run with mutants of it. The paths of their records are not
    /// relative to the run's folder.
    pub mutations: Vec<CellMutation>,
}

/// One of the runs.
#[derive(Debug, Clone)]
pub struct OverviewRun {
    /// Its folder.
    pub folder: PathBuf,
    /// The run as a whole.
    pub record: RunRecord,
    /// Whether it is a mutation run that was interrupted before its mutants had an outcome.
    pub mutants_pending: bool,
}

/// A cell with the verdict that counts.
#[derive(Debug, Clone)]
pub struct OverviewCell {
    /// The record that counts: from the newest run that tested the cell, and within a merged run the worst.
    pub record: CellRecord,
    /// Its run, by its place in [`Overview::runs`].
    pub run: usize,
    /// The verdicts that do not count, the newest first.
    pub others: Vec<OtherVerdict>,
}

/// A verdict that gave way to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherVerdict {
    /// The run's name; for a part of a merged run, the name of that part.
    pub run: String,
    /// The verdict.
    pub verdict: VerdictWord,
    /// Where the stack stopped, if it did.
    pub stage: Option<Stage>,
    /// What was seen there.
    pub symptom: Option<String>,
}

impl Overview {
    /// These runs, with the cells in the order of `matrix`. A skip gives way to any verdict of another run, however old.
    pub fn new(mut runs: Vec<PastRun>, matrix: &Matrix) -> Self {
        // Runs that began in the same second differ in their names.
        runs.sort_by(|a, b| (&b.record.began, &b.record.run).cmp(&(&a.record.began, &a.record.run)));
        runs.dedup_by(|a, b| a.folder == b.folder);
        let mut seen: BTreeMap<CellName, BTreeMap<usize, Vec<CellRecord>>> = BTreeMap::new();
        let mut wanted: BTreeSet<CellName> = BTreeSet::new();
        let mut shown = Vec::new();
        let mut mutations: Vec<CellMutation> = Vec::new();
        for (place, run) in runs.into_iter().enumerate() {
            let mutants_pending = run.mutants_pending();
            let PastRun { folder, record, cells, planned, mutations: of_run, .. } = run;
            for mut of_cell in of_run.into_iter().flatten() {
                let records = of_cell.results.iter_mut().filter_map(|result| result.records.as_mut());
                records.for_each(|records| *records = folder.join(&*records));
                if mutations.iter().all(|newer| newer.cell != of_cell.cell) {
                    mutations.push(of_cell);
                }
            }
            wanted.extend(planned.into_iter().flatten().chain(record.missing_cells.iter().cloned()));
            for cell in cells {
                seen.entry(cell.cell.clone()).or_default().entry(place).or_default().push(cell);
            }
            shown.push(OverviewRun { folder, record, mutants_pending });
        }
        let without_verdict = wanted.into_iter().filter(|cell| !seen.contains_key(cell)).collect();
        let places: BTreeMap<&CellName, usize> =
            matrix.cells().iter().enumerate().map(|(place, cell)| (&cell.name, place)).collect();
        let mut cells: Vec<OverviewCell> =
            seen.into_values().filter_map(|of_runs| cell(of_runs, &shown)).collect();
        let place = |cell: &CellName| places.get(cell).copied().unwrap_or(usize::MAX);
        cells.sort_by_key(|cell| place(&cell.record.cell));
        mutations.sort_by_key(|of_cell| place(&of_cell.cell));
        Self { runs: shown, cells, without_verdict, mutations }
    }

    /// How many cells have which verdict.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.cells.iter().for_each(|cell| tally.add(&cell.record));
        tally
    }

    /// The newest run, with the machines of all runs and the verdicts that count, for formats that know only one run.
    pub(crate) fn as_one_run(&self) -> Option<RunRecord> {
        let newest = self.runs.first()?;
        let name = |run: &OverviewRun| run.record.run.clone();
        let mut emulators: Vec<String> =
            self.runs.iter().flat_map(|run| run.record.emulators.iter().cloned()).collect();
        emulators.sort();
        emulators.dedup();
        Some(RunRecord {
            run: self.runs.iter().map(name).collect::<Vec<_>>().join(", "),
            machine: machine_of_all(self.runs.iter().map(|run| &run.record.machine)),
            emulators,
            verdicts: self.tally(),
            ..newest.record.clone()
        })
    }

    /// The folder of a cell's files, if it has one.
    pub fn folder(&self, cell: &OverviewCell) -> Option<PathBuf> {
        let run = self.runs.get(cell.run)?;
        Some(run.folder.join(cell.record.folder.as_ref()?.as_path()))
    }

    /// The name of the run with the record of `cell` that counts.
    pub fn run_of<'o>(&'o self, cell: &'o OverviewCell) -> &'o str {
        let of_folder = || self.runs.get(cell.run).map_or("", |run| &run.record.run);
        cell.record.run.as_deref().unwrap_or_else(of_folder)
    }
}

impl OverviewCell {
    /// Whether it needs attention: an error, or a fail or an xpass that is not known yet.
    pub fn is_trouble(&self) -> bool {
        self.record.is_trouble()
    }

    /// A file of its folder, if it is there.
    pub fn file(&self, overview: &Overview, name: &str) -> Option<PathBuf> {
        let run = &overview.runs.get(self.run)?.folder;
        let file = self.record.folder.as_ref()?.as_path().join(name);
        contained::is_file(run, &file).then(|| run.join(file))
    }
}

/// Collects the records of one cell, by the places of their runs.
fn cell(of_runs: BTreeMap<usize, Vec<CellRecord>>, runs: &[OverviewRun]) -> Option<OverviewCell> {
    let worst: Vec<(usize, &CellRecord)> =
        of_runs.iter().filter_map(|(place, seen)| Some((*place, counted(seen)?))).collect();
    let tried = worst.iter().find(|(_, record)| record.verdict != VerdictWord::Skip);
    let (run, record) = *tried.or(worst.first())?;
    let name = |place: usize| runs.get(place).map_or(String::new(), |run| run.record.run.clone());
    let all = of_runs.iter().flat_map(|(place, seen)| seen.iter().map(|record| (*place, record)));
    let others = all.filter(|(_, other)| !std::ptr::eq(*other, record)).map(|(place, other)| OtherVerdict {
        run: other.run.clone().unwrap_or_else(|| name(place)),
        verdict: other.verdict,
        stage: other.stage,
        symptom: other.symptom.clone(),
    });
    Some(OverviewCell { run, others: others.collect(), record: record.clone() })
}
