//! nestmatrix's command line. `main` only dispatches; a module a command.

mod baseline;
mod bench;
mod bisect;
mod ci_matrix;
mod cli;
mod diff;
mod doctor;
mod exit;
mod history;
mod images;
mod input;
mod kernels;
mod list;
mod live;
mod merge;
mod mutate;
mod output;
mod report;
mod repro;
mod resume;
mod run_matrix;
mod runtime;
mod signals;
mod states;
mod tied;
mod trace;
mod visit;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    // Before anything else: a process that is to become another one should not do more than that.
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if let Some(tied) = tied::Tied::parse(&arguments) {
        return tied.become_it();
    }
    let cli = cli::Cli::try_parse().unwrap_or_else(|e| {
        // A mistake in the command line says nothing of any commit, so `git bisect run` is told to end.
        if !e.use_stderr() || !kernels::tries_one(&arguments) {
            e.exit();
        }
        // Fails only if nobody reads it.
        let _ = e.print();
        std::process::exit(kernels::GIT_BISECT_ENDS.into())
    });
    let log = tracing_subscriber::EnvFilter::try_from_env("NESTMATRIX_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(log)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .without_time()
        .init();
    let done = match cli.command {
        cli::Command::RunMatrix(arguments) => run_matrix::run(&arguments),
        cli::Command::Diff(arguments) => diff::run(&arguments),
        cli::Command::History(arguments) => history::run(&arguments),
        cli::Command::Trace(arguments) => trace::run(&arguments),
        cli::Command::Report(arguments) => report::run(&arguments),
        cli::Command::Merge(arguments) => merge::run(&arguments),
        cli::Command::List(arguments) => list::run(&arguments),
        cli::Command::Images(arguments) => images::run(&arguments),
        cli::Command::SnapshotCache(arguments) => states::run(arguments.command),
        cli::Command::CiMatrix(arguments) => ci_matrix::run(&arguments),
        cli::Command::Doctor(arguments) => doctor::run(&arguments),
        cli::Command::Repro(arguments) => repro::run(arguments),
        cli::Command::Shell(arguments) => visit::shell(&arguments),
        cli::Command::Qmp(arguments) => visit::qmp(&arguments),
        cli::Command::Mutate(arguments) => mutate::run(&arguments),
        cli::Command::Bisect(arguments) => bisect::run(&arguments),
        cli::Command::Bench(arguments) => bench::run(&arguments),
    };
    done.unwrap_or_else(|failure| failure.report())
}
