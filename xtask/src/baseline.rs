//! Compares a run with an earlier one, for `run-matrix --baseline`, `merge --baseline` and `diff`.

use std::collections::BTreeSet;
use std::path::Path;

use nestmatrix::history::{self, HistoryEntry};
use nestmatrix::records::{Comparison, PastRun};
use nestmatrix::report::{self, Style};
use nestmatrix::scenario::CellName;

use crate::cli::Format;
use crate::input;
use crate::terminal::{note, print, print_to_stderr};

/// Reads the baseline. If that fails, the run is not lost: there is no comparison, and the run has its own exit code.
pub fn read(folder: &Path) -> Option<PastRun> {
    PastRun::read(folder).inspect_err(|e| note!("compared with nothing: --baseline: {e}")).ok()
}

/// Reads the baseline from its folder or its name in the folder of runs.
pub fn find(run: &Path, results: &Path) -> Option<PastRun> {
    let folder = input::run(run, results);
    read(&folder.inspect_err(|why| note!("compared with nothing: --baseline: {why}")).ok()?)
}

/// Reduces the baseline to the cells that were planned in the run in `folder`.
pub fn of_same_cells(mut baseline: PastRun, folder: &Path) -> Option<PastRun> {
    // `latest` may be the resumed run.
    if baseline.folder.canonicalize().ok() == folder.canonicalize().ok() {
        note!("compared with nothing: --baseline is this very run");
        return None;
    }
    let cells = PastRun::read(folder).ok().and_then(|run| run.planned).unwrap_or_default();
    let cells: BTreeSet<CellName> = cells.into_iter().collect();
    baseline.cells.retain(|record| cells.contains(&record.cell));
    Some(baseline)
}

/// Compares two runs. The history of the folder of runs, if it has one, shows which cells are flaky.
pub fn compare(before: &PastRun, now: &PastRun, results: &Path) -> Comparison {
    let history = crate::history::if_exists(results);
    let past = |cell: &CellName| -> Vec<HistoryEntry> {
        let Some(history) = &history else { return Vec::new() };
        history
            .entries(cell)
            .inspect_err(|e| note!("only these two runs show which cells are flaky: {e}"))
            .unwrap_or_default()
    };
    Comparison::new(&before.cells, &now.cells)
        .with_flaky(|cell, was, is| history::flips(cell, (was, is), [before, now], past(cell)))
}

/// Prints what changed from the baseline to the run in `folder`, and returns the run's exit code.
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
            note!("compared with nothing: {e}");
            return code;
        }
    };
    let comparison = compare(baseline, &now, results);
    let text = report::comparison(&comparison, style);
    // JSON output has one line for each verdict and nothing else.
    match format {
        Format::Text => print(&text),
        Format::Json => print_to_stderr(&text),
    }
    comparison.exit_code(code)
}
