//! Failures of the command line itself and the exit codes that they have.

use std::fmt;
use std::process::ExitCode;

/// Bad usage or bad input.
pub const BAD_INPUT: u8 = 2;
/// An error of the harness or of its machine.
pub const ERROR: u8 = 3;

/// Why a command could not be carried out.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    report: miette::Report,
}

impl Failure {
    /// What the user gave is not usable.
    pub fn bad_input(report: impl Into<miette::Report>) -> Self {
        Self { code: BAD_INPUT, report: report.into() }
    }

    /// The harness or its machine is at fault.
    pub fn error(what: impl fmt::Display) -> Self {
        Self { code: ERROR, report: miette::miette!("{what}") }
    }

    /// Prints why, and gives the exit code.
    pub fn report(self) -> ExitCode {
        eprintln!("{:?}", self.report);
        ExitCode::from(self.code)
    }
}
