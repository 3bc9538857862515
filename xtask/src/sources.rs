//! `sources`: where RPM packages of the vendor's own systems come from.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use nestmatrix::report::{Entry, Line, Role, Table};
use nestmatrix_images::{Catalog, Error, NewSource, Origin, Source, Sources};
use nestmatrix_model::{Isa, PROGRAM};

use crate::cli::{ImageSource, RecipesFolder};
use crate::exit::Failure;
use crate::input;
use crate::kernels::escaped;
use crate::parent_death;
use crate::progress::BuildProgress;
use crate::terminal::{note, print, style_of};

/// Folder of a machine's own repositories.
const HOST_REPOSITORIES: &str = "/etc/yum.repos.d";

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: SourcesCommand,
}

#[derive(Debug, Subcommand)]
enum SourcesCommand {
    /// Add a system's packages: an installation image, repositories, or those of this machine
    Add(Add),
    /// List the added sources
    List(RecipesFolder),
    /// Read a source, and verify one of its packages
    Check(Check),
    /// Remove a source; images that are already built stay in the cache
    Remove(Remove),
}

#[derive(Debug, Args)]
struct Add {
    /// The system and its version, such as rhel-9.4
    #[arg(value_name = "SYSTEM-VERSION")]
    name: String,
    #[command(flatten)]
    place: Place,
    /// Verify the packages with the public keys in this file
    ///
    /// Default: for an image those on it, for this machine's repositories those that it trusts.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The architecture of the packages [default: the image's, or this machine's]
    #[arg(long, value_name = "NAME")]
    architecture: Option<Isa>,
    #[command(flatten)]
    recipes: RecipesFolder,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// Take packages from this installation image (ISO 9660)
    #[arg(long, value_name = "FILE")]
    dvd: Option<PathBuf>,
    /// Take packages from the repository at this address; repeat for several repositories
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// Take packages from the enabled repositories of this machine
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = HOST_REPOSITORIES)]
    host_repositories: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Check {
    /// Check only this source
    #[arg(value_name = "SYSTEM-VERSION")]
    name: Option<String>,
    #[command(flatten)]
    source: ImageSource,
}

#[derive(Debug, Args)]
struct Remove {
    /// The system and its version, such as rhel-9.4
    #[arg(value_name = "SYSTEM-VERSION")]
    name: String,
    /// Remove only the source for this architecture
    #[arg(long, value_name = "NAME")]
    architecture: Option<Isa>,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    match &arguments.command {
        SourcesCommand::Add(add) => self::add(add),
        SourcesCommand::List(folder) => list(&input::recipes(folder)?),
        SourcesCommand::Check(check) => self::check(check),
        SourcesCommand::Remove(remove) => self::remove(remove),
    }
}

fn add(arguments: &Add) -> Result<ExitCode, Failure> {
    let Place { dvd, url, host_repositories } = &arguments.place;
    let origin = match (dvd, host_repositories) {
        (Some(file), _) => Origin::Dvd(file.clone()),
        (None, Some(folder)) => Origin::HostRepositories(folder.clone()),
        (None, None) => Origin::Urls(url.clone()),
    };
    let own_key = arguments.key.is_some();
    let new = NewSource {
        name: arguments.name.clone(),
        isa: arguments.architecture,
        origin,
        key: arguments.key.clone(),
    };
    let wrapper = parent_death::wrapper().map_err(Failure::error)?;
    let mut sources = input::sources()?;
    let source = sources.add(&new, wrapper.words()).map_err(refused)?;
    print(&format!("added {} ({}): {}\n", source.name(), source.isa(), source.origin()));
    let of_whom = match source.origin() {
        _ if own_key => "the given key",
        Origin::Dvd(_) => "the keys on the image itself; use --key FILE for one that you trust",
        Origin::Urls(_) | Origin::HostRepositories(_) => "the keys that this machine trusts",
    };
    print(&format!("packages are verified with {of_whom}:\n"));
    match source.fingerprints(wrapper.words()) {
        Ok(fingerprints) => fingerprints.iter().for_each(|one| print(&format!("  {one}\n"))),
        Err(error) => note!("their fingerprints cannot be shown: {error}"),
    }
    let catalog = input::recipes_with(&arguments.recipes, &sources)?;
    match catalog.of_source(&source) {
        Some(recipe) => print(&format!(
            "images of it: recipe {}; check the source with `{PROGRAM} sources check {}`\n",
            recipe.name(),
            source.name()
        )),
        None => note!("no recipe makes images of {} for {}", source.name(), source.isa()),
    }
    Ok(ExitCode::SUCCESS)
}

/// A wrong source or medium is bad input; a missing tool is not.
pub fn refused(error: Error) -> Failure {
    match error {
        Error::NewSource { .. }
        | Error::NotADvd { .. }
        | Error::NewMedium { .. }
        | Error::Medium(_)
        | Error::Io { .. } => Failure::bad_input(miette::miette!("{}", escaped(&error.to_string()))),
        other => Failure::error(other),
    }
}

fn list(catalog: &Catalog) -> Result<ExitCode, Failure> {
    let sources = input::sources()?;
    if sources.iter().next().is_none() {
        print(&format!("no sources; add one with `{PROGRAM} sources add`\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::default();
    let heading = |text: &str| Entry::new(text, Role::Heading);
    table.push(Line::Entries(["source", "architecture", "recipe", "packages from"].map(heading).to_vec()));
    for source in sources.iter() {
        let recipe = catalog.of_source(source).map_or("none", |recipe| recipe.name());
        let entries =
            [source.name(), source.isa().to_string(), recipe.to_owned(), source.origin().to_string()];
        table.push(Line::Entries(entries.map(|text| Entry::new(text, Role::Plain)).to_vec()));
    }
    print(&table.render(0, &style_of(&stdout())));
    Ok(ExitCode::SUCCESS)
}

fn check(arguments: &Check) -> Result<ExitCode, Failure> {
    let sources = input::sources()?;
    let catalog = input::recipes_with(&arguments.source.folder, &sources)?;
    let store = input::store(&arguments.source)?;
    let chosen: Vec<&Arc<Source>> = match &arguments.name {
        None => sources.iter().collect(),
        Some(name) => sources.iter().filter(|source| source.name() == *name).collect(),
    };
    if let (Some(name), true) = (&arguments.name, chosen.is_empty()) {
        return Err(unknown(name, &sources));
    }
    let mut failures = Vec::new();
    for source in chosen {
        let Some(recipe) = catalog.of_source(source) else {
            print(&format!("{} ({}): no recipe uses it\n", source.name(), source.isa()));
            continue;
        };
        let progress = BuildProgress::new();
        let checked = store.check_source(recipe, &progress);
        progress.finish();
        match checked {
            Ok(Some(check)) => print(&format!(
                "{} ({}): ok; it lists {} packages, and {} needs {} of them ({} MiB)\n",
                source.name(),
                source.isa(),
                check.listed,
                recipe.name(),
                check.wanted,
                check.bytes.div_ceil(1 << 20)
            )),
            Ok(None) => {}
            Err(error) => failures.push((format!("{} ({})", source.name(), source.isa()), error)),
        }
    }
    checked(failures)
}

/// The end of a check of several sources or media, by name. All failures but the first are printed, and that is the command's.
pub fn checked(failures: Vec<(String, Error)>) -> Result<ExitCode, Failure> {
    let mut failures = failures.into_iter();
    let Some((first, error)) = failures.next() else { return Ok(ExitCode::SUCCESS) };
    for (name, error) in failures {
        note!("{name}: {}", escaped(&error.to_string()));
    }
    note!("{first} cannot be used");
    Err(Failure::error(escaped(&error.to_string())))
}

fn remove(arguments: &Remove) -> Result<ExitCode, Failure> {
    let mut sources = input::sources()?;
    let removed = sources.remove(&arguments.name, arguments.architecture).map_err(Failure::error)?;
    if removed == 0 {
        return Err(unknown(&arguments.name, &sources));
    }
    print(&format!("removed {}\n", arguments.name));
    Ok(ExitCode::SUCCESS)
}

fn unknown(name: &str, sources: &Sources) -> Failure {
    let known: Vec<String> = sources.iter().map(|source| source.name()).collect();
    let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
    Failure::bad_input(miette::miette!("there is no source {name}; the sources are: {known}"))
}
