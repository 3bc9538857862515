//! `list`: lists the matrix's cells, its claims, or the machines that could run it.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use nestmatrix::ci::Machines;
use nestmatrix::report::{ClaimListing, Listing};
use nestmatrix::run::supply;

use crate::cli::{Format, List};
use crate::exit::Failure;
use crate::input;

pub fn run(arguments: &List) -> Result<ExitCode, Failure> {
    let (matrix, filter) = input::selection(&arguments.selection, arguments.profile.as_deref())?;
    let catalog = input::recipes(&arguments.folder)?;
    if arguments.machines {
        let cells =
            matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).cloned().collect::<Vec<_>>();
        if cells.is_empty() {
            return Ok(input::no_cell());
        }
        let machines = Machines::new(&cells, &matrix, &catalog);
        return print(&machines, machines.cells().iter().map(serde_json::to_string), arguments.format);
    }
    let supply = supply(&catalog);
    let deny_stand_ins = arguments.selection.deny_stand_ins;
    if arguments.claims {
        let listing = ClaimListing::new(&matrix, &supply, deny_stand_ins);
        return print(&listing, listing.rows().map(serde_json::to_string), arguments.format);
    }
    let listing = Listing::new(&matrix, &filter, &supply, deny_stand_ins);
    if listing.rows().is_empty() {
        return Ok(input::no_cell());
    }
    print(&listing, listing.rows().iter().map(serde_json::to_string), arguments.format)
}

/// Prints the text, or the rows as JSON.
fn print(
    text: &dyn Display,
    mut rows: impl Iterator<Item = serde_json::Result<String>>,
    format: Format,
) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    let written = match format {
        Format::Text => write!(out, "{text}"),
        Format::Json => rows.try_for_each(|row| writeln!(out, "{}", row?)),
    };
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::error(format!("failed to print: {e}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
