//! `dist`: packs this program and its data into an archive that runs on machines without Rust and without a checkout.

mod archive;
mod licences;
mod program;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use clap::Args;
use nestmatrix_images::Recipe;
use nestmatrix_model::IS_FROM_ARCHIVE;

use crate::cli::ImageSource;
use crate::exit::Failure;
use crate::images;
use crate::input;
use crate::progress::BuildProgress;
use crate::settings::{self, SHIPPED_IMAGES};
use crate::terminal::print;
use program::Built;

#[derive(Debug, Args)]
#[command(after_help = "\
The archive has one folder: the program `nestmatrix`, scenarios, recipes, documentation, VERSION and licences.
The program is linked statically, so it runs on older systems than this one. The same sources, compiler and images
make the same archive.

Examples:
  cargo xtask dist
  cargo xtask dist --images debian-13-amd64,qemu-x86-amd64 --output nestmatrix.tar.gz

docs/dist.md describes the archive.")]
pub struct Arguments {
    /// Write the archive to this file [default: target/dist/nestmatrix-VERSION-ARCHITECTURE.tar.gz]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Add the images of these recipes, so that machines without apt and without a network can boot them
    #[arg(long, value_name = "RECIPE", value_delimiter = ',', num_args = 1..)]
    images: Vec<String>,
    #[command(flatten)]
    source: ImageSource,
}

/// The folders and files of the checkout that are in the archive, under the same names.
const DATA: [&str; 6] = ["scenarios", "images/recipes", "docs", "README.md", "LICENSE-MIT", "LICENSE-APACHE"];

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    if IS_FROM_ARCHIVE {
        let why = "an archive is made from a checkout, and this program came in one; run `cargo xtask dist` in a checkout of nestmatrix";
        return Err(Failure::bad_input(miette::miette!("{why}")));
    }
    let checkout = settings::data().canonicalize().map_err(Failure::error)?;
    // First, since a wrong name should not cost the time to compile.
    let images = images_of(arguments)?;
    let built = program::build(&checkout)?;
    let written = tempfile::tempdir().map_err(Failure::error)?;
    licences::write(&checkout, &built, written.path())?;
    std::fs::write(written.path().join("VERSION"), version(&checkout, &built)).map_err(Failure::error)?;

    let name = format!("nestmatrix-{}-{}", env!("CARGO_PKG_VERSION"), built.architecture());
    let output = match &arguments.output {
        Some(output) => output.clone(),
        None => checkout.join("target/dist").join(format!("{name}.tar.gz")),
    };
    let parts = [(built.program.clone(), "nestmatrix".into())];
    let parts = parts.into_iter().chain(DATA.map(|data| (checkout.join(data), data.into())));
    let own = ["VERSION", licences::FOLDER].map(|made| (written.path().join(made), made.into()));
    let mut parts: Vec<(PathBuf, PathBuf)> = parts.chain(own).chain(images).collect();
    parts.sort_by(|one, other| one.1.cmp(&other.1));
    let finished = archive::write(&output, &name, |archive| {
        parts.iter().try_for_each(|(path, name)| archive.add(path, name))
    });
    let finished =
        finished.map_err(|e| Failure::error(format!("failed to write {}: {e}", output.display())))?;
    print(&format!(
        "{}: {:.1} MiB, SHA-256 {}\n",
        input::short(&output).display(),
        finished.bytes as f64 / f64::from(1 << 20),
        finished.sha256
    ));
    Ok(ExitCode::SUCCESS)
}

/// The files of the images, and their names in the archive. Images that are missing are built.
fn images_of(arguments: &Arguments) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    if arguments.images.is_empty() {
        return Ok(Vec::new());
    }
    let catalog = input::recipes(&arguments.source.folder)?;
    let store = input::store(&arguments.source)?;
    let find = |name: &String| {
        let recipe = images::find(&catalog, name)?;
        // The overlay of a disk needs the user's medium, whose licence does not let it be passed on anyway.
        let own_disk = || {
            miette::miette!(
                "{name} is the image of a medium of yours; add the medium where the archive is used"
            )
        };
        if recipe.disk().is_some() { Err(Failure::bad_input(own_disk())) } else { Ok(recipe) }
    };
    let recipes: Vec<&Recipe> = arguments.images.iter().map(find).collect::<Result<_, _>>()?;
    let wanted: Vec<_> = recipes
        .iter()
        .flat_map(|recipe| recipe.products().into_iter().map(move |product| (*recipe, product)))
        .collect();
    let progress = Arc::new(BuildProgress::new());
    store.ensure_all(&wanted, &*progress).map_err(Failure::error)?;
    progress.finish();
    let files = recipes.iter().flat_map(|recipe| store.to_ship(recipe));
    let mut files: Vec<_> =
        files.map(|file| (store.cache().join(&file), Path::new(SHIPPED_IMAGES).join(&file))).collect();
    // Recipes can share an image.
    files.sort();
    files.dedup();
    Ok(files)
}

/// What VERSION says: what the program was made of.
fn version(checkout: &Path, built: &Built) -> String {
    format!(
        "nestmatrix {}\ncommit {}\ntarget {}\n{}\n",
        env!("CARGO_PKG_VERSION"),
        commit(checkout).unwrap_or_else(|| "unknown".to_owned()),
        built.target,
        built.compiler,
    )
}

/// The commit of the checkout, and whether files differ from it; none without git.
fn commit(checkout: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(checkout).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain"])?;
    Some(if changes.is_empty() { commit } else { format!("{commit}, with uncommitted changes") })
}
