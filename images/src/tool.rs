//! Runs the host's package tools.

use crate::Error;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The exit code of a wrapper that cannot start its command, as of env(1) and shells.
const NOT_STARTED: i32 = 127;

/// How many bytes of output are read. A tool prints a hostile file's contents as readily as a short answer.
const MOST_OUTPUT: u64 = 64 << 20;

/// How often [`run`] reports progress while a tool prints nothing.
const INTERVAL: Duration = Duration::from_millis(250);

/// A program of this host that handles packages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// Its name in `PATH`.
    pub(crate) program: &'static str,
    /// What it is needed for: "resolves RPM packages".
    pub(crate) does: &'static str,
    /// The packages to install if it is missing.
    pub(crate) install: &'static str,
}

/// The end of a tool that could be started.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Standard output, without the lines that `each_line` took.
    pub(crate) output: String,
    /// Standard error.
    pub(crate) complaints: String,
}

impl Tool {
    /// Its command with English messages, started by the wrapper.
    pub(crate) fn command(&self, wrapper: &[OsString]) -> Command {
        command(wrapper, self.program)
    }

    /// Runs its command to an end, successful or not.
    ///
    /// # Errors
    /// [`Error::NoTool`] if it cannot be started.
    pub(crate) fn end(&self, command: &mut Command, mut meanwhile: impl FnMut()) -> Result<Ended, Error> {
        let ended = run(command, |_| {
            meanwhile();
            false
        });
        let Self { program, does, install } = *self;
        ended.map_err(|source| Error::NoTool { program, does, install, source })
    }

    /// Runs its command to a successful end. Returns its standard output.
    ///
    /// # Errors
    /// [`Error::NoTool`] if it cannot be started, [`Error::PackageTool`] if it fails; `action` says what it could not do.
    pub(crate) fn run(
        &self,
        command: &mut Command,
        action: &str,
        meanwhile: impl FnMut(),
    ) -> Result<String, Error> {
        let ended = self.end(command, meanwhile)?;
        if ended.status.success() { Ok(ended.output) } else { Err(ended.error(self.program, action)) }
    }
}

impl Ended {
    /// The error of a tool that failed.
    pub(crate) fn error(self, tool: &'static str, action: &str) -> Error {
        let output = self.complaints.trim_end().to_owned();
        Error::PackageTool { tool, action: action.to_owned(), status: self.status, output }
    }
}

/// A command with English messages, started by the wrapper.
pub(crate) fn command(wrapper: &[OsString], program: &str) -> Command {
    command_of(wrapper, OsStr::new(program))
}

/// The same for a program that may have any path.
pub(crate) fn command_of(wrapper: &[OsString], program: &OsStr) -> Command {
    let mut words = wrapper.iter().map(OsString::as_os_str).chain([program]);
    // There is always a first word, since the chain ends with the program.
    let mut command = Command::new(words.next().unwrap_or(program));
    command.args(words).env("LC_ALL", "C");
    command
}

/// Runs a command without input. `watch` gets each line of standard output, and says whether it takes the line; it gets nothing
/// whenever the command has printed nothing for a moment.
///
/// # Errors
/// The command cannot be started, by this process or by the wrapper.
pub(crate) fn run(command: &mut Command, watch: impl FnMut(Option<&str>) -> bool) -> io::Result<Ended> {
    // Without a limit, it always ends by itself.
    run_within(command, None, watch)?.ok_or_else(|| io::ErrorKind::TimedOut.into())
}

/// The same, ended after `limit`. Returns nothing then.
pub(crate) fn run_within(
    command: &mut Command,
    limit: Option<Duration>,
    mut watch: impl FnMut(Option<&str>) -> bool,
) -> io::Result<Option<Ended>> {
    let started = Instant::now();
    let mut is_late = false;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (output, complaints) = thread::scope(|scope| {
        let complaints = scope.spawn(|| {
            let mut text = Vec::new();
            stderr.map(|stderr| stderr.take(MOST_OUTPUT).read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        let (sender, lines) = mpsc::channel();
        scope.spawn(move || {
            let stdout = stdout.map(|stdout| BufReader::new(stdout.take(MOST_OUTPUT)));
            for line in stdout.into_iter().flat_map(|stdout| stdout.split(b'\n')) {
                let Ok(line) = line else { break };
                // The receiver lives until the sender is dropped.
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let mut output = String::new();
        loop {
            if !is_late && limit.is_some_and(|limit| started.elapsed() > limit) {
                is_late = true;
                // It fails only if the command has just ended.
                let _ = child.kill();
            }
            match lines.recv_timeout(INTERVAL) {
                Ok(line) if watch(Some(&line)) => {}
                Ok(line) => {
                    output.push_str(&line);
                    output.push('\n');
                }
                Err(RecvTimeoutError::Timeout) => drop(watch(None)),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        (output, complaints.join().unwrap_or_default())
    });
    let status = child.wait()?;
    if status.code() == Some(NOT_STARTED) {
        return Err(io::Error::new(io::ErrorKind::NotFound, complaints));
    }
    Ok((!is_late).then_some(Ended { status, output, complaints }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command(&[], "sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_complaints_and_status_are_kept_apart() {
        let ended = run(&mut shell("echo out; echo progress 1; echo bad >&2; exit 3"), |line| {
            line.is_some_and(|line| line.starts_with("progress"))
        });
        let ended = ended.unwrap();
        assert_eq!((ended.output.as_str(), ended.complaints.as_str()), ("out\n", "bad\n"));
        assert_eq!(ended.status.code(), Some(3));
    }

    #[test]
    fn output_without_end_is_not_kept() {
        let ended = run(&mut shell("exec cat /dev/zero"), |_| false).unwrap();
        assert!(!ended.status.success() && ended.output.len() as u64 == MOST_OUTPUT + 1);
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let [short, long] = [Duration::from_millis(300), Duration::from_secs(60)].map(Some);
        let mut command = command(&[], "sleep");
        assert!(run_within(command.arg("60"), short, |_| false).unwrap().is_none());
        assert!(run_within(&mut shell("echo out"), long, |_| false).unwrap().is_some());
    }

    #[test]
    fn a_silent_command_is_watched() {
        let mut silent = 0;
        run(&mut shell("sleep 0.7"), |line| {
            silent += usize::from(line.is_none());
            false
        })
        .unwrap();
        assert!(silent > 0);
    }

    #[test]
    fn a_missing_tool_says_what_to_install() {
        let tool = Tool { program: "no-such-tool", does: "does something", install: "some-package" };
        for wrapper in [&[][..], &["env".into()]] {
            let error = tool.run(&mut tool.command(wrapper), "do it", || {}).unwrap_err().to_string();
            assert_eq!(error, "cannot start no-such-tool, which does something; install some-package");
        }
    }
}
