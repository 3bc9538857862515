//! Writes gathered runs as one run, in one step: a reader sees the whole merged run or none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use super::MergedRun;
use super::gather::GatheredRuns;
use super::place::{LOCK, MERGING, link_all, sweep};
use super::several::{by_cell, counted, differs, machine_of_all, same};
use crate::records::folder::{CELLS, line_of, lines_of, text_of};
use crate::records::{CellRecord, FORMAT, Outcome, Purpose, RunRecord, Shard, Tally};
use crate::scenario::CellName;

impl GatheredRuns {
    /// Writes everything to the folder `place`, which exists and is empty, in one step.
    pub(super) fn write(
        self,
        place: &Path,
        name: &str,
        arguments: Vec<String>,
    ) -> io::Result<(Outcome, Vec<Vec<CellRecord>>)> {
        // It is next to the folder, and so on the same file system.
        let beside = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sweep(beside)?;
        let temporary = tempfile::Builder::new().prefix(MERGING).tempdir_in(beside)?;
        let lock = File::create_new(temporary.path().join(LOCK))?;
        lock.try_lock()?;
        // Only the owner can read a temporary folder; the merged run needs the usual permissions.
        let folder = temporary.path().join("run");
        fs::create_dir(&folder)?;
        let mut verdicts = BufWriter::new(File::create_new(folder.join("verdicts.jsonl"))?);
        for (cell, source) in self.cells.iter().zip(&self.sources) {
            verdicts.write_all(line_of(cell)?.as_bytes())?;
            if let (Some(source), Some(to)) = (source, &cell.folder) {
                link_all(source, &folder.join(to.as_path()))?;
            }
        }
        verdicts.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::write(folder.join(CELLS), lines_of(&self.planned))?;

        let mut run = self.record(name, arguments);
        let took = self.merged.iter().map(|merged| merged.seconds).fold(0.0, f64::max);
        let (mut records, mut conflicts): (Vec<CellRecord>, Vec<Vec<CellRecord>>) = Default::default();
        for seen in by_cell(self.cells) {
            let Some(counts) = counted(&seen) else { continue };
            run.verdicts.add(counts);
            records.push(counts.clone());
            if differs(&seen) {
                run.conflicts.push(counts.cell.clone());
                conflicts.push(seen);
            }
        }
        run.merged = self.merged;
        fs::write(folder.join("run.json"), text_of(&run)?)?;
        fs::rename(&folder, place)?;
        let took = Duration::try_from_secs_f64(took).unwrap_or_default();
        Ok((Outcome { folder: place.to_owned(), run, records, took }, conflicts))
    }

    /// `run.json`, without verdicts and merged runs yet.
    fn record(&self, name: &str, arguments: Vec<String>) -> RunRecord {
        let merged = &self.merged;
        let ended: Option<Vec<&String>> = merged.iter().map(|run| run.ended.as_ref()).collect();
        let emulators: BTreeSet<&String> = merged.iter().flat_map(|run| &run.emulators).collect();
        let seen: BTreeSet<&CellName> = self.cells.iter().map(|cell| &cell.cell).collect();
        RunRecord {
            format: FORMAT,
            nestmatrix: env!("CARGO_PKG_VERSION").to_owned(),
            build: None,
            run: name.to_owned(),
            purpose: Purpose::Matrix,
            began: merged.iter().map(|run| run.began.clone()).min().unwrap_or_default(),
            ended: ended.and_then(|ended| ended.into_iter().max().cloned()),
            interrupted: merged.iter().any(|run| run.interrupted),
            arguments,
            working_folder: None,
            machine: machine_of_all(merged.iter().map(|run| &run.machine)),
            emulators: emulators.into_iter().cloned().collect(),
            undelivered: Vec::new(),
            profile: same(merged.iter().map(|run| &run.profile)).cloned().flatten(),
            shard: None,
            division: None,
            cells: self.planned.len(),
            verdicts: Tally::default(),
            resumed: Vec::new(),
            merged: Vec::new(),
            conflicts: Vec::new(),
            missing_shards: missing_shards(merged),
            missing_cells: self.planned.iter().filter(|cell| !seen.contains(cell)).cloned().collect(),
        }
    }
}

/// The missing shards of the divisions of which some shards are here.
fn missing_shards(runs: &[MergedRun]) -> Vec<Shard> {
    let mut divisions: BTreeMap<(&Option<String>, u16), BTreeSet<Shard>> = BTreeMap::new();
    for (run, shard) in runs.iter().filter_map(|run| Some((run, run.shard?))) {
        divisions.entry((&run.division, shard.of())).or_default().insert(shard);
    }
    let missing = divisions.values().flat_map(|there| {
        let all = there.first().into_iter().flat_map(|shard| shard.all());
        all.filter(|shard| !there.contains(shard))
    });
    missing.collect()
}
