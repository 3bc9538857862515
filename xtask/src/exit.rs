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

    /// The same with other exit codes: for bad input, and for errors.
    pub fn with_codes(self, bad_input: u8, error: u8) -> Self {
        Self { code: if self.code == BAD_INPUT { bad_input } else { error }, ..self }
    }

    /// Prints why, and gives the exit code.
    pub fn report(self) -> ExitCode {
        eprintln!("{:?}", self.report);
        ExitCode::from(self.code)
    }
}
