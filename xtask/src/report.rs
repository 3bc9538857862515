//! `report`: shows runs as a page, or in a format for other programs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use nestmatrix::document_errata::DocumentErrata;
use nestmatrix::records::{Overview, PastRun};
use nestmatrix::report::{self, Origin};
use nestmatrix::scenario::{CellName, Matrix};

use crate::cli::{Results, ScenariosFolder};
use crate::exit::Failure;
use crate::terminal::note;
use crate::{history, input, output};

#[derive(Debug, Args)]
pub struct Report {
    /// Runs or merged runs: their folders, or their names in the folder of runs [default: latest]
    ///
    /// If several runs have a cell, the newest one counts, and the report also shows the others. With `errata`, all count.
    #[arg(value_name = "RUN", default_value = "latest", hide_default_value = true)]
    pub runs: Vec<PathBuf>,
    /// Write the report in this format
    #[arg(long, value_enum, default_value = "markdown")]
    pub format: ReportFormat,
    /// Write the report to FILE, `-` for standard output [default: -]
    ///
    /// With `html`, the default is report.html in the run's folder, or in the current folder for several runs.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The name of the system that submits the results to KCIDB [default: nestmatrix]
    #[arg(long, value_name = "NAME")]
    pub origin: Option<Origin>,
    /// Show only this document's errata, by its id
    #[arg(long, value_name = "ID")]
    pub document: Option<String>,
    /// Also show in errata how often all runs in the folder of runs saw the same
    #[arg(long)]
    pub with_history: bool,
    #[command(flatten)]
    pub folder: ScenariosFolder,
    #[command(flatten)]
    pub results: Results,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Tables for a document or an issue
    Markdown,
    /// TAP version 14 with YAML
    Tap,
    /// KTAP, as the kernel's tests print it
    Ktap,
    /// JUnit XML, as in a run's junit.xml
    Junit,
    /// Results for tmt (results.yaml); it takes logs from the folder of --output
    Tmt,
    /// One JSON object
    Json,
    /// JSON for KCIDB, the database of kernel test results, by its schema 5.3
    Kcidb,
    /// A single page that needs no other file and no network
    Html,
    /// Plain text for the authors of each document: false claims and contradictions
    Errata,
}

pub fn run(arguments: &Report) -> Result<ExitCode, Failure> {
    let in_results = arguments.results.folder();
    let runs = arguments
        .runs
        .iter()
        .map(|run| input::past_run(run, &in_results))
        .collect::<Result<Vec<PastRun>, _>>()?;
    let matrix = Matrix::load(&input::short(&arguments.folder.scenarios)).map_err(Failure::bad_input)?;
    let is_errata = arguments.format == ReportFormat::Errata;
    if !is_errata && (arguments.document.is_some() || arguments.with_history) {
        return Err(Failure::bad_input(miette::miette!(
            "--document and --with-history require --format errata"
        )));
    }
    if arguments.format != ReportFormat::Kcidb && arguments.origin.is_some() {
        return Err(Failure::bad_input(miette::miette!("--origin requires --format kcidb")));
    }
    let overview = Overview::new(runs.clone(), &matrix);
    let text = match arguments.format {
        ReportFormat::Markdown => report::markdown(&overview, &matrix),
        ReportFormat::Tap => report::tap(&overview),
        ReportFormat::Ktap => report::ktap(&overview),
        ReportFormat::Junit => report::junit_of(&overview).map_err(Failure::error)?,
        ReportFormat::Tmt => return tmt(arguments, &overview),
        ReportFormat::Json => report::json(&overview).map_err(Failure::error)?,
        ReportFormat::Kcidb => {
            let origin = arguments.origin.clone().unwrap_or_default();
            report::kcidb(&overview, &origin).map_err(Failure::error)?
        }
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
            note!("report: {}", path.display());
        }
        None => output::write_stdout(text)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the results for tmt. Its logs are relative to the folder of the output, or to the current folder.
fn tmt(arguments: &Report, overview: &Overview) -> Result<ExitCode, Failure> {
    let path = file(arguments, overview);
    let folder = path.as_deref().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty());
    let base = folder.unwrap_or(Path::new("."));
    let results = report::tmt(overview, base).map_err(Failure::error)?;
    if results.without_logs > 0 {
        let (without, base) = (results.without_logs, base.display());
        note!("cells whose logs are not below {base}, so that tmt can't have them: {without}");
    }
    write(arguments, path, &results.text)
}

/// Writes the errata of the documents. Every record of every run counts, not only the newest.
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
        let sightings = history.as_ref().map(|history| history.entries(cell));
        // If the database cannot be read, the cell has no count; the runs themselves have been read.
        sightings.and_then(Result::ok).unwrap_or_default()
    };
    let mut errata = DocumentErrata::new(runs, matrix, &past);
    if let Some(id) = &arguments.document {
        let known: Vec<String> = errata.documents.iter().map(|document| document.id.clone()).collect();
        errata.documents.retain(|document| document.id == *id);
        if errata.documents.is_empty() {
            let known = known.join(", ");
            return Err(Failure::bad_input(miette::miette!(
                "there is no document `{id}`; the documents are {known}"
            )));
        }
    }
    let path = arguments.output.clone().filter(|path| path != Path::new("-"));
    write(arguments, path, &report::document_errata(&errata))
}

/// The output file; none for standard output.
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
