//! `list`: the matrix as the documents lay it out.

use std::io::{self, Write};
use std::process::ExitCode;

use nestmatrix::run::available_images;
use nestmatrix::scenario::Listing;

use crate::cli::{Format, List};
use crate::exit::Failure;
use crate::input;

pub fn run(arguments: &List) -> Result<ExitCode, Failure> {
    let (matrix, filter) = input::scenarios(&arguments.selection)?;
    let catalog = input::recipes(&arguments.recipes)?;
    let images = available_images(&catalog, "amd64");
    let listing = Listing::new(&matrix, &filter, &images, arguments.selection.deny_stand_ins);
    if listing.rows().is_empty() {
        eprintln!("no cell matches; `cargo xtask list` shows all of them");
        return Ok(ExitCode::from(4));
    }
    let mut out = io::stdout().lock();
    let written = match arguments.format {
        Format::Text => write!(out, "{listing}"),
        Format::Json => listing.rows().iter().try_for_each(|row| {
            serde_json::to_writer(&mut out, row)?;
            writeln!(out)
        }),
    };
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::error(format!("failed to print: {e}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
