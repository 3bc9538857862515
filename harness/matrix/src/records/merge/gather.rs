//! Gathers the records of runs under unique names, and the folders of their files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{MergeError, MergedRun};
use crate::contained::{self, OutsideFolder, RelativeFolder};
use crate::records::{CellRecord, PastRun};
use crate::scenario::CellName;

/// All that is known about the runs, as if they were one.
#[derive(Debug, Default)]
pub(super) struct GatheredRuns {
    pub(super) merged: Vec<MergedRun>,
    /// Ordered by the cells' names, and for each cell by the order of the runs.
    pub(super) cells: Vec<CellRecord>,
    /// Where the files of each record are: the run's folder, and the cell's folder in it.
    pub(super) sources: Vec<Option<(PathBuf, RelativeFolder)>>,
    pub(super) planned: BTreeSet<CellName>,
}

impl GatheredRuns {
    /// All that these runs have.
    pub(super) fn of(runs: Vec<PastRun>) -> Result<Self, MergeError> {
        let mut names = BTreeSet::new();
        let mut all = Self::default();
        let mut lines = Vec::new();
        for mut run in runs {
            let seen: BTreeSet<&CellName> = run.cells.iter().map(|cell| &cell.cell).collect();
            match &run.planned {
                Some(planned) => all.planned.extend(planned.iter().cloned()),
                None if run.record.cells > seen.len() => return Err(MergeError::NoCells(run.folder.clone())),
                None => {}
            }
            all.planned.extend(seen.into_iter().cloned());
            let leads_out =
                |what: &str| MergeError::OutsideFolder { folder: run.folder.clone(), what: what.to_owned() };
            let first = all.merged.len();
            // If a run was merged itself, its records are in folders named after their runs.
            let mut places = BTreeMap::new();
            let own = [MergedRun::from(&run)];
            let of = if run.record.merged.is_empty() { &own[..] } else { &run.record.merged[..] };
            for merged in of {
                if !is_one_name(&merged.run) {
                    return Err(leads_out(&merged.run));
                }
                let candidates = (2..).map(|number| format!("{}-{number}", merged.run));
                let name =
                    std::iter::once(merged.run.clone()).chain(candidates).find(|name| !names.contains(name));
                let name = name.unwrap_or_default();
                names.insert(name.clone());
                places.insert(merged.run.clone(), all.merged.len());
                all.merged.push(MergedRun { run: name, ..merged.clone() });
            }
            for mut cell in std::mem::take(&mut run.cells) {
                let saw = match &cell.run {
                    Some(name) => *places.get(name).ok_or_else(|| leads_out(name))?,
                    None => first,
                };
                // A skipped cell has no files.
                let source = cell.folder.take().filter(|folder| contained::is_folder(&run.folder, folder));
                if let Some(folder) = &source {
                    let folder = folder.as_path();
                    let before = cell.run.iter().map(|name| Path::new("runs").join(name)).next();
                    let rest = before.and_then(|before| folder.strip_prefix(before).ok()).unwrap_or(folder);
                    let folder = Path::new("runs").join(&all.merged[saw].run).join(rest);
                    cell.folder = Some(folder.try_into().map_err(|e: OutsideFolder| leads_out(&e.given))?);
                }
                cell.run = Some(all.merged[saw].run.clone());
                lines.push((cell.cell.clone(), saw, cell, source.map(|folder| (run.folder.clone(), folder))));
            }
        }
        lines.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        (all.cells, all.sources) = lines.into_iter().map(|(_, _, cell, source)| (cell, source)).unzip();
        Ok(all)
    }
}

/// Whether a run's name is one part of a path.
fn is_one_name(run: &str) -> bool {
    let path: Result<RelativeFolder, OutsideFolder> = run.parse();
    path.is_ok_and(|path| path.as_path() == Path::new(run) && path.as_path().components().count() == 1)
}
