//! `history`: shows a cell's verdicts in all runs of a folder, and takes runs into the history.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use nestmatrix::contained;
use nestmatrix::history::{CellHistory, FILE, History, HistoryError, Updated, Wanted};
use nestmatrix::report;
use nestmatrix::scenario::Filter;
use nestmatrix_vmm::guest::printable;

use crate::cli::{Format, Results};
use crate::exit::Failure;
use crate::terminal::{note, print, style_of};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Select cells by globs, such as `rhel-10-preview/amd/*`; `*` also matches `/`
    #[arg(value_name = "CELL", required_unless_present = "rebuild")]
    pub cell: Vec<String>,
    /// Show only the newest N verdicts of each cell
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// Show only verdicts since this UTC time, such as `2026-11-22` or `2026-11`
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<String>,
    /// Make a new history from the existing run folders
    ///
    /// The old history is set aside. Only it has the verdicts of runs whose folders are gone.
    #[arg(long)]
    pub rebuild: bool,
    #[command(flatten)]
    pub results: Results,
    /// Print the history in this format; `json` prints one object per cell
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// Parses the beginning of an RFC 3339 time.
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
    let results = arguments.results.folder();
    let filter = Filter::parse(&arguments.cell).map_err(Failure::bad_input)?;
    if !results.is_dir() {
        return Err(Failure::bad_input(miette::miette!("{} is not a folder", results.display())));
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
        let entries = history.entries(&cell).map_err(failure)?;
        let Some(trail) = CellHistory::new(cell, entries, &wanted) else { continue };
        match arguments.format {
            Format::Text if shown => print(&format!("\n{}", report::cell_history(&trail, &style))),
            Format::Text => print(&report::cell_history(&trail, &style)),
            Format::Json => print(&format!("{}\n", serde_json::to_string(&trail).map_err(Failure::error)?)),
        }
        shown = true;
    }
    if !shown {
        note!("no cell in {} matches", history.path().display());
        return Ok(ExitCode::from(4));
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the history with all runs of the folder. If it cannot be written, it is kept in memory.
pub fn up_to_date(results: &Path) -> Result<History, HistoryError> {
    match open_and_feed(results) {
        Err(e @ (HistoryError::Failed { .. } | HistoryError::Folder { .. })) => {
            note!("warning: cannot update the history, new runs are shown but not saved: {e}");
            let mut history = History::in_memory(results)?;
            print_unread(&history.update()?);
            Ok(history)
        }
        other => other,
    }
}

fn rebuild(results: &Path) -> Result<History, HistoryError> {
    let (mut history, aside) = History::anew(results)?;
    if let Some(aside) = aside {
        note!("the former history is now {}", aside.display());
    }
    print_unread(&history.update()?);
    let (runs, verdicts) = history.counts()?;
    note!("{} has {verdicts} verdicts of {runs} runs", history.path().display());
    Ok(history)
}

fn open_and_feed(results: &Path) -> Result<History, HistoryError> {
    let (mut history, aside) = History::open(results)?;
    if let Some(aside) = aside {
        let path = history.path().display();
        note!(
            "warning: {path} was damaged: {}. It is now {}; a new one is made from the run folders",
            aside.why,
            aside.to.display()
        );
    }
    print_unread(&history.update()?);
    Ok(history)
}

fn print_unread(fed: &Updated) {
    for unread in &fed.unread {
        // The reason can quote the file.
        note!("warning: not in the history: {}", printable(&unread.why));
    }
}

/// Takes the runs of the folder into its history. If that fails, nothing is lost: the verdicts are in the run's folder, and the
/// next command that opens the history takes them in.
pub fn feed(results: &Path) {
    if let Err(e) = open_and_feed(results) {
        note!("warning: the run is not in the history yet; its verdicts are in its folder: {e}");
    }
}

/// The history of the folder of runs, if it has one. Creates none.
pub fn if_exists(results: &Path) -> Option<History> {
    if !contained::is_file(results, Path::new(FILE)) {
        return None;
    }
    up_to_date(results).inspect_err(|e| note!("only these two runs show which cells are flaky: {e}")).ok()
}

/// The failure of a command whose history cannot be used.
pub fn failure(e: HistoryError) -> Failure {
    match e {
        HistoryError::Newer { .. } => Failure::bad_input(miette::miette!("{e}")),
        e => Failure::error(e),
    }
}
