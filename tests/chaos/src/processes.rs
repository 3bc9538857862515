//! The processes of a run, which all have its mark in their environment.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The environment variable with the mark of a run. A process passes it on to those that it starts.
pub const MARK: &str = "NESTMATRIX_CHAOS";

/// A process of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// The name of its program, which the kernel cuts to 15 bytes.
    pub name: String,
}

impl Process {
    /// Sends it a signal. This fails only if it has ended.
    pub fn send(&self, signal: Signal) {
        let _ = kill(self.pid, signal);
    }
}

/// The living processes with this mark, by their numbers.
pub fn with_mark(mark: &str) -> Vec<Process> {
    let wanted = format!("{MARK}={mark}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Neither those of other users nor those that have just ended can be read.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(Process { pid: Pid::from_raw(pid), name: name.trim_end().to_owned() });
        }
    }
    found.sort_by_key(|process| process.pid);
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a helper of a test cannot do fails that test")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_processes_of_a_run_are_found_by_their_mark() {
        let mark = format!("test-{}", std::process::id());
        assert_eq!(with_mark(&mark), []);
        let start = |mark: &str| Command::new("sleep").arg("60").env(MARK, mark).spawn().unwrap();
        let mut sleeps = [start(&mark), start(&format!("{mark}0"))];
        // Between fork and exec it still has this process's environment.
        let found = loop {
            let found = with_mark(&mark);
            if found.iter().any(|process| process.name == "sleep") {
                break found;
            }
        };
        let [process] = &found[..] else { panic!("{found:?}") };
        assert_eq!(process.pid.as_raw(), i32::try_from(sleeps[0].id()).unwrap());
        process.send(Signal::SIGKILL);
        sleeps[1].kill().unwrap();
        for sleep in &mut sleeps {
            sleep.wait().unwrap();
        }
        assert_eq!(with_mark(&mark), []);
    }
}
