//! `merge`: merges several runs into one.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nestmatrix::history::FILE;
use nestmatrix::records::{self, MergeError};
use nestmatrix::report;

use crate::cli::{Format, Merge};
use crate::exit::Failure;
use crate::output::write_junit;
use crate::terminal::{note, print, style_of};
use crate::{baseline, history};

pub fn run(arguments: &Merge) -> Result<ExitCode, Failure> {
    let baseline = arguments.baseline.as_deref().and_then(baseline::read);
    let merge = records::Merge::read(&arguments.runs).map_err(failure)?;
    let results = arguments.results.folder();
    let typed = std::env::args().skip(1).collect();
    let merged = merge.write(&results, arguments.into.as_deref(), typed).map_err(failure)?;
    let outcome = &merged.outcome;
    write_junit(&outcome.folder, &outcome.run, &outcome.records)?;
    let style = style_of(&std::io::stdout());
    match arguments.format {
        Format::Text => {
            let (matrix, about) = (report::matrix(outcome, &style), report::merged(&merged, &style));
            print(&format!("{matrix}\n{about}\nrecords: {}\n", outcome.folder.display()));
        }
        Format::Json => {
            // As recorded: a cell that several runs had has a line for each.
            let verdicts =
                std::fs::File::open(outcome.folder.join("verdicts.jsonl")).map_err(Failure::error)?;
            for line in BufReader::new(verdicts).lines() {
                print(&format!("{}\n", line.map_err(Failure::error)?));
            }
            note!("records: {}", outcome.folder.display());
        }
    }
    let results = history_folder(arguments.into.as_deref(), results);
    if let Some(results) = &results {
        history::feed(results);
    }
    let code = match (outcome.run.exit_code(), baseline) {
        (code, Some(baseline)) => {
            let results = results.unwrap_or_default();
            baseline::show(&baseline, &outcome.folder, &results, (arguments.format, &style), code)
        }
        (code, None) => code,
    };
    Ok(ExitCode::from(code))
}

/// The folder of runs whose history gets the merged run. The folder around `into` counts only if it has a history already, since
/// it may be a folder of other things.
fn history_folder(into: Option<&Path>, results: PathBuf) -> Option<PathBuf> {
    let Some(into) = into else { return Some(results) };
    let around = into.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    around.join(FILE).is_file().then(|| around.to_owned())
}

fn failure(e: MergeError) -> Failure {
    match e {
        MergeError::Unwritable { .. } => Failure::error(e),
        e => Failure::bad_input(miette::miette!("{e}")),
    }
}
