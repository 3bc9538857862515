//! `exec`: runs a command of the user in a level of a stack.

mod arguments;
mod boot;
mod host_command;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nestmatrix::debug_server::{DebugClient, DebugClientError, ExecEnd};
use nestmatrix::exec::{UserCommand, stack_for};
use nestmatrix::run::RunPlan;
use nestmatrix::scenario::{Cell, Fingerprint};
use nestmatrix_images::Catalog;
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{LevelNumber, PROGRAM, Stage};
use nestmatrix_stack::host::Scratch;
use nestmatrix_stack::{Exec, Stream};
use nestmatrix_vmm::guest::printable;

use crate::cli::Selection;
use crate::exit::Failure;
use crate::signals::Signals;
use crate::terminal::note;
use crate::{input, runtime};

pub use arguments::Arguments;

/// The exit code if the command ran longer than it may, like that of timeout(1).
const TIMED_OUT: u8 = 124;
/// The exit code if `exec` failed, and not the command, like that of env(1).
pub const FAILED: u8 = 125;

/// Whether these arguments are a call of `exec`, all whose own failures have one exit code.
pub fn is_exec(arguments: &[std::ffi::OsString]) -> bool {
    arguments.first().is_some_and(|command| command == "exec")
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    start(arguments).map_err(|failure| failure.with_codes(FAILED, FAILED))
}

/// The stack of a command, and what runs where in it.
struct Target {
    plan: RunPlan,
    cell: Cell,
    catalog: Catalog,
    level: LevelNumber,
    /// The stage after which the level runs commands.
    stage: Stage,
}

fn start(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let target = target(arguments)?;
    // Archives for the level. If this process is killed, the next one removes them.
    let scratch = Scratch::create().map_err(Failure::error)?;
    let work = if arguments.keep {
        boot::Work::Keep
    } else if arguments.runner {
        boot::Work::OnThisMachine(host_command::HostCommand::new(arguments, &target)?)
    } else {
        let exec = prepare(&arguments.command()?, &target, scratch.path())?;
        if !arguments.fresh
            && let Some(session) = session_of(&target)?
        {
            let (level, timeout) = (target.level, arguments.timeout());
            return until_signal(move || in_session(session, level, exec, timeout));
        }
        boot::Work::InLevel(exec)
    };
    boot::boot(arguments, target, work)
}

/// The cell that is named, or one of the architecture, as a stack.
fn target(arguments: &Arguments) -> Result<Target, Failure> {
    let selection = Selection {
        filter: arguments.cell.iter().cloned().collect(),
        folder: arguments.folder.clone(),
        deny_rebuilds: false,
        deny_stand_ins: false,
    };
    let (matrix, filter) = input::scenarios(&selection)?;
    let bad_input = |why: String| Failure::bad_input(miette::miette!("{why}"));
    let named = match &arguments.cell {
        Some(cell) => {
            let found = input::one_cell(&matrix, &filter, "a command needs")?;
            let none = || bad_input(format!("no cell matches {cell}; `{PROGRAM} list` lists all cells"));
            Some(found.ok_or_else(none)?)
        }
        None => None,
    };
    let catalog = input::recipes(&arguments.source.folder)?;
    let stack = stack_for(arguments.level, named, arguments.architecture, (&matrix, &catalog));
    let (plan, stage) = stack.map_err(|why| bad_input(why.to_string()))?;
    let cell = plan.cells.first().map(|planned| planned.cell.clone());
    let cell = cell.ok_or_else(|| Failure::error("the plan has no cell"))?;
    Ok(Target { plan, cell, catalog, level: arguments.level, stage })
}

fn prepare(command: &UserCommand, target: &Target, scratch: &Path) -> Result<Exec, Failure> {
    let isa = ArchInfo::of(target.cell.architecture).isa;
    command.prepare(isa, scratch).map_err(|e| Failure::bad_input(miette::miette!("{e}")))
}

/// A debug session with the stack of this cell in which the level runs commands: that of the `exec --runner` that has started this process,
/// or one that is kept. A session of `repro` is not used: its stack has steps and faults, and belongs to the user who inspects it.
fn session_of(target: &Target) -> Result<Option<DebugClient>, Failure> {
    let runs_commands =
        |session: &DebugClient| session.greeting.runs_commands(&target.cell.name, target.level);
    if let Some(socket) = std::env::var_os(host_command::SOCKET) {
        let session = DebugClient::connect(Path::new(&socket))
            .map_err(|e| Failure::error(format!("the stack of `exec --runner` has ended: {e}")))?;
        // A test may call `exec` for another cell.
        if runs_commands(&session) {
            return Ok(Some(session));
        }
    }
    let asked = Fingerprint::of(&target.cell);
    let suits =
        |session: &DebugClient| session.greeting.kept.as_ref() == Some(&asked) && runs_commands(session);
    Ok(DebugClient::all().map_err(Failure::error)?.into_iter().find(suits))
}

/// Does blocking work, but not after a signal: the end of this process then closes its connection, which ends the command.
fn until_signal(
    work: impl FnOnce() -> Result<ExitCode, Failure> + Send + 'static,
) -> Result<ExitCode, Failure> {
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let mut cancellation = signals.cancellation.clone();
        tokio::select! {
            done = tokio::task::spawn_blocking(work) => done.map_err(Failure::error)?,
            () = cancellation.requested() => Ok(ExitCode::from(signals.exit_code().unwrap_or(FAILED))),
        }
    })
}

/// Runs a command in a session, and prints its output as it comes. Returns its exit code.
fn in_session(
    mut session: DebugClient,
    level: LevelNumber,
    exec: Exec,
    timeout: Option<Duration>,
) -> Result<ExitCode, Failure> {
    let print = |stream, bytes: &[u8]| match stream {
        Stream::Stdout => write(&mut std::io::stdout().lock(), bytes),
        Stream::Stderr => write(&mut std::io::stderr().lock(), bytes),
    };
    let failed = |why: String| Failure::error(format!("the command in {level} failed: {}", printable(&why)));
    match session.exec(level, exec, timeout, print) {
        // The status of a shell whose command was ended by a signal is below 256, too.
        Ok(ExecEnd::Exited(status)) => Ok(ExitCode::from(u8::try_from(status).unwrap_or(FAILED))),
        Ok(ExecEnd::TimedOut) => {
            note!("the command in {level} is ended: it ran longer than its timeout");
            Ok(ExitCode::from(TIMED_OUT))
        }
        Ok(ExecEnd::Failed(why)) => Err(failed(why)),
        // Nothing reads the output any more, so the command is ended, as by a pipe of this machine.
        Err(DebugClientError::Print(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::from(128 + 13))
        }
        Err(e) => Err(failed(e.to_string())),
    }
}

fn write(to: &mut impl std::io::Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}
