//! `payloads`: test suites that the user built, and that steps of scenarios run in levels.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use nestmatrix_images::{BuiltSuite, Error, Suites};
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
  cargo xtask run-matrix 'suite-*'

docs/payloads.md describes the suites, and the steps of scenarios that run them.";

#[derive(Debug, Subcommand)]
enum PayloadsCommand {
    /// Add the folder of a test suite that you built; its files stay where they are
    Add(Add),
    /// List the added suites
    List,
    /// Compare the suites with the SHA-256 that they had when they were added
    Check(Check),
    /// Remove a suite from the list; its files stay
    Remove(Remove),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 if it was added, 2 if the folder has no built tests, 3 for any other error")]
struct Add {
    /// The suite
    #[arg(value_name = "SUITE", value_parser = suite)]
    kind: SuiteKind,
    /// The folder in which it was built
    folder: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 if all are unchanged, 3 if one has changed or can't be read")]
struct Check {
    /// Check only this suite
    #[arg(value_name = "SUITE", value_parser = suite)]
    kind: Option<SuiteKind>,
}

#[derive(Debug, Args)]
struct Remove {
    /// The suite
    #[arg(value_name = "SUITE", value_parser = suite)]
    kind: SuiteKind,
}

fn suite(text: &str) -> Result<SuiteKind, String> {
    SuiteKind::parse(text).map_err(|unknown| format!("{unknown}, {}", unknown.expected()))
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let mut suites = input::suites()?;
    match &arguments.command {
        PayloadsCommand::Add(Add { kind, folder }) => {
            let added = suites.add(*kind, folder).map_err(refused)?;
            print(&format!("added {}\n", line(&added)?));
            Ok(ExitCode::SUCCESS)
        }
        PayloadsCommand::List => list(&suites),
        PayloadsCommand::Check(Check { kind }) => check(&suites, *kind),
        PayloadsCommand::Remove(Remove { kind }) => {
            if !suites.remove(*kind).map_err(refused)? {
                return Err(unknown(*kind));
            }
            print(&format!("removed {kind}\n"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list(suites: &Suites) -> Result<ExitCode, Failure> {
    if suites.iter().next().is_none() {
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
    Ok(ExitCode::SUCCESS)
}

/// A suite, its folder and how much of it is built.
fn line(suite: &Arc<BuiltSuite>) -> Result<String, Failure> {
    let tests = suite.tests().map_err(refused)?;
    let built = tests.iter().filter(|test| test.file.is_file()).count();
    Ok(format!("{}: {}, {built} of {} tests built", suite.kind(), suite.folder().display(), tests.len()))
}

fn check(suites: &Suites, kind: Option<SuiteKind>) -> Result<ExitCode, Failure> {
    let chosen: Vec<&Arc<BuiltSuite>> =
        suites.iter().filter(|suite| kind.is_none_or(|kind| suite.kind() == kind)).collect();
    if let (Some(kind), true) = (kind, chosen.is_empty()) {
        return Err(unknown(kind));
    }
    let mut failures = Vec::new();
    for suite in chosen {
        let changed = || Error::Suite {
            path: suite.folder().to_owned(),
            reason: "it has changed since it was added; if that is right, add it again".to_owned(),
        };
        match suite.digest_now() {
            Ok(digest) if digest == *suite.sha256() => print(&format!("{}: ok\n", suite.kind())),
            Ok(_) => failures.push((suite.kind().to_string(), changed())),
            Err(error) => failures.push((suite.kind().to_string(), error)),
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

fn unknown(kind: SuiteKind) -> Failure {
    Failure::bad_input(miette::miette!("{kind} was not added; `{PROGRAM} payloads list` lists what was"))
}
