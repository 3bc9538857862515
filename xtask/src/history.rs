//! `history`: what the runs of a folder of results saw of a cell, one after the other; and how runs come into it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nestmatrix::contained;
use nestmatrix::history::{CellHistory, FILE, Fed, History, HistoryError, Wanted};
use nestmatrix::report;
use nestmatrix::scenario::Filter;
use nestmatrix_vmm::guest::printable;

use crate::cli::Format;
use crate::exit::Failure;
use crate::run_matrix::{results, say, style_of};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Cells, by globs, such as `rhel-10-preview/amd/*`; `*` also crosses `/`
    #[arg(value_name = "CELL", required_unless_present = "rebuild")]
    pub cell: Vec<String>,
    /// Only the newest N verdicts of each cell
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// Only verdicts since this time, UTC: `2026-11-22`, or the beginning of one, such as `2026-11`
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<String>,
    /// Set the history aside and make a new one from the runs that are there; verdicts of runs whose folders are gone are only in
    /// the old one then
    #[arg(long)]
    pub rebuild: bool,
    /// Folder of all runs [default: results in the checkout]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// How the history is printed; `json` is one object a cell
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// The beginning of a time as RFC 3339 writes it.
fn since(text: &str) -> Result<String, String> {
    const FORM: &str = "0000-00-00T00:00:00Z";
    let fits = text.len() <= FORM.len()
        && text.bytes().zip(FORM.bytes()).all(|(given, form)| match form {
            b'0' => given.is_ascii_digit(),
            form => given == form,
        });
    if fits && text.len() >= 4 {
        Ok(text.to_owned())
    } else {
        Err("it must be a time such as 2026-11-22 or 2026-11-22T20:15:00Z".to_owned())
    }
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let results = arguments.results.clone().unwrap_or_else(results);
    let filter = Filter::parse(&arguments.cell).map_err(Failure::bad_input)?;
    if !results.is_dir() {
        return Err(Failure::bad_input(miette::miette!("{} is no folder of results", results.display())));
    }
    let history = if arguments.rebuild { rebuild(&results) } else { up_to_date(&results) };
    let history = history.map_err(failure)?;
    if arguments.cell.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = Wanted {
        newest: arguments.runs.map(|runs| usize::try_from(runs).unwrap_or(usize::MAX)),
        since: arguments.since.clone(),
    };
    let style = style_of(&std::io::stdout());
    let mut shown = false;
    for cell in history.cells().map_err(failure)?.into_iter().filter(|cell| filter.matches(cell)) {
        let sightings = history.sightings(&cell).map_err(failure)?;
        let Some(trail) = CellHistory::new(cell, sightings, &wanted) else { continue };
        match arguments.format {
            Format::Text if shown => say(&format!("\n{}", report::trail(&trail, &style))),
            Format::Text => say(&report::trail(&trail, &style)),
            Format::Json => say(&format!("{}\n", serde_json::to_string(&trail).map_err(Failure::error)?)),
        }
        shown = true;
    }
    if !shown {
        eprintln!("no cell in {} matches", history.path().display());
        return Ok(ExitCode::from(4));
    }
    Ok(ExitCode::SUCCESS)
}

/// The history with all runs that are there; in memory alone, where nothing can be written.
pub fn up_to_date(results: &Path) -> Result<History, HistoryError> {
    match open_and_feed(results) {
        Err(e @ (HistoryError::Failed { .. } | HistoryError::Folder { .. })) => {
            eprintln!("warning: what is new is shown, but not kept: {e}");
            let mut history = History::in_memory(results)?;
            tell(&history.handle_event()?);
            Ok(history)
        }
        other => other,
    }
}

fn rebuild(results: &Path) -> Result<History, HistoryError> {
    let (mut history, aside) = History::anew(results)?;
    if let Some(aside) = aside {
        eprintln!("the history that was there is now {}", aside.display());
    }
    tell(&history.handle_event()?);
    let (runs, verdicts) = history.counts()?;
    eprintln!("{} has {verdicts} verdicts of {runs} runs", history.path().display());
    Ok(history)
}

fn open_and_feed(results: &Path) -> Result<History, HistoryError> {
    let (mut history, aside) = History::open(results)?;
    if let Some(aside) = aside {
        let path = history.path().display();
        eprintln!(
            "warning: {path} was damaged: {}. It is now {}; a new one is made from the runs that are there",
            aside.why,
            aside.to.display()
        );
    }
    tell(&history.handle_event()?);
    Ok(history)
}

fn tell(fed: &Fed) {
    for unread in &fed.unread {
        // It may quote what stands in the file.
        eprintln!("warning: not in the history: {}", printable(&unread.why));
    }
}

/// Takes the runs in the folder of results into its history. What goes wrong there changes nothing about a run: it has its verdicts
/// in its folder, and comes in when the history is next opened.
pub fn feed(results: &Path) {
    if let Err(e) = open_and_feed(results) {
        eprintln!("warning: the run is not in the history yet, its verdicts are in its folder: {e}");
    }
}

/// The history of the folder of results, for who only wants to know more; none where there is none, and nothing is made.
pub fn if_there(results: &Path) -> Option<History> {
    if !contained::is_file(results, Path::new(FILE)) {
        return None;
    }
    up_to_date(results).inspect_err(|e| eprintln!("what is flaky is told by two runs alone: {e}")).ok()
}

/// What goes wrong with a history, as a failure of the command.
pub fn failure(e: HistoryError) -> Failure {
    match e {
        HistoryError::Newer { .. } => Failure::bad_input(miette::miette!("{e}")),
        e => Failure::error(e),
    }
}
