//! `import-domain`: a machine of libvirt's as a scenario.

use std::fs;
use std::io::{self, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nestmatrix::domain_xml::{DomainXml, Import, ImportOptions, ScenarioText};
use nestmatrix::report;
use nestmatrix::scenario::{Matrix, ScenarioProblem};
use nestmatrix_images::NewFile;
use nestmatrix_model::{Architecture, LevelNumber, PROGRAM};
use nestmatrix_vmm::shell::quote;

use crate::exit::Failure;
use crate::input;
use crate::terminal::{print, style_of};

/// The folder of scenarios that are made of domains, and the product line in it, unless the user names a file.
const FOLDER: &str = "imported/domains";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The domain, as `virsh dumpxml` prints it
    #[arg(value_name = "XML")]
    file: PathBuf,
    /// Make it this level: L1 or L2
    #[arg(long, default_value = "l1", value_parser = guest_level)]
    level: LevelNumber,
    /// Write the scenario to FILE, in the folder of a product line [default: imported/domains/NAME.toml]
    ///
    /// Its document is written to the folder `documents` next to that folder. The scenario is named after FILE.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
    /// Choose the architecture [default: what the XML names, and the vendor that its CPU points to]
    #[arg(long, value_name = "NAME")]
    architecture: Option<Architecture>,
    /// Give the level a restricted network if the domain has an interface
    #[arg(long)]
    network: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask import-domain win11.xml
  cargo xtask run-matrix --scenarios imported 'win11/*'
  cargo xtask import-domain win11.xml --output my-matrix/bugs/bug-1234.toml

docs/domain-xml.md describes what is imported, and what to edit.";

fn guest_level(text: &str) -> Result<LevelNumber, String> {
    let is_guest = |level: &LevelNumber| matches!(level.number(), 1 | 2);
    crate::cli::level(text).ok().filter(is_guest).ok_or_else(|| "the levels are L1, L2".to_owned())
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let options = ImportOptions { architecture: arguments.architecture, network: arguments.network };
    let file = DomainXml::read(&arguments.file).map_err(Failure::bad_input)?;
    let import = Import::new(&file, arguments.level, &options).map_err(Failure::bad_input)?;
    let (files, text) = match &arguments.output {
        Some(output) => {
            let stem = output.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let text = ScenarioText::new(&import, Some(stem));
            if text.name != stem {
                let why = format!(
                    "{} can't be the name of a scenario; write it in small letters and digits, in words joined by `-`, \
                     such as {}",
                    output.display(),
                    text.name
                );
                return Err(refused(why));
            }
            (Files::of(output, &text.name)?, text)
        }
        None => {
            let text = ScenarioText::new(&import, None);
            (Files::of(&Path::new(FOLDER).join(format!("{}.toml", text.name)), &text.name)?, text)
        }
    };
    files.check_names(&text, arguments.force)?;
    check(&files.root, &text)?;
    files.write(&text, arguments.force)?;
    print(&report::domain_import(&import, &style_of(&stdout())));
    let (root, name) = (shown_root(&files.root), &text.name);
    print(&format!("\n{}\n{}\n", files.scenario.display(), files.document.display()));
    print(&format!("  $ {PROGRAM} run-matrix --scenarios {root} '{name}/*'\n"));
    Ok(ExitCode::SUCCESS)
}

pub fn refused(why: impl std::fmt::Display) -> Failure {
    Failure::bad_input(miette::miette!("{why}"))
}

/// Where the files of an import are.
struct Files {
    /// The folder that `--scenarios` names.
    root: PathBuf,
    scenario: PathBuf,
    document: PathBuf,
}

impl Files {
    fn of(scenario: &Path, name: &str) -> Result<Self, Failure> {
        let line = scenario.parent().filter(|line| line.file_name().is_some_and(|name| name != "documents"));
        let is_toml = scenario.extension().is_some_and(|extension| extension == "toml");
        let Some(line) = line.filter(|_| is_toml) else {
            let why = format!(
                "{} is no place for a scenario: write FOLDER/PRODUCT-LINE/NAME.toml, such as {FOLDER}/{name}.toml",
                scenario.display()
            );
            return Err(refused(why));
        };
        let root = line.parent().filter(|root| !root.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let document = root.join("documents").join(format!("{name}.toml"));
        Ok(Self { root: root.to_owned(), scenario: scenario.to_owned(), document })
    }

    /// Checks that the files do not exist, and that no other scenario of the folder has the name.
    fn check_names(&self, text: &ScenarioText, force: bool) -> Result<(), Failure> {
        let existing =
            [&self.scenario, &self.document].into_iter().find(|file| file.symlink_metadata().is_ok());
        if let Some(file) = existing.filter(|_| !force) {
            return Err(exists(file));
        }
        let has_scenarios = fs::read_dir(&self.root).is_ok_and(|mut entries| entries.next().is_some());
        if !has_scenarios {
            return Ok(());
        }
        let has_another = match existing {
            None => {
                let matrix = Matrix::load(&input::short(&self.root)).map_err(Failure::bad_input)?;
                matrix.scenarios().iter().any(|scenario| scenario.name == text.name)
            }
            Some(_) => self.has_another_when_replaced(text).map_err(|e| {
                Failure::error(format!("failed to check the scenarios of {}: {e}", self.root.display()))
            })?,
        };
        match has_another {
            true => Err(refused(format!(
                "{} has another scenario {}; name a file with --output",
                self.root.display(),
                text.name
            ))),
            false => Ok(()),
        }
    }

    /// Whether the folder has the name twice when its files are replaced. Those may be broken, so a copy without them is read.
    fn has_another_when_replaced(&self, text: &ScenarioText) -> io::Result<bool> {
        let copy = tempfile::tempdir()?;
        let replaced = [plain(&self.scenario), plain(&self.document)];
        copy_toml_files(&self.root, copy.path(), &replaced)?;
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.path().is_dir() {
                copy_toml_files(&entry.path(), &copy.path().join(entry.file_name()), &replaced)?;
            }
        }
        for (file, text) in [(replaced[0], &text.scenario), (replaced[1], &text.document)] {
            let in_root = file.strip_prefix(plain(&self.root)).unwrap_or(file);
            write_new(&copy.path().join(in_root), text, false)?;
        }
        // What else is wrong in other files, a run says.
        let errors = Matrix::load(copy.path()).err();
        let is_of_name = |problem: &ScenarioProblem| match problem {
            ScenarioProblem::Duplicate { what: "scenario", name, .. } => *name == text.name,
            _ => false,
        };
        Ok(errors.is_some_and(|errors| errors.errors().iter().any(|error| is_of_name(error.problem()))))
    }

    fn write(&self, text: &ScenarioText, force: bool) -> Result<(), Failure> {
        for (file, text) in [(&self.document, &text.document), (&self.scenario, &text.scenario)] {
            write_file(file, text, force)?;
        }
        Ok(())
    }
}

/// A folder as a word of a shell command.
fn shown_root(root: &Path) -> String {
    quote(&root.display().to_string())
}

/// A path without the `.` that it may begin with, so that it can be compared.
fn plain(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

/// Copies the TOML files in a folder, without these. A folder that has none is not made.
fn copy_toml_files(from: &Path, to: &Path, except: &[&Path]) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let file = entry?.path();
        let is_toml = file.extension().is_some_and(|extension| extension == "toml") && file.is_file();
        if let Some(name) = file.file_name().filter(|_| is_toml && !except.contains(&plain(&file))) {
            fs::create_dir_all(to)?;
            fs::copy(&file, to.join(name))?;
        }
    }
    Ok(())
}

/// Writes a file, and its folder if that is missing. Another file of the name is only replaced if the user says so.
pub fn write_file(file: &Path, text: &str, force: bool) -> Result<(), Failure> {
    write_new(file, text, force).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => exists(file),
        _ => Failure::error(format!("failed to write {}: {e}", file.display())),
    })
}

fn exists(file: &Path) -> Failure {
    refused(format!("{} exists; replace it with --force", file.display()))
}

fn write_new(file: &Path, text: &str, replace: bool) -> io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let new = NewFile::create_in(folder)?;
    new.file().write_all(text.as_bytes())?;
    new.publish(file, replace)
}

/// Reads the files as a run will do, with the systems of the folder that they go to.
fn check(root: &Path, text: &ScenarioText) -> Result<(), Failure> {
    let failed = |e: io::Error| Failure::error(format!("failed to check the scenario: {e}"));
    let folder = tempfile::tempdir().map_err(failed)?;
    let systems = root.join("systems.toml");
    if systems.is_file() {
        fs::copy(&systems, folder.path().join("systems.toml")).map_err(failed)?;
    }
    let file = |folder_in_it: &str| folder.path().join(folder_in_it).join(format!("{}.toml", text.name));
    write_new(&file("documents"), &text.document, false).map_err(failed)?;
    write_new(&file("domains"), &text.scenario, false).map_err(failed)?;
    Matrix::load(folder.path()).map(drop).map_err(Failure::bad_input)
}
