//! `merge`: several runs as one.

use std::io::{BufRead as _, BufReader};
use std::process::ExitCode;

use nestmatrix::report;
use nestmatrix::run::{self, Comparison, MergeError, PastRun};

use crate::cli::{Format, Merge};
use crate::exit::Failure;
use crate::run_matrix::{results, say, style_of, write_junit};

pub fn run(arguments: &Merge) -> Result<ExitCode, Failure> {
    // A night must not be lost for what became of the one before it.
    let baseline = arguments.baseline.as_deref().and_then(|run| {
        PastRun::read(run).inspect_err(|e| eprintln!("compared with nothing: --baseline: {e}")).ok()
    });
    let merge = run::Merge::read(&arguments.runs).map_err(failure)?;
    let results = arguments.results.clone().unwrap_or_else(results);
    let typed = std::env::args().skip(1).collect();
    let merged = merge.write(&results, arguments.into.as_deref(), typed).map_err(failure)?;
    let outcome = &merged.outcome;
    write_junit(&outcome.folder, &outcome.run, &outcome.records)?;
    let style = style_of(&std::io::stdout());
    match arguments.format {
        Format::Text => {
            let (matrix, about) = (report::matrix(outcome, &style), report::merged(&merged, &style));
            say(&format!("{matrix}\n{about}\nrecords: {}\n", outcome.folder.display()));
        }
        Format::Json => {
            // As they are recorded: of a cell that several runs had, every one.
            let verdicts =
                std::fs::File::open(outcome.folder.join("verdicts.jsonl")).map_err(Failure::error)?;
            for line in BufReader::new(verdicts).lines() {
                say(&format!("{}\n", line.map_err(Failure::error)?));
            }
            eprintln!("records: {}", outcome.folder.display());
        }
    }
    let code = match (outcome.run.exit_code(), baseline) {
        (code, Some(baseline)) => {
            let comparison = Comparison::new(&baseline.cells, &outcome.records);
            let text = report::comparison(&comparison, &style);
            // In JSON there is a line for each verdict and nothing else.
            match arguments.format {
                Format::Text => say(&text),
                Format::Json => eprint!("{text}"),
            }
            if code == 1 && !comparison.is_worse() { 0 } else { code }
        }
        (code, None) => code,
    };
    Ok(ExitCode::from(code))
}

fn failure(e: MergeError) -> Failure {
    match e {
        MergeError::Unwritable { .. } => Failure::error(e),
        e => Failure::bad_input(miette::miette!("{e}")),
    }
}
