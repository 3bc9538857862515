//! A command of a scenario on this machine, as a process group that ends as a whole.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use nestmatrix_vmm::guest::ExecOutput;
use nestmatrix_vmm::qemu::ExecWrapper;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::HostError;

/// How many bytes of each stream of a command are kept; the rest is read and dropped.
const KEPT_OUTPUT: usize = 1 << 20;

/// Ends the group when the harness has ended, however it did: its end of standard input is closed then. The script gets none.
const WATCHED: &str = "exec 3<&0 </dev/null
{ read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 &
exec 3<&-
exec /bin/sh -c \"$1\"";

/// Runs `/bin/sh -c script` on this machine to its end, as a process group. The whole group ends with the harness, and when
/// this future is dropped: steps of a scenario have a time limit.
pub(super) async fn run_in_group(wrapper: &ExecWrapper, script: &str) -> Result<ExecOutput, HostError> {
    let failed = |source| HostError::System { what: "running /bin/sh".to_owned(), source };
    let mut words = wrapper
        .words()
        .iter()
        .map(OsString::as_os_str)
        .chain(["/bin/sh", "-c", WATCHED, "sh", script].map(AsRef::as_ref));
    let mut command = tokio::process::Command::new(words.next().unwrap_or_default());
    let piped = std::process::Stdio::piped;
    command.args(words).stdin(piped()).stdout(piped()).stderr(piped());
    let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(failed)?;
    // Open until the group has ended.
    let _stdin = child.stdin.take();
    let mut group = Group(child);
    let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
    let (stdout, stderr) = tokio::try_join!(kept(stdout), kept(stderr)).map_err(failed)?;
    let status = group.ended().await.map_err(failed)?;
    Ok(ExecOutput {
        status: status.code().map(Into::into),
        signal: status.signal().map(Into::into),
        stdout,
        stderr,
    })
}

/// Reads a stream to its end, and keeps the first `KEPT_OUTPUT` bytes.
async fn kept(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let Some(mut stream) = stream else { return Ok(kept) };
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(kept),
            read => kept.extend_from_slice(&buffer[..read.min(KEPT_OUTPUT - kept.len())]),
        }
    }
}

/// Interval at which the end of a group's leader is polled. It has usually ended when its streams end.
const POLL: Duration = Duration::from_millis(5);

/// The leader of a process group. Dropping it ends the whole group.
struct Group(tokio::process::Child);

impl Group {
    /// Waits for the leader's end and ends the rest of the group, which may have closed the streams and still run.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        if let Some(leader) = self.leader() {
            let poll = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            // It is not reaped yet: only until then does its number certainly belong to its group.
            loop {
                match waitid(Id::Pid(leader), poll) {
                    Ok(WaitStatus::StillAlive) => tokio::time::sleep(POLL).await,
                    // nix has no name for a real-time signal that ended it.
                    Ok(_) | Err(Errno::EINVAL) => break,
                    Err(e) => return Err(e.into()),
                }
            }
            self.kill();
        }
        self.0.wait().await
    }

    /// The process identifier of the leader and the group; none once the leader is reaped.
    fn leader(&self) -> Option<Pid> {
        self.0.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw)
    }

    fn kill(&self) {
        if let Some(leader) = self.leader() {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn wrapper() -> ExecWrapper {
        ExecWrapper::new(Vec::<OsString>::new())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_command_gives_its_status_and_both_streams() {
        let output = run_in_group(&wrapper(), "echo out; echo err >&2; exit 3").await.unwrap();
        assert_eq!((output.status, output.signal), (Some(3), None));
        assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_command_that_prints_without_end_is_kept_in_part() {
        let output = run_in_group(&wrapper(), "head -c 3000000 /dev/zero; echo end >&2").await.unwrap();
        assert_eq!((output.stdout.len(), &*output.stderr), (KEPT_OUTPUT, &b"end\n"[..]));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn all_of_a_command_that_is_given_up_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let script = format!("sleep 1000 & echo $! >{}; wait", file.display());
        let given_up = tokio::time::timeout(Duration::from_secs(1), run_in_group(&wrapper(), &script)).await;
        assert!(given_up.is_err());
        assert_ends(&file).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_command_has_no_input_and_waits_for_its_own_processes_alone() {
        let script = "cat; wait; echo done; [ ! -e /proc/$$/fd/3 ] || echo 'it has the watched pipe'";
        let output = run_in_group(&wrapper(), script).await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "done\n");
    }

    #[test]
    fn all_of_a_command_ends_if_the_harness_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let script = format!("sleep 1000 & echo $! >{}; wait", file.display());
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", WATCHED, "sh", &script]).stdin(std::process::Stdio::piped());
        let mut child = std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn().unwrap();
        while fs_text(&file).is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // What the kernel does when the harness has ended.
        drop(child.stdin.take());
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(assert_ends(&file));
    }

    fn fs_text(file: &std::path::Path) -> String {
        std::fs::read_to_string(file).unwrap_or_default()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_command_leaves_running_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let script = format!("sleep 1000 >/dev/null 2>&1 & echo $! >{}; exit 3", file.display());
        let output = run_in_group(&wrapper(), &script).await.unwrap();
        assert_eq!(output.status, Some(3));
        assert_ends(&file).await;
    }

    /// Ends the process whose identifier is in a file.
    async fn assert_ends(file: &std::path::Path) {
        let id: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let lives = || {
            std::fs::read_to_string(format!("/proc/{id}/stat"))
                .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z")))
        };
        let began = Instant::now();
        while lives() {
            assert!(began.elapsed() < Duration::from_secs(10), "process {id} lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
