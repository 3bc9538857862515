//! Boots the stack of an `exec`, and does its work once the level runs commands.

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use indicatif::MultiProgress;
use nestmatrix::debug_server::{DebugClient, DebugServer, PauseAt, SessionEvent};
use nestmatrix::records::{CellRecord, Purpose};
use nestmatrix::run::{Setting, execute};
use nestmatrix::scenario::Fingerprint;
use nestmatrix_model::PROGRAM;
use nestmatrix_stack::host::Scratch;
use nestmatrix_stack::{Cancellation, Exec};
use tokio::sync::Notify;

use super::host_command::HostCommand;
use super::{Arguments, Target, in_session};
use crate::exit::Failure;
use crate::progress::{BuildProgress, CellProgress, print_above};
use crate::repro::SessionListener;
use crate::signals::Signals;
use crate::terminal::{note, style_of};
use crate::{input, parent_death, runtime, settings, snapshots};

/// How long the work may go on once the stack has ended.
const REST: Duration = Duration::from_secs(1);

/// What is done once the stack is up.
pub enum Work {
    /// A command runs in the level.
    InLevel(Exec),
    /// A command runs on this machine, and those that it runs use the stack.
    OnThisMachine(HostCommand),
    /// Other `exec` use the stack.
    Keep,
}

pub fn boot(arguments: &Arguments, target: Target, work: Work) -> Result<ExitCode, Failure> {
    let store = Arc::new(input::store(&arguments.source)?);
    // The records are not needed. If this process is killed, the next run removes them.
    let results = Scratch::create().map_err(Failure::error)?;
    runtime::block_on(async {
        let signals = Signals::listen().map_err(Failure::error)?;
        let builds = Arc::new(BuildProgress::new());
        let up = Rc::new(Notify::new());
        let server = open_server(&target, builds.bars(), Rc::clone(&up))?;
        if let Work::Keep = work {
            server.keep_for_commands(Fingerprint::of(&target.cell));
        }
        let snapshots = match arguments.cold {
            true => None,
            false => Some(Arc::new(snapshots::open(&store, settings::SNAPSHOT_LIMIT_GIB)?)),
        };
        let setting = Setting {
            catalog: target.catalog.clone(),
            store: Arc::clone(&store),
            progress: Arc::clone(&builds) as _,
            native_qemu: None,
            wrapper: parent_death::wrapper().map_err(Failure::error)?,
            results: results.path().to_owned(),
            jobs: Some(1),
            snapshots,
            timeout_scale: arguments.timeouts.scale(),
            repeat: 1,
            arguments: std::env::args().skip(1).collect(),
            part: None,
            resumed: None,
            purpose: Purpose::Repro,
            inspector: Some(Rc::clone(&server) as _),
        };
        let cells = CellProgress::without_verdicts(builds.bars().clone(), style_of(&std::io::stderr()));
        let listener = Rc::new(SessionListener { debug_server: Rc::clone(&server), cells });
        // The end of the work ends the stack, and so does a signal.
        let (end, cancellation) = Cancellation::new();
        let mut asked = signals.cancellation.clone();
        let end_by_signal = end.clone();
        tokio::task::spawn_local(async move {
            asked.requested().await;
            let _ = end_by_signal.send(true);
        });
        let run = execute(&target.plan, setting, listener, cancellation);
        let mut run = std::pin::pin!(run);
        let work = async {
            up.notified().await;
            // Fails only if the terminal is gone.
            let _ = builds.bars().clear();
            do_work(arguments, &target, &server, work, &signals).await
        };
        let mut work = std::pin::pin!(work);
        let worked = tokio::select! {
            code = &mut work => {
                let _ = end.send(true);
                // What can fail now is of no interest any more.
                let _ = run.await;
                Ok(code)
            }
            outcome = &mut run => {
                let record = outcome.map_err(Failure::error)?.records.into_iter().next();
                // The work may be about to say more about it.
                tokio::time::timeout(REST, work).await.map_err(|_| record)
            }
        };
        match (worked, signals.exit_code()) {
            (_, Some(_)) if arguments.keep && server.was_paused() => Ok(ExitCode::SUCCESS),
            (_, Some(code)) => Ok(ExitCode::from(code)),
            (Ok(code), None) => code,
            (Err(record), None) => Err(not_booted(&target, record, server.was_paused())),
        }
    })
}

fn open_server(target: &Target, bars: &MultiProgress, up: Rc<Notify>) -> Result<Rc<DebugServer>, Failure> {
    let bars = bars.clone();
    let listener = move |event: &SessionEvent<'_>| match event {
        SessionEvent::Paused(_) => up.notify_one(),
        SessionEvent::Happened(what) => print_above(&bars, &format!("meanwhile: {what}")),
    };
    let at = PauseAt::Stage(target.stage);
    DebugServer::open(target.cell.name.clone(), at, listener).map_err(Failure::error)
}

async fn do_work(
    arguments: &Arguments,
    target: &Target,
    server: &DebugServer,
    work: Work,
    signals: &Signals,
) -> Result<ExitCode, Failure> {
    let (level, cell) = (target.level, &target.cell.name);
    match work {
        Work::InLevel(exec) => {
            let (socket, timeout) = (server.socket(), arguments.timeout());
            // Printing may block, and the stack must be watched meanwhile.
            let client = tokio::task::spawn_blocking(move || {
                in_session(DebugClient::connect(&socket).map_err(Failure::error)?, level, exec, timeout)
            });
            client.await.map_err(Failure::error)?
        }
        Work::OnThisMachine(command) => command.run(&server.socket(), signals.cancellation.clone()).await,
        Work::Keep => {
            let advice = format!("{PROGRAM} exec --level {level} --cell '{cell}' -- COMMAND");
            note!("{level} of {cell} is up until Ctrl-C; in another terminal:\n  {advice}");
            signals.cancellation.clone().requested().await;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Why the level did not come up, or why the stack has ended.
fn not_booted(target: &Target, record: Option<CellRecord>, was_up: bool) -> Failure {
    let Target { level, cell, .. } = target;
    if was_up {
        return Failure::error(format!("the stack of {} has ended", cell.name));
    }
    let why = record.map_or_else(String::new, |record| {
        let stage = record.stage.map_or_else(String::new, |stage| format!("{stage}: "));
        format!(": {stage}{}", record.symptom.unwrap_or_default())
    });
    let advice = format!("`{PROGRAM} repro '{}' --on-failure` boots it for a closer look", cell.name);
    Failure::error(format!("{level} of {} did not come up{why}; {advice}", cell.name))
}
