//! Failures of a command, and their exit codes.

use crate::terminal::note;
use std::fmt;
use std::process::ExitCode;

/// Bad usage or bad input.
pub const BAD_INPUT: u8 = 2;
/// The harness or its machine failed.
pub const ERROR: u8 = 3;
/// A cell reboots this machine. The run is to be resumed afterwards.
pub const REBOOTING: u8 = 5;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    report: miette::Report,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt(f)
    }
}

impl Failure {
    /// The user's input is wrong.
    pub fn bad_input(report: impl Into<miette::Report>) -> Self {
        Self { code: BAD_INPUT, report: report.into() }
    }

    /// The harness or its machine failed.
    pub fn error(what: impl fmt::Display) -> Self {
        Self { code: ERROR, report: miette::miette!("{what}") }
    }

    /// Replaces the exit codes for bad input and for errors.
    pub fn with_codes(self, bad_input: u8, error: u8) -> Self {
        Self { code: if self.code == BAD_INPUT { bad_input } else { error }, ..self }
    }

    /// Prints the failure, and returns the exit code.
    pub fn report(self) -> ExitCode {
        note!("{:?}", self.report);
        ExitCode::from(self.code)
    }
}
