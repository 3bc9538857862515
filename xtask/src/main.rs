//! The command line of nestmatrix. `main` dispatches; each command has a module.

mod attach;
mod baseline;
mod bisect;
mod ci_matrix;
mod cli;
mod cpu_models;
mod development;
mod diff;
mod dist;
mod doctor;
mod exec;
mod export_domain;
mod history;
mod host;
mod images;
mod import_domain;
mod kernels;
mod list;
mod media;
mod media_prepare;
mod merge;
mod metal_errata;
mod mutate;
mod native_metal;
mod output;
mod payloads;
mod report;
mod repro;
mod resume;
mod run_matrix;
mod runtime;
mod snapshots;
mod sources;
mod trace;

use std::process::ExitCode;

use parent_death::ExecWithParentDeathSignal;
// The modules of the commands name these `crate::exit` and so on.
use xtask::{exit, input, parent_death, progress, settings, signals, terminal};

fn main() -> ExitCode {
    // First, since this process does nothing else then.
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().skip(1).collect();
    if let Some(command) = ExecWithParentDeathSignal::parse(&arguments) {
        return command.exec();
    }
    let cli = cli::Cli::try_parse_as_called().unwrap_or_else(|e| {
        // A wrong command line is wrong for every commit, so `git bisect run` must stop.
        let code = if !e.use_stderr() {
            None
        } else if kernels::is_kernel_run(&arguments) {
            Some(kernels::STOP_GIT_BISECT)
        } else {
            exec::is_exec(&arguments).then_some(exec::FAILED)
        };
        let Some(code) = code else { e.exit() };
        // Fails only if standard error is closed.
        let _ = e.print();
        std::process::exit(code.into())
    });
    terminal::start_log();
    if let Err(wrong) = settings::sandbox() {
        return exit::Failure::bad_input(miette::Report::msg(wrong)).report();
    }
    let done = match cli.command {
        cli::Command::RunMatrix(arguments) => run_matrix::run(&arguments),
        cli::Command::Diff(arguments) => diff::run(&arguments),
        cli::Command::History(arguments) => history::run(&arguments),
        cli::Command::Trace(arguments) => trace::run(&arguments),
        cli::Command::Report(arguments) => report::run(&arguments),
        cli::Command::Merge(arguments) => merge::run(&arguments),
        cli::Command::List(arguments) => list::run(&arguments),
        cli::Command::Images(arguments) => images::run(&arguments),
        cli::Command::Snapshots(arguments) => snapshots::run(arguments.command),
        cli::Command::Media(arguments) => media::run(&arguments),
        cli::Command::MetalErrata(arguments) => metal_errata::run(&arguments),
        cli::Command::Payloads(arguments) => payloads::run(&arguments),
        cli::Command::Sources(arguments) => sources::run(&arguments),
        cli::Command::ImportDomain(arguments) => import_domain::run(&arguments),
        cli::Command::ExportDomain(arguments) => export_domain::run(&arguments),
        cli::Command::CiMatrix(arguments) => ci_matrix::run(&arguments),
        cli::Command::Host(arguments) => host::run(&arguments),
        cli::Command::Doctor(arguments) => doctor::run(&arguments),
        cli::Command::Exec(arguments) => exec::run(&arguments),
        cli::Command::Repro(arguments) => repro::run(arguments),
        cli::Command::Shell(arguments) => attach::shell(&arguments),
        cli::Command::Qmp(arguments) => attach::qmp(&arguments),
        cli::Command::Mutate(arguments) => mutate::run(&arguments),
        cli::Command::CpuModels(arguments) => cpu_models::run(&arguments),
        cli::Command::Bisect(arguments) => bisect::run(&arguments),
        cli::Command::Dist(arguments) => dist::run(&arguments),
        cli::Command::Bench(arguments) => development::run("bench", &arguments),
        cli::Command::Chaos(arguments) => development::run("chaos", &arguments),
    };
    done.unwrap_or_else(|failure| failure.report())
}
