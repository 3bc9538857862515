//! `payloads`: programs and test suites of the user, which steps of scenarios run in levels.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use nestmatrix_images::{AddedFile, AddedProgram, BuiltSuite, Error, Suites};
use nestmatrix_model::{PROGRAM, SuiteKind, Word as _};

use crate::exit::Failure;
use crate::input;
use crate::kernels::escaped;
use crate::sources::checked;
use crate::terminal::print;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: PayloadsCommand,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask payloads add kvm-unit-tests ~/kvm-unit-tests
  cargo xtask payloads add my-test ./my-test.sh --file ./data:/data
  cargo xtask run-matrix 'suite-*'

docs/payloads.md describes programs and suites, and the steps of scenarios that run them.";

#[derive(Debug, Subcommand)]
enum PayloadsCommand {
    /// Add a program of yours, or the folder of a test suite that you built; files stay where they are
    Add(Add),
    /// List what was added
    List,
    /// Compare files with the SHA-256 that they had when they were added
    Check(Check),
    /// Remove a program or a suite from the list; its files stay
    Remove(Remove),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 if it was added, 2 if it can't be used, 3 for any other error")]
struct Add {
    /// The program's name in steps, or a suite: kvm-unit-tests, kvm-selftests
    name: String,
    /// The program (an executable or a script), or the folder in which the suite was built
    path: PathBuf,
    /// Copy this file or folder into the level too; default for DEST: the folder in which the program runs
    #[arg(long = "file", value_name = "PATH[:DEST]")]
    files: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 if all are unchanged, 3 if one has changed or can't be read")]
struct Check {
    /// Check only this one
    name: Option<String>,
}

#[derive(Debug, Args)]
struct Remove {
    /// Its name
    name: String,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut suites = input::suites()?;
    match &arguments.command {
        PayloadsCommand::Add(add) => {
            let line = match SuiteKind::parse(&add.name) {
                Ok(_) if !add.files.is_empty() => {
                    return Err(Failure::bad_input(miette::miette!(
                        "--file is for a program; {} is a suite",
                        add.name
                    )));
                }
                Ok(kind) => line(&*suites.add(kind, &add.path).map_err(refused)?)?,
                Err(_) => {
                    let files =
                        add.files.iter().map(|file| file_argument(file)).collect::<Result<_, Failure>>()?;
                    line_of_program(&*suites.add_program(&add.name, &add.path, files).map_err(refused)?)
                }
            };
            print(&format!("added {line}\n"));
            Ok(ExitCode::SUCCESS)
        }
        PayloadsCommand::List => list(&suites),
        PayloadsCommand::Check(Check { name }) => check(&suites, name.as_deref()),
        PayloadsCommand::Remove(Remove { name }) => {
            let removed = match SuiteKind::parse(name) {
                Ok(kind) => suites.remove(kind),
                Err(_) => suites.remove_program(name),
            };
            if !removed.map_err(refused)? {
                return Err(unknown(name));
            }
            print(&format!("removed {name}\n"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(suites: &Suites) -> Result<ExitCode, Failure> {
    if suites.iter().next().is_none() && suites.programs().next().is_none() {
        print(&format!("no payloads; add one with `{PROGRAM} payloads add`\n"));
    }
    for suite in suites.iter() {
        match line(suite) {
            Ok(line) => print(&format!("{line}\n")),
            // The others can be listed.
            Err(_) => {
                print(&format!("{}: {}, which can't be read\n", suite.kind(), suite.folder().display()))
            }
        }
    }
    suites.programs().for_each(|program| print(&format!("{}\n", line_of_program(program))));
    Ok(ExitCode::SUCCESS)
}

/// The folder of a level in which programs run, for files without a place of their own.
const FOLDER: &str = "/tmp/nestmatrix/work";

/// `PATH` or `PATH:DEST`.
fn file_argument(text: &str) -> Result<AddedFile, Failure> {
    let (from, to) = match text.rsplit_once(':') {
        Some((from, to)) => (from, Some(to.to_owned())),
        None => (text, None),
    };
    let from = PathBuf::from(from);
    let name = from.file_name().map(|name| name.to_string_lossy().into_owned());
    let to = to.or_else(|| Some(format!("{FOLDER}/{}", name?)));
    to.map(|to| AddedFile { from, to }).ok_or_else(|| {
        Failure::bad_input(miette::miette!(
            "--file {text} has no name; write PATH:DEST with a path in the level"
        ))
    })
}

/// A program, and how many files come with it.
fn line_of_program(program: &AddedProgram) -> String {
    let files = match program.files().len() {
        0 => String::new(),
        1 => ", with 1 other path".to_owned(),
        more => format!(", with {more} other paths"),
    };
    format!("{}: {}{files}", program.name(), program.program().display())
}

/// A suite, its folder and how much of it is built.
fn line(suite: &BuiltSuite) -> Result<String, Failure> {
    let tests = suite.tests().map_err(refused)?;
    let built = tests.iter().filter(|test| test.file.is_file()).count();
    Ok(format!("{}: {}, {built} of {} tests built", suite.kind(), suite.folder().display(), tests.len()))
}

fn check(suites: &Suites, only: Option<&str>) -> Result<ExitCode, Failure> {
    let of_suites = suites
        .iter()
        .map(|suite| (suite.kind().to_string(), suite.folder(), suite.digest_now(), suite.sha256()));
    let of_programs = suites.programs().map(|program| {
        (program.name().to_owned(), program.program(), program.digest_now(), program.sha256())
    });
    let chosen: Vec<_> =
        of_suites.chain(of_programs).filter(|(name, ..)| only.is_none_or(|only| only == name)).collect();
    if let (Some(name), true) = (only, chosen.is_empty()) {
        return Err(unknown(name));
    }
    let mut failures = Vec::new();
    for (name, path, now, added) in chosen {
        let changed = |path: &Path| Error::Suite {
            path: path.to_owned(),
            reason: "it has changed since it was added; if that is right, add it again".to_owned(),
        };
        match now {
            Ok(digest) if digest == *added => print(&format!("{name}: ok\n")),
            Ok(_) => failures.push((name, changed(path))),
            Err(error) => failures.push((name, error)),
        }
    }
    checked(failures)
}

fn refused(error: Error) -> Failure {
    match error {
        Error::Suite { .. } | Error::Io { .. } => {
            Failure::bad_input(miette::miette!("{}", escaped(&error.to_string())))
        }
        other => Failure::error(other),
    }
}

fn unknown(name: &str) -> Failure {
    let name = escaped(name);
    Failure::bad_input(miette::miette!("{name} was not added; `{PROGRAM} payloads list` lists what was"))
}
