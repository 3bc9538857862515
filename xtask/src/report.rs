//! `report`: runs that are over, as a page or in a form that other programs read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use nestmatrix::document_errata::DocumentErrata;
use nestmatrix::records::{Overview, PastRun};
use nestmatrix::report;
use nestmatrix::scenario::{CellName, Matrix};

use crate::exit::Failure;
use crate::run_matrix::results;
use crate::{history, input, output};

#[derive(Debug, Args)]
pub struct Report {
    /// Folders of runs or of merged runs, or names in the folder of results. Where several have a cell, the newest one counts, and
    /// the report shows the others beside it; with `errata`, all count [default: latest]
    #[arg(value_name = "RUN", default_value = "latest", hide_default_value = true)]
    pub runs: Vec<PathBuf>,
    /// The form
    #[arg(long, value_enum, default_value = "markdown")]
    pub format: ReportFormat,
    /// File to write to, or `-` for standard output [default: standard output; with html, report.html in the folder of the run, of
    /// several in the current folder]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// With `errata`: only this document, by its id
    #[arg(long, value_name = "ID")]
    pub document: Option<String>,
    /// With `errata`: also show how often all runs in the folder of results saw the same
    #[arg(long)]
    pub with_history: bool,
    /// Folder of documents and scenarios: their titles, claims and contradictions
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios"), hide_default_value = true)]
    pub scenarios: PathBuf,
    /// Folder of all runs [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Tables for the page of a document or an issue
    Markdown,
    /// TAP, version 14, with YAML
    Tap,
    /// JUnit XML, as each run leaves it
    Junit,
    /// One JSON object
    Json,
    /// One page that needs no other file and no network
    Html,
    /// For each document what did not hold and what contradicts, as plain text for its authors
    Errata,
}

pub fn run(arguments: &Report) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.clone().unwrap_or_else(results);
    let runs = arguments
        .runs
        .iter()
        .map(|run| input::past_run(run, &in_results))
        .collect::<Result<Vec<PastRun>, _>>()?;
    let matrix = Matrix::load(&input::short(&arguments.scenarios)).map_err(Failure::bad_input)?;
    let is_errata = arguments.format == ReportFormat::Errata;
    if !is_errata && (arguments.document.is_some() || arguments.with_history) {
        return Err(Failure::bad_input(miette::miette!(
            "--document and --with-history need --format errata"
        )));
    }
    let overview = Overview::new(runs.clone(), &matrix);
    let text = match arguments.format {
        ReportFormat::Markdown => report::markdown(&overview, &matrix),
        ReportFormat::Tap => report::tap(&overview),
        ReportFormat::Junit => report::junit_of(&overview).map_err(Failure::error)?,
        ReportFormat::Json => report::json(&overview).map_err(Failure::error)?,
        ReportFormat::Html => report::html(&overview, &matrix),
        ReportFormat::Errata => return errata(arguments, &runs, &matrix, &in_results),
    };
    write(arguments, file(arguments, &overview), &text)
}

fn write(arguments: &Report, file: Option<PathBuf>, text: &str) -> Result<ExitCode, Failure> {
    match file {
        Some(path) => {
            let write = if arguments.output.is_some() { output::write } else { output::replace };
            write(&path, text)?;
            eprintln!("report: {}", path.display());
        }
        None => output::print(text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The errata of the documents. Here every record of every run counts, so that it is no overview.
fn errata(
    arguments: &Report,
    runs: &[PastRun],
    matrix: &Matrix,
    in_results: &Path,
) -> Result<ExitCode, Failure> {
    let history = match arguments.with_history {
        true => Some(history::up_to_date(in_results).map_err(history::failure)?),
        false => None,
    };
    let past = |cell: &CellName| {
        let sightings = history.as_ref().map(|history| history.sightings(cell));
        // A cell of which the database can't be read has no count; the runs themselves have been read.
        sightings.and_then(Result::ok).unwrap_or_default()
    };
    let mut errata = DocumentErrata::new(runs, matrix, &past);
    if let Some(id) = &arguments.document {
        let known: Vec<String> = errata.documents.iter().map(|document| document.id.clone()).collect();
        errata.documents.retain(|document| document.id == *id);
        if errata.documents.is_empty() {
            let known = known.join(", ");
            return Err(Failure::bad_input(miette::miette!(
                "there is no document `{id}`; known are {known}"
            )));
        }
    }
    let path = arguments.output.clone().filter(|path| path != Path::new("-"));
    write(arguments, path, &report::document_errata(&errata))
}

/// The file to write to; none for standard output.
fn file(arguments: &Report, overview: &Overview) -> Option<PathBuf> {
    match (&arguments.output, arguments.format) {
        (Some(path), _) if path == Path::new("-") => None,
        (Some(path), _) => Some(path.clone()),
        (None, ReportFormat::Html) => Some(match overview.runs.as_slice() {
            [run] => run.folder.join("report.html"),
            _ => "report.html".into(),
        }),
        (None, _) => None,
    }
}
