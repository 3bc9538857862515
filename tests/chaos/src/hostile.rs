//! Bytes that a process of a run seems to write: into one of its pipes or sockets, in the middle of what it writes itself.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::processes::Process;

/// Most that is written.
const MOST: usize = 4 << 20;
/// What is written at once: a pipe that can take something takes as much.
const AT_ONCE: usize = 4096;
/// Longest wait until the other side has read enough.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes hostile bytes into one of the process's pipes and sockets. Returns what it did; none if there is nothing to write to.
///
/// # Errors
/// The operating system's, except that the process has ended.
pub fn write_as(process: &Process, choices: &mut Rng) -> io::Result<Option<String>> {
    let mut channels = channels(process);
    choices.shuffle(&mut channels);
    let (what, bytes) = bytes(choices);
    for channel in channels {
        let Some(copy) = copy_of(process, channel.number)? else { continue };
        // What it only reads from, or only listens on, takes nothing.
        let written = written(&copy, channel.is_socket, &bytes)?;
        if written > 0 {
            let kind = if channel.is_socket { "socket" } else { "pipe" };
            return Ok(Some(format!("{written} bytes, {what}, into {kind} {} of", channel.number)));
        }
    }
    Ok(None)
}

/// An open pipe or socket of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Channel {
    number: i32,
    is_socket: bool,
    /// Its kind and its inode.
    target: String,
}

/// Those that the process shares with none but the run.
fn channels(process: &Process) -> Vec<Channel> {
    // What this process has open, such as a user's pipe, may have been inherited by all.
    let own = open("self");
    let mut found = open(&process.pid.to_string());
    found.retain(|channel| own.iter().all(|own| own.target != channel.target));
    found.sort_by_key(|channel| channel.number);
    found
}

fn open(process: &str) -> Vec<Channel> {
    // It may have ended.
    let entries = std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let channels = entries.filter_map(|entry| {
        let target = std::fs::read_link(entry.path()).ok()?.to_str()?.to_owned();
        let (kind, _) = target.split_once(":[")?;
        let is_socket = kind == "socket";
        let number = entry.file_name().to_str()?.parse().ok()?;
        (is_socket || kind == "pipe").then_some(Channel { number, is_socket, target })
    });
    channels.collect()
}

/// A descriptor of this process for what a process has open; none if that has ended or has closed it.
fn copy_of(process: &Process, number: i32) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(process.pid.as_raw()) else { return Ok(None) };
    let copy = pidfd_open(pid, PidfdFlags::empty())
        .and_then(|process| pidfd_getfd(process, number, PidfdGetfdFlags::empty()));
    match copy.map_err(io::Error::from) {
        Ok(copy) => Ok(Some(copy)),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(e),
        Err(_) => Ok(None),
    }
}

/// Writes the bytes, as far as the other side reads them in time. Returns how many. The descriptor is shared with its process, so that
/// whether it blocks can't be changed here.
fn written(to: &OwnedFd, is_socket: bool, bytes: &[u8]) -> io::Result<usize> {
    let began = Instant::now();
    let mut written = 0;
    while written < bytes.len() && began.elapsed() < PATIENCE {
        let mut ready = [PollFd::new(to, PollFlags::OUT)];
        let wait = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        poll(&mut ready, Some(&wait))?;
        let events = ready[0].revents();
        if events.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            break;
        }
        if !events.contains(PollFlags::OUT) {
            continue;
        }
        let part = &bytes[written..bytes.len().min(written + AT_ONCE)];
        let sent = match is_socket {
            true => send(to, part, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            false => rustix::io::write(to, part),
        };
        match sent {
            Ok(sent) => written += sent,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    Ok(written)
}

/// What is written, in words and as bytes.
fn bytes(choices: &mut Rng) -> (&'static str, Vec<u8>) {
    let size = 1 + choices.usize(..MOST);
    let repeated = |unit: &[u8]| unit.iter().copied().cycle().take(size).collect();
    match choices.u8(..5) {
        0 => ("all values", std::iter::repeat_with(|| choices.u8(..)).take(size).collect()),
        1 => ("one line without an end", repeated(b"x")),
        2 => ("lines", repeated(b"[    0.000000] x\r\n")),
        3 => ("brackets", repeated(b"[{\"return\":")),
        _ => ("control sequences", repeated(b"\x1b]0;x\x07\x1b[2J\x00\xff\n")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use nix::sys::signal::Signal;

    use super::*;

    #[test]
    fn what_is_written_seems_to_come_from_the_process() {
        // Prints its own number, and how much comes from `sleep`.
        let script = "sleep 600 | wc -c & echo $$; wait";
        let mut shell = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let sleep = loop {
            let found = Command::new("pgrep").args(["-P", line.trim(), "-x", "sleep"]).output().unwrap();
            if let Ok(pid) = String::from_utf8(found.stdout).unwrap().trim().parse() {
                break Process { pid: nix::unistd::Pid::from_raw(pid), name: "sleep".into() };
            }
        };
        let done = write_as(&sleep, &mut Rng::with_seed(1)).unwrap().unwrap();
        assert!(done.ends_with("into pipe 1 of"), "{done}");
        sleep.send(Signal::SIGKILL);
        let mut counted = String::new();
        output.read_line(&mut counted).unwrap();
        assert_eq!(counted.trim(), done.split(' ').next().unwrap());
        shell.wait().unwrap();
    }

    #[test]
    fn nothing_is_written_to_a_process_that_has_ended() {
        let mut command = Command::new("true").spawn().unwrap();
        let process =
            Process { pid: nix::unistd::Pid::from_raw(command.id().cast_signed()), name: "true".into() };
        command.wait().unwrap();
        assert_eq!(write_as(&process, &mut Rng::with_seed(1)).unwrap(), None);
    }
}
