//! `media`: disk images that levels boot as their vendor publishes them.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use nestmatrix::media::MediumRow;
use nestmatrix::report::{Entry, Line, Role, Table};
use nestmatrix_images::{
    Catalog, DiskImage, Image, Media, Medium, MediumUse, NewMedium, Product, QemuImg, Recipe, Store,
};
use nestmatrix_model::{Isa, PROGRAM};

use crate::cli::{ImageSource, RecipesFolder};
use crate::exit::Failure;
use crate::input;
use crate::kernels::escaped;
use crate::media_prepare;
use crate::progress::BuildProgress;
use crate::sources::{checked, refused};
use crate::terminal::{note, print, style_of};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: MediaCommand,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask media add rhel-10.0 rhel-10.0-x86_64-kvm.qcow2
  cargo xtask sources add rhel-10.0 --dvd rhel-10.0-x86_64-dvd.iso   # QEMU, to host guests
  cargo xtask media prepare rhel-10.0
  cargo xtask media add windows-server-2022 windows.iso --drivers virtio-win.iso
  cargo xtask media prepare windows-server-2022 --role hyper-v
  cargo xtask list --images                                          # the cells that boot it

docs/media.md describes which files are accepted, and what preparation changes; docs/windows.md
is about Windows.";

#[derive(Debug, Subcommand)]
enum MediaCommand {
    /// Add a disk image of a system; the file stays where it is and is never written to
    Add(Add),
    /// List the added media, whether they are prepared, and what restricts their use
    List(RecipesFolder),
    /// Show what is recorded of a medium, and what its preparation changed
    Show(Show),
    /// Compare media with the SHA-256 that they had when they were added
    Check(Check),
    /// Prepare media now; otherwise the first run that needs one does
    Prepare(media_prepare::Arguments),
    /// Remove a medium from the list; its file stays, and its prepared disk until `images prune`
    Remove(Remove),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 if it was added, 2 if the file can't be a medium, 3 for any other error")]
struct Add {
    /// The system and its version, such as rhel-9.4
    #[arg(value_name = "SYSTEM-VERSION")]
    name: String,
    /// The disk image: qcow2, raw, vhdx, vmdk or vpc (.vhd); for Windows also its installation image
    file: PathBuf,
    /// Name the CD image with Windows' drivers and guest agent, virtio-win.iso
    #[arg(long, value_name = "FILE")]
    drivers: Option<PathBuf>,
    /// Name a file that a Windows role needs, such as wsl.msi=wsl.2.4.x64.msi; repeatable
    #[arg(long = "file", value_name = "NAME=PATH", value_parser = named_file)]
    files: Vec<(String, PathBuf)>,
    /// Refuse the file if its SHA-256 is another one
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// The architecture of the system [default: this machine's]
    #[arg(long, value_name = "NAME")]
    architecture: Option<Isa>,
    #[command(flatten)]
    source: ImageSource,
}

#[derive(Debug, Args)]
struct Show {
    /// The system and its version, such as rhel-9.4
    #[arg(value_name = "SYSTEM-VERSION")]
    name: String,
    #[command(flatten)]
    source: ImageSource,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 if all are unchanged, 3 if one has changed or can't be read")]
struct Check {
    /// Check only this medium
    #[arg(value_name = "SYSTEM-VERSION")]
    name: Option<String>,
}

#[derive(Debug, Args)]
struct Remove {
    /// The system and its version, such as rhel-9.4
    #[arg(value_name = "SYSTEM-VERSION")]
    name: String,
    /// Remove only the medium for this architecture
    #[arg(long, value_name = "NAME")]
    architecture: Option<Isa>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        MediaCommand::Add(add) => self::add(add),
        MediaCommand::List(folder) => list(&input::recipes(folder)?),
        MediaCommand::Show(show) => self::show(show),
        MediaCommand::Check(check) => self::check(check),
        MediaCommand::Prepare(prepare) => media_prepare::run(prepare),
        MediaCommand::Remove(remove) => self::remove(remove),
    }
}

fn add(arguments: &Add) -> Result<ExitCode, Failure> {
    let Add { name, file, drivers, files, sha256, architecture, source } = arguments;
    let (catalog, store) = (input::recipes(&source.folder)?, input::store(source)?);
    let isa = architecture.or_else(Isa::of_this_machine);
    let new = NewMedium {
        name: name.clone(),
        file: file.clone(),
        sha256: sha256.clone(),
        isa: *architecture,
        installs: isa.is_some_and(|isa| catalog.installs(name, isa)),
        drivers: drivers.clone(),
        files: files.clone(),
    };
    let progress = BuildProgress::new();
    let mut media = input::media()?;
    let added = QemuImg::find(&store, &catalog, &progress).and_then(|tool| media.add(&new, &tool, &progress));
    progress.finish();
    let medium = added.map_err(refused)?;
    print(&format!("added {} ({}): {}\n", medium.name(), medium.isa(), medium.file().display()));
    describe(&medium);
    let catalog = input::recipes(&source.folder)?;
    let rows = MediumRow::all(&catalog);
    let Some(row) = rows.iter().find(|row| row.medium == medium.name() && row.architecture == medium.isa())
    else {
        return Ok(ExitCode::SUCCESS);
    };
    let Some(recipe) = &row.recipe else {
        note!("no recipe makes an image of {} for {}", medium.name(), medium.isa());
        return Ok(ExitCode::SUCCESS);
    };
    print(&format!("image of it: {}, recipe {recipe}\n", row.image));
    if let Some(why) = &row.innermost_only {
        print(&format!("it can only be the innermost level: {why}\n"));
    }
    let mut next: Vec<String> = row.remedy.iter().cloned().collect();
    if row.preparation == "not prepared" {
        next.push(format!("{PROGRAM} media prepare {}", row.medium));
        let roles = catalog.roles_of(&row.medium, row.architecture);
        next.extend(roles.map(|role| format!("{PROGRAM} media prepare {} --role {role}", row.medium)));
    }
    next.push(format!("{PROGRAM} list --images"));
    next.iter().for_each(|command| print(&format!("  $ {command}\n")));
    Ok(ExitCode::SUCCESS)
}

fn describe(medium: &Medium) {
    print(&format!("  format  {}\n", medium.format()));
    print(&format!("  size    {} MiB, a disk of {} MiB\n", mib(medium.size()), mib(medium.virtual_size())));
    print(&format!("  sha256  {}\n", medium.sha256()));
    for (what, file, sha256) in medium.files_beside() {
        print(&format!("  {what:<7} {}\n          sha256 {sha256}\n", file.display()));
    }
}

/// The value of `--file`.
fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("write NAME=PATH")?;
    Ok((name.to_owned(), path.into()))
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn list(catalog: &Catalog) -> Result<ExitCode, Failure> {
    let media = input::media()?;
    if media.iter().next().is_none() {
        print(&format!("no media; add one with `{PROGRAM} media add`\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::default();
    let heading = |text: &str| Entry::new(text, Role::Heading);
    let heads = ["medium", "architecture", "recipe", "state", "format", "file"];
    table.push(Line::Entries(heads.map(heading).to_vec()));
    let rows: Vec<MediumRow> = catalog.uses_of_media().iter().map(MediumRow::new).collect();
    for (medium, row) in media.iter().zip(&rows) {
        let entries = [
            medium.name(),
            medium.isa().to_string(),
            row.recipe.clone().unwrap_or_else(|| "none".to_owned()),
            row.state().to_owned(),
            medium.format().to_string(),
            medium.file().display().to_string(),
        ];
        table.push(Line::Entries(entries.map(|text| Entry::new(text, Role::Plain)).to_vec()));
    }
    print(&table.render(0, &style_of(&stdout())));
    for row in &rows {
        for note in row.notes() {
            print(&format!("{} ({}): {}\n", row.medium, row.architecture, escaped(&note)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(arguments: &Show) -> Result<ExitCode, Failure> {
    let media = input::media()?;
    let chosen = named(&media, &arguments.name)?;
    let (catalog, store) = (input::recipes(&arguments.source.folder)?, input::store(&arguments.source)?);
    for medium in chosen {
        print(&format!("{} ({}): {}\n", medium.name(), medium.isa(), medium.file().display()));
        describe(medium);
        print(&format!("  record  {}\n", medium.record().display()));
        show_image(medium, None, &catalog, &store);
        for role in catalog.roles_of(&medium.name(), medium.isa()) {
            show_image(medium, Some(role), &catalog, &store);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints what is known of the image of a medium, in a role or the one that hosts nothing. Its files are not read.
pub fn show_image(medium: &Medium, role: Option<&str>, catalog: &Catalog, store: &Store) {
    let uses = catalog.uses_of_media();
    let is_it = |of: &&MediumUse<'_>| of.medium.name() == medium.name() && of.medium.isa() == medium.isa();
    let Some(of) = uses.iter().find(is_it) else { return };
    let recipe = match (of.recipe, role) {
        (Some(recipe), Some(role)) => catalog.with_addition(recipe.name(), role),
        (recipe, _) => recipe,
    };
    let name = role.map_or_else(|| of.image(), |role| format!("{}+{role}", of.image()));
    print(&format!("  recipe  {}\n", recipe.map_or("none", Recipe::name)));
    print(&format!("  image   {name}\n"));
    let image = recipe.and_then(|recipe| store.recorded(recipe, Product::Disk));
    let is_to_prepare = recipe.and_then(Recipe::disk).is_some_and(|disk| disk.needs_preparation());
    match &image {
        Some(image) => {
            let (size, folder) = (mib(image.size()), image.folder().display());
            let state = if is_to_prepare { "prepared" } else { of.preparation() };
            print(&format!("{state}: {size} MiB in {folder}\n"));
        }
        None if is_to_prepare => print("not prepared\n"),
        None => print(&format!("{}\n", of.preparation())),
    }
    if let Some(DiskImage { kernel_release, os_release, qemu, firmware, changes, .. }) =
        image.as_ref().and_then(Image::disk_image)
    {
        let known = [
            ("digest", image.map(|image| image.digest().to_string())),
            ("system", os_release.map(|os| format!("{} {}", os.id, os.version))),
            ("kernel", kernel_release),
            ("qemu", qemu.map(|qemu| qemu.version)),
            ("uefi", firmware.map(|firmware| firmware.version)),
        ];
        for (what, value) in known.into_iter().filter_map(|(what, value)| Some((what, value?))) {
            print(&format!("  {what:<7} {}\n", escaped(&value)));
        }
        for change in changes {
            print(&format!("  changed {}\n", escaped(&change)));
        }
    }
    let row = MediumRow::new(of);
    for note in row.notes() {
        print(&format!("note: {}\n", escaped(&note)));
    }
}

fn check(arguments: &Check) -> Result<ExitCode, Failure> {
    let media = input::media()?;
    let chosen = match &arguments.name {
        None => media.iter().collect(),
        Some(name) => named(&media, name)?,
    };
    let mut failures = Vec::new();
    for medium in chosen {
        let progress = BuildProgress::new();
        let checked = medium.verify(&progress);
        progress.finish();
        match checked {
            Ok(()) => print(&format!("{} ({}): ok\n", medium.name(), medium.isa())),
            Err(error) => failures.push((format!("{} ({})", medium.name(), medium.isa()), error)),
        }
    }
    checked(failures)
}

fn remove(arguments: &Remove) -> Result<ExitCode, Failure> {
    let mut media = input::media()?;
    named(&media, &arguments.name)?;
    let removed = media.remove(&arguments.name, arguments.architecture).map_err(Failure::error)?;
    if let (0, Some(isa)) = (removed, arguments.architecture) {
        return Err(Failure::bad_input(miette::miette!("there is no medium {} for {isa}", arguments.name)));
    }
    print(&format!("removed {}\n", arguments.name));
    Ok(ExitCode::SUCCESS)
}

/// The media of this name.
pub fn named<'m>(media: &'m Media, name: &'m str) -> Result<Vec<&'m Arc<Medium>>, Failure> {
    let found: Vec<_> = media.named(name).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let known: Vec<String> = media.iter().map(|medium| medium.name()).collect();
    let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
    Err(Failure::bad_input(miette::miette!("there is no medium {name}; the media are: {known}")))
}
