//! A command on this machine whose tests run in a level: cargo and nextest start each test program through `exec`.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use nestmatrix_stack::Cancellation;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Arguments, FAILED, Target};
use crate::exit::Failure;
use crate::parent_death;

/// The variable in which a call of `exec` by the command finds the socket of the stack.
pub const SOCKET: &str = "NESTMATRIX_EXEC_SOCKET";

/// A command on this machine.
pub struct HostCommand {
    words: Vec<OsString>,
    /// The variable in which cargo finds the runner of its target, and the runner.
    runner: (String, String),
}

impl HostCommand {
    pub fn new(arguments: &Arguments, target: &Target) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(Failure::error)?;
        if !program.is_file() {
            // The kernel appends " (deleted)" to its path (proc(5)).
            let why = "--runner: this program's file was replaced or deleted since it started; run the command again";
            return Err(Failure::error(why));
        }
        let mut words = vec![program.to_string_lossy().into_owned(), "exec".to_owned()];
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
        add("--level", target.level.to_string());
        add("--cell", target.cell.name.to_string());
        for copy in arguments.copies()? {
            add("--copy", format!("{}:{}", copy.from.display(), copy.to));
        }
        arguments.env.iter().for_each(|variable| add("--env", variable.clone()));
        arguments.timeout.iter().for_each(|seconds| add("--timeout", seconds.to_string()));
        let folders =
            [("--scenarios", &arguments.folder.scenarios), ("--recipes", &arguments.source.folder.recipes)];
        for (option, folder) in folders {
            let folder = std::path::absolute(folder).map_err(Failure::error)?;
            add(option, folder.to_string_lossy().into_owned());
        }
        words.push("--".to_owned());
        if let Some(word) = words.iter().find(|word| word.contains(char::is_whitespace)) {
            let why =
                format!("--runner: cargo splits its runner at spaces, so {word:?} can't be a part of it");
            return Err(Failure::bad_input(miette::miette!("{why}")));
        }
        Ok(Self { words: arguments.words.clone(), runner: (runner_variable(), words.join(" ")) })
    }

    /// Runs it to its end, with the stack on `socket`; returns its exit code. The first signal to this process ends it and the processes
    /// that it has started, and so does dropping this future.
    pub async fn run(self, socket: &Path, mut asked: Cancellation) -> Result<ExitCode, Failure> {
        let wrapper = parent_death::wrapper().map_err(Failure::error)?;
        let mut words = wrapper.words().iter().chain(&self.words);
        let program = words.next().ok_or_else(|| Failure::error("there is no command"))?;
        let mut command = tokio::process::Command::new(program);
        let (variable, runner) = &self.runner;
        command.args(words).env(variable, runner).env(SOCKET, socket).process_group(0);
        let mut child = command.kill_on_drop(true).spawn().map_err(Failure::error)?;
        let mut group = ProcessGroup(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
        let ended: Option<ExitStatus> = tokio::select! {
            status = child.wait() => Some(status.map_err(Failure::error)?),
            () = asked.requested() => None,
        };
        let status = match ended {
            Some(status) => {
                // What it leaves in the background, such as a compiler's cache, may go on.
                group.0 = None;
                status
            }
            None => {
                // nextest ends its tests, which have their own process groups.
                group.send(Signal::SIGTERM);
                child.wait().await.map_err(Failure::error)?
            }
        };
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)))
    }
}

/// The processes of a command. Dropping it ends them.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn send(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // It may have ended.
            let _ = killpg(group, signal);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.send(Signal::SIGKILL);
    }
}

/// Where cargo finds the runner for this machine's own target (The Cargo Book, Configuration).
fn runner_variable() -> String {
    let libc = if cfg!(target_env = "musl") { "MUSL" } else { "GNU" };
    format!("CARGO_TARGET_{}_UNKNOWN_LINUX_{libc}_RUNNER", std::env::consts::ARCH.to_uppercase())
}
