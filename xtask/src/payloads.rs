//! `payloads`: programs and test suites of the user, which steps of scenarios run in levels, and guests, which levels boot.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use nestmatrix_images::{AddedFile, AddedGuest, AddedProgram, BuiltSuite, Error, LocalKernel, Suites};
use nestmatrix_model::{PROGRAM, SuiteKind, Word as _};

use crate::exit::Failure;
use crate::input;
use crate::kernels::{escaped, with_cause};
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
  cargo xtask payloads add my-guest --kernel bzImage --initramfs image.cpio.gz
  cargo xtask run-matrix 'suite-*'

docs/payloads.md describes programs, suites and guests, and the scenarios that run them.";

#[derive(Debug, Subcommand)]
enum PayloadsCommand {
    /// Add a program or a guest of yours, or the folder of a test suite that you built; files stay where they are
    Add(Add),
    /// List what was added
    List,
    /// Compare files with the SHA-256 that they had when they were added
    Check(Check),
    /// Remove a program, a suite or a guest from the list; its files stay
    Remove(Remove),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 if it was added, 2 if it can't be used, 3 for any other error")]
struct Add {
    /// The program's or the guest's name in scenarios, or a suite: kvm-unit-tests, kvm-selftests
    name: String,
    /// The program (an executable or a script), or the folder in which the suite was built
    #[arg(required_unless_present_any = ["kernel", "initramfs"], conflicts_with_all = ["kernel", "initramfs"])]
    path: Option<PathBuf>,
    /// The kernel of a guest: a bzImage, Image or vmlinux, or a package with one; without it, that of the level's image boots
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    kernel: Option<PathBuf>,
    /// The initramfs of a guest; without it, that of the level's image reports and ends
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    initramfs: Option<PathBuf>,
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
                _ if add.path.is_none() => add_guest(&mut suites, add)?,
                Ok(_) if !add.files.is_empty() => {
                    return Err(Failure::bad_input(miette::miette!(
                        "--file is for a program; {} is a suite",
                        add.name
                    )));
                }
                Ok(kind) => line(&*suites.add(kind, add.program()).map_err(refused)?)?,
                Err(_) => {
                    let files =
                        add.files.iter().map(|file| file_argument(file)).collect::<Result<_, Failure>>()?;
                    line_of_program(&*suites.add_program(&add.name, add.program(), files).map_err(refused)?)
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

impl Add {
    /// The program, or the folder of the suite.
    fn program(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }
}

/// Adds a guest whose files can be one, and describes it.
fn add_guest(suites: &mut Suites, add: &Add) -> Result<String, Failure> {
    let (kernel, initramfs) = (add.kernel.as_deref(), add.initramfs.as_deref());
    if let Some(kernel) = kernel {
        let files = [kernel.to_owned()];
        LocalKernel::read(&files, &input::own_recipes()?)
            .map_err(|e| Failure::bad_input(miette::miette!("{}", with_cause(&e))))?;
    }
    Ok(line_of_guest(&*suites.add_guest(&add.name, kernel, initramfs).map_err(refused)?))
}

fn list(suites: &Suites) -> Result<ExitCode, Failure> {
    if suites.iter().next().is_none()
        && suites.programs().next().is_none()
        && suites.guests().next().is_none()
    {
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
    suites.guests().for_each(|guest| print(&format!("{}\n", line_of_guest(guest))));
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

/// A guest and its files.
fn line_of_guest(guest: &AddedGuest) -> String {
    let kernel = guest.kernel().map(|path| format!("kernel {}", path.display()));
    let initramfs = guest.initramfs().map(|path| format!("initramfs {}", path.display()));
    let files: Vec<String> = kernel.into_iter().chain(initramfs).collect();
    format!("{}: a guest, {}", guest.name(), files.join(", "))
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
    let of_guests = suites.guests().filter_map(|guest| {
        Some((guest.name().to_owned(), guest.files().next()?, guest.digest_now(), guest.sha256()))
    });
    let all = of_suites.chain(of_programs).chain(of_guests);
    let chosen: Vec<_> = all.filter(|(name, ..)| only.is_none_or(|only| only == name)).collect();
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
