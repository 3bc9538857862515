//! `export-domain`: a level of a cell as libvirt's domain XML.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nestmatrix::domain_xml::Export;
use nestmatrix::report::Listing;
use nestmatrix::run::supply;
use nestmatrix::scenario::{Cell, Denied, Filter, LevelSpec, Matrix};
use nestmatrix_images::{Catalog, Product};
use nestmatrix_model::LevelNumber;
use nestmatrix_model::architecture::ArchInfo;

use crate::cli::{RecipesFolder, ScenariosFolder, Selection};
use crate::exit::Failure;
use crate::import_domain::{refused, write_file};
use crate::{input, output};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The cell: its name, or a glob that matches only one cell
    cell: String,
    /// Export this level: L1, L2 or L3
    #[arg(long, default_value = "l1", value_parser = crate::cli::level)]
    level: LevelNumber,
    /// Write the XML to FILE [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace FILE if it exists
    #[arg(long, requires = "output")]
    force: bool,
    /// Write paths of images as if they were in this folder, as they are in an unpacked bundle
    #[arg(long, value_name = "DIR", default_value = "/var/lib/libvirt/images")]
    images: PathBuf,
    #[command(flatten)]
    folder: ScenariosFolder,
    #[command(flatten)]
    recipes: RecipesFolder,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask export-domain 'rhel-10-preview/amd/rhel-10.0+/rhel-10.0+/rhel-10.0+'
  cargo xtask export-domain CELL --level l1 --images \"$PWD/bundle/images\" --output L1.xml

docs/domain-xml.md describes what is exported.";

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let selection = Selection {
        filter: vec![arguments.cell.clone()],
        folder: ScenariosFolder { scenarios: arguments.folder.scenarios.clone() },
        deny_rebuilds: false,
        deny_stand_ins: false,
    };
    let (matrix, filter) = input::scenarios(&selection)?;
    let Some(cell) = input::one_cell(&matrix, &filter, "an export needs")? else {
        return Ok(input::no_cell());
    };
    if !arguments.images.is_absolute() {
        return Err(refused(format!(
            "--images {}: libvirt takes absolute paths only",
            arguments.images.display()
        )));
    }
    let catalog = input::recipes(&arguments.recipes)?;
    let images = images(&matrix, &filter, &catalog, cell, &arguments.images)?;
    let export = Export { cell, level: arguments.level, images };
    let emulator = format!("/usr/bin/{}", ArchInfo::of(cell.architecture).qemu);
    let xml = export.xml(&emulator).map_err(refused)?;
    match &arguments.output {
        Some(file) => write_file(file, &xml, arguments.force)?,
        None => output::write_stdout(&xml)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder of each level's image, named as in a bundle.
fn images(
    matrix: &Matrix,
    filter: &Filter,
    catalog: &Catalog,
    cell: &Cell,
    folder: &Path,
) -> Result<BTreeMap<LevelNumber, PathBuf>, Failure> {
    let listing = Listing::new(matrix, filter, &supply(catalog), Denied::default());
    // A level that no image can boot here is exported, too: its hardware is known.
    let unknown = |spec: &LevelSpec| (spec.level, folder.join(spec.system.slug()));
    let mut folders: BTreeMap<LevelNumber, PathBuf> = cell.levels.iter().map(unknown).collect();
    for row in listing.rows() {
        for (level, row) in row.levels.iter().filter(|(level, _)| level.below().is_some()) {
            let Some(image) = &row.image else { continue };
            let recipe = format!("{image}-{}", cell.architecture.isa().info().debian);
            if catalog.get(&recipe).is_some_and(|recipe| recipe.disk().is_some()) {
                return Err(refused(format!(
                    "{level} of {} boots from a disk ({image}), and only levels made of packages are exported",
                    cell.name
                )));
            }
            let product = if *level == cell.innermost() { Product::Minimal } else { Product::Hypervisor };
            folders.insert(*level, folder.join(format!("{recipe}-{product}")));
        }
    }
    Ok(folders)
}
