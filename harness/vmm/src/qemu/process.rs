//! A process on this machine that can't outlive the harness.
//!
//! Each QEMU leads its own process group. It is started through an [`ExecWrapper`], which asks the kernel to kill it when the
//! harness dies for any reason. Dropping a [`Process`] ends its whole group.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use crate::sandbox::Confinement;

/// A command that asks the kernel to kill it when its parent dies, and then becomes another command. These are the words before
/// that command's own words.
///
/// It is a separate command because the same between `fork` and `exec` needs `unsafe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecWrapper {
    words: Vec<OsString>,
    /// The same for a command that also confines itself, up to the words of the confinement; none if emulators run without a sandbox.
    confining: Option<Vec<OsString>>,
}

impl ExecWrapper {
    /// A wrapper made of these words: program first. It confines nothing.
    pub fn new(words: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { words: words.into_iter().map(Into::into).collect(), confining: None }
    }

    /// The same, with the words before a confinement and the command that is confined.
    #[must_use]
    pub fn with_sandbox(self, words: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { confining: Some(words.into_iter().map(Into::into).collect()), ..self }
    }

    /// The words.
    pub fn words(&self) -> &[OsString] {
        &self.words
    }

    /// Whether it can confine an emulator.
    pub fn has_sandbox(&self) -> bool {
        self.confining.is_some()
    }

    /// The wrapper that confines its command; the same one if emulators run without a sandbox.
    #[must_use]
    pub fn confined(&self, confinement: &Confinement) -> Self {
        let confining = self.confining.iter().flatten().cloned();
        match self.has_sandbox() {
            true => Self::new(confining.chain(confinement.words())),
            false => self.clone(),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It exited with this status.
    Exited(i64),
    /// This signal ended it.
    Signalled(i64),
    /// It ended, and what started it does not report how.
    Unseen,
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Exited(code.into()),
            (None, signal) => Self::Signalled(signal.unwrap_or(0).into()),
        }
    }
}

impl Ended {
    /// Whether a signal from outside ended it, such as the kernel's when memory runs out (signal(7)). A faulty program does not send
    /// itself such a signal.
    pub fn is_from_outside(self) -> bool {
        let Self::Signalled(signal) = self else { return false };
        let signal = i32::try_from(signal).ok().and_then(|signal| Signal::try_from(signal).ok());
        matches!(
            signal,
            Some(
                Signal::SIGKILL
                    | Signal::SIGTERM
                    | Signal::SIGINT
                    | Signal::SIGHUP
                    | Signal::SIGXCPU
                    | Signal::SIGXFSZ
            )
        )
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with status {code}"),
            Self::Unseen => f.write_str("ended"),
            Self::Signalled(signal) => {
                let name = i32::try_from(*signal).ok().and_then(|signal| Signal::try_from(signal).ok());
                match name {
                    Some(Signal::SIGKILL) => f.write_str("was killed (SIGKILL)"),
                    Some(Signal::SIGABRT) => f.write_str("aborted (SIGABRT)"),
                    Some(Signal::SIGSEGV) => f.write_str("crashed (SIGSEGV)"),
                    _ => write!(f, "was ended by signal {signal}"),
                }
            }
        }
    }
}

/// A process on this machine, leader of its own group.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Pid,
    stderr: PathBuf,
    started: Instant,
}

/// How a process is started.
#[derive(Debug)]
pub struct Start<'a> {
    /// Ends the process when the harness dies.
    pub wrapper: &'a ExecWrapper,
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [OsString],
    /// Its environment, in addition to the harness's.
    pub environment: &'a [(OsString, OsString)],
    /// Its working folder, if not the harness's.
    pub folder: Option<&'a Path>,
    /// The file for its output.
    pub output: &'a Path,
    /// Its standard input and output.
    pub stdio: Stdio,
}

/// The standard input and output of a process.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The input is empty, and the output goes to the file for it.
    #[default]
    Record,
    /// The input is this, and the output goes to the file for it.
    Input(OwnedFd),
    /// Both are this.
    Both(OwnedFd),
}

impl Process {
    /// Starts a process.
    ///
    /// Must be called on a thread that lives as long as the harness: the kernel kills a child when the thread that made it ends
    /// (prctl(2), PR_SET_PDEATHSIG).
    ///
    /// # Errors
    /// The file can't be created, or the program can't be started.
    pub fn start(start: &Start<'_>) -> io::Result<Self> {
        let Start { wrapper, program, arguments, environment, folder, output, stdio } = start;
        let mut words = wrapper
            .words
            .iter()
            .map(OsString::as_os_str)
            .chain([program.as_os_str()])
            .chain(arguments.iter().map(OsString::as_os_str));
        let first = words.next().unwrap_or(program.as_os_str());
        let record = std::fs::File::create(output)?;
        let mut command = Command::new(first);
        match stdio {
            Stdio::Record => command.stdin(std::process::Stdio::null()).stdout(record.try_clone()?),
            Stdio::Input(input) => command.stdin(input.try_clone()?).stdout(record.try_clone()?),
            Stdio::Both(both) => command.stdin(both.try_clone()?).stdout(both.try_clone()?),
        };
        if let Some(folder) = folder {
            command.current_dir(folder);
        }
        let child = command
            .args(words)
            .envs(environment.iter().cloned())
            .stderr(record)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let group = id.ok_or_else(|| io::Error::other("it ended before it had a process identifier"))?;
        Ok(Self { child, group, stderr: output.to_path_buf(), started: Instant::now() })
    }

    /// Its process identifier, which is also that of its group.
    pub fn id(&self) -> i32 {
        self.group.as_raw()
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The file for its output.
    pub fn output_file(&self) -> &Path {
        &self.stderr
    }

    /// Its standard output and error so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.stderr).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn wait(&mut self) -> io::Result<Ended> {
        Ok(self.child.wait().await?.into())
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The operating system's.
    pub fn ended(&mut self) -> io::Result<Option<Ended>> {
        Ok(self.child.try_wait()?.map(Into::into))
    }

    /// The CPU time that it has used.
    ///
    /// # Errors
    /// `/proc` does not know it.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        cpu_time_in_stat(&stat).ok_or_else(|| io::Error::other("its /proc/PID/stat can't be read"))
    }

    /// The peak of its memory, in MiB.
    ///
    /// # Errors
    /// It is gone.
    pub fn peak_memory_mib(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        let kib: Option<u64> = peak.and_then(|peak| peak.trim().parse().ok());
        kib.map(|kib| kib / 1024).ok_or_else(|| io::Error::other("its /proc/PID/status can't be read"))
    }

    /// Sends SIGKILL to its whole group, unless it has ended: once it is reaped, another process may have its number.
    pub fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The only error is that the group is gone, which is what is wanted.
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }

    /// Ends it: gives it the time `grace` to end by itself, kills its group, and reaps it.
    ///
    /// # Errors
    /// It still exists 10 seconds after SIGKILL.
    pub async fn end(mut self, grace: Duration) -> io::Result<Ended> {
        if let Ok(ended) = tokio::time::timeout(grace, self.wait()).await {
            return ended;
        }
        self.kill();
        match tokio::time::timeout(Duration::from_secs(10), self.wait()).await {
            Ok(ended) => ended,
            Err(_) => Err(io::Error::other(format!("process {} lingers after SIGKILL", self.id()))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // It is reaped here, since the runtime may not get to it.
        for _ in 0..200 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// CPU time (user and system) in the text of a `/proc/PID/stat` (proc_pid_stat(5), fields 14 and 15).
///
/// Counts in clock ticks of 100 a second: the value of `USER_HZ` on every architecture that nestmatrix runs on.
pub fn cpu_time_in_stat(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses, and the name may contain blanks and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_with_blanks_and_parentheses() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_time_in_stat(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_time_in_stat("nonsense"), None);
    }

    fn shell(script: &str, output: &Path) -> Process {
        let wrapper = ExecWrapper::new(Vec::<OsString>::new());
        let arguments = ["-c".into(), script.into()];
        Process::start(&Start {
            wrapper: &wrapper,
            program: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &[],
            folder: None,
            output,
            stdio: Stdio::Record,
        })
        .unwrap()
    }

    fn alive(id: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{id}/stat"))
            .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z")))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn dropping_a_process_ends_its_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let process = shell("sleep 1000 & echo $!; wait", &output);
        let grandchild: i32 = loop {
            match process.output().trim().parse() {
                Ok(id) => break id,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        assert!(alive(grandchild));
        drop(process);
        let gone = async {
            while alive(grandchild) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the grandchild is ended too");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn how_a_process_ended_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut exited = shell("echo oh no >&2; exit 3", &dir.path().join("a"));
        assert_eq!(exited.wait().await.unwrap(), Ended::Exited(3));
        assert_eq!(exited.output(), "oh no\n");
        let mut killed = shell("sleep 1000", &dir.path().join("b"));
        killed.kill();
        let ended = killed.end(Duration::from_secs(10)).await.unwrap();
        assert_eq!(ended.to_string(), "was killed (SIGKILL)");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_group_whose_leader_was_reaped_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        // What stays of the group shows whether a signal is sent to its number.
        let mut process = shell("sleep 1000 & echo $!", &dir.path().join("out"));
        assert_eq!(process.wait().await.unwrap(), Ended::Exited(0));
        let left: i32 = process.output().trim().parse().unwrap();
        process.kill();
        drop(process);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let lives = alive(left);
        let _ = nix::sys::signal::kill(Pid::from_raw(left), Signal::SIGKILL);
        assert!(lives, "the number of the group may be that of another one by now");
    }
}
