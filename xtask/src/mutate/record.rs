//! `mutate --record` and `--record-from`: record the findings of mutation runs in the scenarios' `decided.toml`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nestmatrix::mutation::{ShownByRun, shown_by};
use nestmatrix::records::{PastRun, read_mutations};
use nestmatrix::scenario::Matrix;

use super::Mutate;
use crate::exit::Failure;
use crate::terminal::note;
use crate::{input, output};

/// Records the findings of finished runs.
pub(super) fn run(arguments: &Mutate) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.folder();
    let folders = arguments.record_from.iter().map(|run| {
        input::run(run, &in_results)
            .map_err(|why| Failure::bad_input(miette::miette!("--record-from: {why}")))
    });
    let folders = folders.collect::<Result<Vec<PathBuf>, Failure>>()?;
    record(arguments, &folders)?;
    Ok(ExitCode::SUCCESS)
}

/// Records the findings of the runs in these folders.
pub(super) fn record(arguments: &Mutate, folders: &[PathBuf]) -> Result<(), Failure> {
    let scenarios = &arguments.selection.folder.scenarios;
    // Read again: mutants take hours, and another run may have recorded something meanwhile.
    let matrix = Matrix::load(&input::short(scenarios)).map_err(Failure::bad_input)?;
    let mut ledger = matrix.decided().clone();
    let file = Matrix::decided_file(scenarios);
    let mut runs = folders.iter().map(|folder| of_run(&matrix, folder)).collect::<Result<Vec<_>, _>>()?;
    // The findings of a later run replace those of an earlier one, whatever the order of the arguments.
    runs.sort_by(|(one, _), (other, _)| one.cmp(other));
    let mut cells = 0;
    for (began, ShownByRun { shown, not_shown, refuted }) in runs {
        for (cell, why) in not_shown {
            note!("not recorded: {cell}: {why}");
        }
        for cell in refuted {
            ledger.forget(&cell, began.split('T').next().unwrap_or_default());
        }
        cells += shown.len();
        ledger.record(shown);
    }
    output::write(&file, &ledger.to_toml())?;
    let plural = if cells == 1 { "" } else { "s" };
    note!("recorded: {cells} cell{plural} in {}", input::short(&file).display());
    Ok(())
}

/// When the run began, and its findings.
fn of_run(matrix: &Matrix, folder: &Path) -> Result<(String, ShownByRun), Failure> {
    let bad = |why: String| Failure::bad_input(miette::miette!("{}: {why}", folder.display()));
    let run = PastRun::read(folder).map_err(|e| bad(e.to_string()))?;
    let mutations = read_mutations(folder).map_err(|e| bad(e.to_string()))?;
    let mutations =
        mutations.ok_or_else(|| bad("not a mutation run, or its mutants have no outcome yet".into()))?;
    let shown = shown_by(matrix, &run, &mutations);
    Ok((run.record.began, shown))
}
