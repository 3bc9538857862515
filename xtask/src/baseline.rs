//! A run held against another one: what `run-matrix --baseline`, `merge --baseline` and `diff` have in common.

use std::collections::BTreeSet;
use std::path::Path;

use nestmatrix::history::{self, HistoryEntry};
use nestmatrix::records::{Comparison, PastRun};
use nestmatrix::report::{self, Style};
use nestmatrix::scenario::CellName;

use crate::cli::Format;
use crate::input;
use crate::run_matrix::say;

/// Reads the run to compare with. A run must not be lost for what became of one before it: one that can't be read counts for none,
/// and then the exit code is that of the run alone.
pub fn read(folder: &Path) -> Option<PastRun> {
    PastRun::read(folder).inspect_err(|e| eprintln!("compared with nothing: --baseline: {e}")).ok()
}

/// Likewise the run that is meant, by its folder or by its name in that of results.
pub fn find(run: &Path, results: &Path) -> Option<PastRun> {
    let folder = input::run(run, results);
    read(&folder.inspect_err(|why| eprintln!("compared with nothing: --baseline: {why}")).ok()?)
}

/// What `baseline` tells of the cells that the run in `folder` was to have a verdict of: of others, it was to tell nothing.
pub fn beside(mut baseline: PastRun, folder: &Path) -> Option<PastRun> {
    // `latest` may be the very run that was gone on with.
    if baseline.folder.canonicalize().ok() == folder.canonicalize().ok() {
        eprintln!("compared with nothing: --baseline is this very run");
        return None;
    }
    let cells = PastRun::read(folder).ok().and_then(|run| run.planned).unwrap_or_default();
    let cells: BTreeSet<CellName> = cells.into_iter().collect();
    baseline.cells.retain(|record| cells.contains(&record.cell));
    Some(baseline)
}

/// What changed, by the history in the folder of results as well.
pub fn compare(before: &PastRun, now: &PastRun, results: &Path) -> Comparison {
    let history = crate::history::if_there(results);
    let past = |cell: &CellName| -> Vec<HistoryEntry> {
        let Some(history) = &history else { return Vec::new() };
        history
            .sightings(cell)
            .inspect_err(|e| eprintln!("what is flaky is told by two runs alone: {e}"))
            .unwrap_or_default()
    };
    Comparison::new(&before.cells, &now.cells)
        .with_flaky(|cell, was, is| history::flips(cell, (was, is), [before, now], past(cell)))
}

/// Shows what changed from the baseline to the run in `folder`, and gives the exit code that the run has then.
pub fn show(
    baseline: &PastRun,
    folder: &Path,
    results: &Path,
    (format, style): (Format, &Style),
    code: u8,
) -> u8 {
    let now = match PastRun::read(folder) {
        Ok(now) => now,
        Err(e) => {
            eprintln!("compared with nothing: {e}");
            return code;
        }
    };
    let comparison = compare(baseline, &now, results);
    let text = report::comparison(&comparison, style);
    // In JSON there is a line for each verdict and nothing else.
    match format {
        Format::Text => say(&text),
        Format::Json => eprint!("{text}"),
    }
    comparison.exit_code(code)
}
