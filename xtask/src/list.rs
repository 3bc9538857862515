//! `list`: lists the matrix's cells, its claims, its images, or the machines that could run it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use nestmatrix::ci::Machines;
use nestmatrix::media::MediumRow;
use nestmatrix::report::{self, ClaimListing, ImageListing, Listing};
use nestmatrix::run::{NativeMetal, NativeMetals, PlanOptions, RunPlan, supply};
use nestmatrix::scenario::{Cell, Filter, Matrix};
use nestmatrix_images::Catalog;
use nestmatrix_model::Architecture;
use serde_json::json;

use crate::cli::{Format, RecipesFolder, Selection};
use crate::exit::Failure;
use crate::terminal::style_of;
use crate::{input, runtime};

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub selection: Selection,
    /// Select the cells of a profile in profiles.toml
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    #[command(flatten)]
    pub folder: RecipesFolder,
    /// List claims with the cells that test them, and contradictions between documents
    ///
    /// A claim is decided, observed, major version only, undecided, skipped or untestable; see docs/scenarios.md.
    #[arg(long, conflicts_with_all = ["filter", "profile"])]
    pub claims: bool,
    /// List the kinds of machines that could run the cells, given an image of every system
    #[arg(long, conflicts_with = "claims")]
    pub machines: bool,
    /// Show the cells that this machine skips, by cause
    #[arg(long, conflicts_with_all = ["claims", "machines"])]
    pub skipped: bool,
    /// List the images that are more than stand-ins, with the cells that run on them
    #[arg(long, conflicts_with_all = ["claims", "machines", "skipped"])]
    pub images: bool,
    /// Print the list in this format
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

pub fn run(arguments: &List) -> Result<ExitCode, Failure> {
    let (matrix, filter) = input::selection(&arguments.selection, arguments.profile.as_deref())?;
    let catalog = input::recipes(&arguments.folder)?;
    let style = style_of(&io::stdout());
    if arguments.machines {
        let cells = cells(&matrix, &filter);
        if cells.is_empty() {
            return Ok(input::no_cell());
        }
        let machines = Machines::new(&cells, &matrix, &catalog);
        let rows = machines.cells().iter().map(serde_json::to_string);
        return print(&report::machines(&machines, &style), rows, arguments.format);
    }
    if arguments.skipped {
        let cells = cells(&matrix, &filter);
        if cells.is_empty() {
            return Ok(input::no_cell());
        }
        let plan = plan(arguments, cells, &matrix, &catalog)?;
        let rows = plan
            .skipped()
            .map(|(cell, reasons)| serde_json::to_string(&json!({ "cell": cell.name, "reasons": reasons })));
        return print(&report::skipped(&plan, &style), rows, arguments.format);
    }
    let media = MediumRow::all(&catalog);
    let denied = arguments.selection.denied();
    let list = |catalog: &Catalog| Listing::new(&matrix, &filter, &supply(catalog), denied);
    let documented = report::documented(&catalog, list);
    let supply = supply(&catalog);
    if arguments.claims {
        let listing = ClaimListing::new(&matrix, &supply, denied);
        let text = format!("{listing}{documented}{}", report::media(&media, |_| false, &style));
        return print(&text, listing.rows().map(serde_json::to_string), arguments.format);
    }
    if arguments.images {
        let listing = ImageListing::new(&matrix, &filter, &supply, denied, &media);
        let rows = listing.rows().iter().map(serde_json::to_string);
        let text = report::images(&listing, &style) + &documented.to_string();
        return print(&text, rows, arguments.format);
    }
    let listing = list(&catalog);
    if listing.rows().is_empty() {
        return Ok(input::no_cell());
    }
    let rows = listing.rows().iter().map(serde_json::to_string);
    let media = report::media(&media, |image| listing.boots(image), &style);
    print(&format!("{}{documented}{media}", report::listing(&listing, &style)), rows, arguments.format)
}

fn cells(matrix: &Matrix, filter: &Filter) -> Vec<Cell> {
    matrix.cells().iter().filter(|cell| filter.matches(&cell.name)).cloned().collect()
}

/// The plan of a run of these cells on this machine. No trial guest is booted.
fn plan(arguments: &List, cells: Vec<Cell>, matrix: &Matrix, catalog: &Catalog) -> Result<RunPlan, Failure> {
    let architectures: BTreeSet<Architecture> = cells.iter().map(|cell| cell.architecture).collect();
    let natives = runtime::block_on(async {
        let mut natives = NativeMetals::new();
        for architecture in architectures {
            natives.insert(architecture, NativeMetal::reported(architecture).await);
        }
        Ok(natives)
    })?;
    let options = PlanOptions { denied: arguments.selection.denied(), ..PlanOptions::default() };
    Ok(RunPlan::new(cells, matrix, catalog, &natives, &options))
}

/// Prints the text, or the rows as JSON.
fn print(
    text: &str,
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
