//! Disturbs runs of the matrix at random moments, and checks that no verdict is wrong. `cargo xtask chaos` starts this program;
//! docs/chaos.md describes it.

mod arguments;
mod campaign;
mod clock;
mod damage;
mod disturbance;
mod harness;
mod hostile;
mod inflict;
mod judge;
mod outcome;
mod place;
mod processes;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::Chaos;
use clap::Parser as _;
use xtask::exit::Failure;
use xtask::parent_death::ExecWithParentDeathSignal;
use xtask::terminal;

fn main() -> ExitCode {
    // First, since this process does nothing else then.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(command) = ExecWithParentDeathSignal::parse(&arguments) {
        return command.exec();
    }
    let arguments = Chaos::parse();
    terminal::start_log();
    campaign::run(&arguments).unwrap_or_else(Failure::report)
}
