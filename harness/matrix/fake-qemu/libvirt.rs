//! libvirt in a level: a machine that is described by domain XML, and what is asked about its QEMU.

use crate::agent;
use crate::script::End;
use crate::stack::Stack;

/// The process identifier of a QEMU that libvirt starts.
pub const LIBVIRT_PID: i64 = 77;
/// What a script asks if it asks about that process.
pub const PROCESS: &str = "/proc/77/";

/// A command that exits with this status.
pub fn exits(status: i64, stdout: String) -> End {
    End { status: Some(status), signal: None, stdout, stderr: String::new() }
}

/// QEMU's command line for the machine that a script lets libvirt start, if it does.
pub fn created_by(script: &str) -> Option<String> {
    script.contains("virsh create ").then(|| of_domain(script))
}

/// QEMU's command line for the domain XML in a script, as far as the fake reads one.
fn of_domain(script: &str) -> String {
    let between = |start: &str, end: &str| {
        let (_, rest) = script.split_once(start).unwrap_or_default();
        rest.split(end).next().unwrap_or_default()
    };
    let model = match between("<model fallback='allow'>", "<") {
        "" => "host",
        model => model,
    };
    format!(
        "-name {} -machine {},accel={} -cpu {model},{}=on -smp {} -m {}M -append '{}'",
        between("<name>", "<"),
        between(" machine='", "'"),
        between("<domain type='", "'"),
        between("<feature policy='require' name='", "'"),
        between("<vcpu>", "<"),
        between("<memory unit='MiB'>", "<"),
        between("<cmdline>", "<"),
    )
}

impl Stack {
    /// What a script prints about the QEMU that libvirt has started in a level.
    pub fn asked_about_domain(&self, level: u8, script: &str) -> End {
        let end = self.levels().get(&level).and_then(|level| level.processes.get(&LIBVIRT_PID)?.end.clone());
        match end {
            Some(end) if script.contains("/status") => exits(99, format!("ended\n{}", end.stderr)),
            Some(_) => exits(1, String::new()),
            None => exits(0, agent::stat(LIBVIRT_PID, self.cpu_ticks(level, LIBVIRT_PID))),
        }
    }
}
