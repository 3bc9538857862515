//! Measures the yardsticks of docs/performance.md. `cargo xtask bench` starts this program.

mod arguments;
mod figures;
mod findings;
mod harness_alone;
mod records;
mod rounds;
mod stacks;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::Bench;
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
    let arguments = Bench::parse();
    terminal::start_log();
    rounds::run(&arguments).unwrap_or_else(Failure::report)
}
