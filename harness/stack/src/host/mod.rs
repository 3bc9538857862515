//! A host: anything that can run a command, report about itself, and have machines launched on it.
//!
//! There are two kinds, with one interface: this machine, and a booted level (with an agent, or only with a shell on its
//! console). A Windows level takes no scripts of a POSIX shell, but says the same about itself. A stack boots by launching each level on the host that the level below it has become. Code above this module does
//! not know how deep a host is. What a machine's description becomes on a host is decided by its launcher.

mod booted_level;
mod confined;
mod console_level;
mod diagnostics;
mod facts;
mod near_ends;
mod other_qemu;
mod process_group;
mod process_in_level;
mod relay;
mod run_delay;
mod scratch;
mod swtpm;
mod tcp_owner;
mod this_machine;
mod windows_level;

use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

pub use booted_level::BootedLevel;
pub(crate) use booted_level::IMAGES;
pub use booted_level::{WithVirtio, WithoutVirtio};
pub use console_level::ConsoleLevel;
pub use diagnostics::Diagnostics;
pub(crate) use facts::cpus_in;
pub use facts::{ClosingReport, Counters, Facts};
pub use facts::{count_nested_script, parameter_script, script as facts_script, system_id};
pub use near_ends::NearEnds;
pub(crate) use near_ends::opened;
pub use relay::Relay;
pub(crate) use relay::as_channel;
pub use run_delay::RunDelay;
pub use scratch::Scratch;
pub use swtpm::script as swtpm_script;
pub(crate) use tcp_owner::{accept_of, ports_of};
pub use this_machine::run_here;
pub use this_machine::{Emulator, ThisMachine};
pub(crate) use this_machine::{LocalProcess, MachineKeeper};
pub use windows_level::{HyperVReport, WindowsLevel};

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_vmm::guest::{Agent, ExecOutput};
use nestmatrix_vmm::qemu::{ChannelName, Ended, Machine, OtherQemu, Placement};
use nestmatrix_vmm::wire::CallError;

use crate::report::REPORT_SCRIPT;

/// A host's pending answer.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, HostError>> + 'a>>;

/// What went wrong on a host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The agent of a level reported an error.
    #[error(transparent)]
    Agent(#[from] CallError),
    /// The operating system of this machine reported an error.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// Its answer.
        source: std::io::Error,
    },
    /// A QEMU ended before it had opened its channels.
    #[error("QEMU {} before it opened its channels", .0.describe())]
    EndedAtStart(QemuEnd),
    /// libvirt refused the description of a machine, so there is no QEMU.
    #[error("libvirt refused the machine: {0}")]
    RefusedByLibvirt(String),
    /// A command of the harness failed on a host.
    #[error("{what} on {host}: {why}")]
    Command {
        /// What was attempted.
        what: String,
        /// Where.
        host: String,
        /// Its output.
        why: String,
    },
}

impl HostError {
    /// What runs a machine has no way to save it.
    pub(crate) fn unsavable() -> Self {
        let why = "what runs it has no way to do that".to_owned();
        Self::Command { what: "saving a machine".to_owned(), host: "this machine".to_owned(), why }
    }
}

/// Something that runs commands and reports about itself.
pub trait Host {
    /// Its name: `this machine`, `L1`.
    fn name(&self) -> &str;

    /// Runs `/bin/sh -c script` to its end.
    fn run<'a>(&'a self, script: &'a str) -> Pending<'a, ExecOutput>;

    /// The guest agent that runs its commands, if it has one.
    fn agent(&self) -> Option<&Agent> {
        None
    }

    /// This host as one on which machines are launched.
    ///
    /// # Errors
    /// It runs none.
    fn machine_host(self: Rc<Self>) -> Result<Rc<dyn MachineHost>, HostError>;

    /// This host, if it is a Windows level: for what only that can do.
    fn windows(self: Rc<Self>) -> Option<Rc<WindowsLevel>> {
        None
    }

    /// Lets it report as an innermost level.
    fn report(&self) -> Pending<'_, ExecOutput> {
        self.run(REPORT_SCRIPT)
    }

    /// Reads KVM's counters, the kernel's messages and its clock.
    fn closing_report(&self) -> Pending<'_, ClosingReport> {
        Box::pin(async move {
            let output = self.run(&facts::closing_script(None)).await?;
            Ok(ClosingReport::parse(&String::from_utf8_lossy(&output.stdout)))
        })
    }

    /// The script of its own that it runs before it is asked about itself.
    fn before_facts(&self) -> &'static str {
        ""
    }

    /// Runs the script `before`, and asks the host about itself. Both are one command, since each command is expensive in a
    /// level.
    fn facts<'a>(&'a self, profile: &'a ArchInfo, before: &'a str) -> Pending<'a, Facts> {
        Box::pin(async move {
            let facts = facts::script_with_counters(profile.kvm_module);
            let script = [self.before_facts(), before, &facts].concat();
            let output = self.run(&script).await?;
            Ok(Facts::parse(&String::from_utf8_lossy(&output.stdout)))
        })
    }
}

/// A host on which machines are launched. Its placement says where the files of a machine are, and where its channels end.
pub trait MachineHost: Host + Placement {
    /// How its QEMU is called, without the arguments of a machine.
    fn qemu(&self) -> CommandLine;

    /// How another QEMU is called that a level gets on a disk, without the arguments of a machine.
    ///
    /// # Errors
    /// Only a booted level gets one.
    fn other_qemu(&self, _other: &OtherQemu) -> Result<CommandLine, HostError> {
        Err(self.without_other_qemu())
    }

    /// Gets another QEMU ready, and runs it with `-machine help`.
    fn list_other_machine_types<'a>(&'a self, _other: &'a OtherQemu) -> Pending<'a, ExecOutput> {
        Box::pin(std::future::ready(Err(self.without_other_qemu())))
    }

    /// The error of a host that has no QEMU but its own.
    fn without_other_qemu(&self) -> HostError {
        let why = "only a level gets another QEMU".to_owned();
        HostError::Command { what: "running another QEMU".to_owned(), host: self.name().to_owned(), why }
    }

    /// Runs its QEMU with `-machine help`. A level also prints `firmware NAME` for each firmware file of its QEMU.
    fn list_machine_types(&self) -> Pending<'_, ExecOutput>;

    /// Gets ready for a process that opens these channels. If the monitor of its machine is one of them, it comes first.
    ///
    /// # Errors
    /// The harness can't listen on them.
    fn near_ends(&self, channels: Vec<ChannelName>) -> Result<NearEnds, HostError>;

    /// Makes the files of `machine` available, and starts a process that reads them.
    fn start<'a>(
        &'a self,
        machine: &'a Machine,
        command: CommandLine,
    ) -> Pending<'a, Box<dyn RunningProcess>>;

    /// The script that makes the files of `machine` available, for a launcher that does not start a process by
    /// [`MachineHost::start`].
    ///
    /// # Errors
    /// This host has no such script: what it launches is its own process.
    fn bring_files(&self, machine: &Machine) -> Result<String, HostError>;

    /// The process with this identifier, which has run here since before a snapshot was taken; none if no snapshot contains the
    /// processes of this host.
    fn adopt(&self, _pid: i64) -> Option<Box<dyn RunningProcess>> {
        None
    }

    /// This host, if it is this machine: for launchers that need more of it than a level has.
    fn this_machine(&self) -> Option<&ThisMachine> {
        None
    }
}

/// A program and its arguments, as a host calls it.
#[derive(Debug, Clone)]
pub struct CommandLine {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// How a QEMU ended, and its last output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuEnd {
    /// How.
    pub ended: Ended,
    /// What it wrote to standard output and error, at most the last 4 KiB.
    pub output: String,
    /// Why QEMU itself never ran, if the script that should start it ended.
    pub not_started: Option<String>,
}

/// How much of a QEMU's output is kept, in bytes.
const KEPT_OUTPUT: usize = 4096;

impl QemuEnd {
    /// The end of a QEMU that wrote `output`.
    pub fn new(ended: Ended, output: &[u8]) -> Self {
        let kept = &output[output.len().saturating_sub(KEPT_OUTPUT)..];
        let text = String::from_utf8_lossy(kept);
        let lines: Vec<String> = text.lines().map(nestmatrix_vmm::guest::printable).collect();
        Self { ended, output: lines.join("\n"), not_started: None }
    }

    /// For the end of a sentence: `exited with status 1: its last line`.
    pub fn describe(&self) -> String {
        match last_lines_of(&self.output) {
            words if words.is_empty() => self.ended.to_string(),
            words => format!("{}: {words}", self.ended),
        }
    }
}

/// The process that runs a machine on some host: a QEMU, or another emulator.
pub trait RunningProcess {
    /// CPU time that it has used so far.
    fn cpu_time(&self) -> Pending<'_, Duration>;
    /// How it ended, if it has.
    fn ended(&self) -> Pending<'_, Option<QemuEnd>>;
    /// Lets it save its machine, which goes on afterwards: the devices to this file. Returns the file with the memory. QEMU is asked through
    /// its monitor instead.
    ///
    /// # Errors
    /// It has no way to do that, or fails to.
    fn save<'a>(&'a self, _devices: &'a Path) -> Pending<'a, File> {
        Box::pin(std::future::ready(Err(HostError::unsavable())))
    }
    /// Checks that it has restored all of its machine, if it would not say so itself.
    ///
    /// # Errors
    /// It has not.
    fn check_restored(&self) -> Result<(), HostError> {
        Ok(())
    }
    /// Kills it.
    fn kill(&self) -> Pending<'_, ()>;
    /// Ends it and removes what was made for it in the level around it, if that does not go with the level itself.
    fn clean_up(&self) -> Pending<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
    /// Its output so far, and `with_kernel` what the kernel under it has logged since its start.
    fn diagnostics(&self, with_kernel: bool) -> Pending<'_, Diagnostics>;
    /// Its process identifier in the level in which it runs, if it runs in one.
    fn pid_in_level(&self) -> Option<i64> {
        None
    }
    /// How the swtpm of its machine ended, if that runs on this machine and has ended.
    fn swtpm_end(&self) -> Option<QemuEnd> {
        None
    }
    /// The state of the process of its machine's swtpm (proc_pid_stat(5), field 3), which works in the folder of this name; none if
    /// there is no such process.
    fn swtpm_state<'a>(&'a self, _folder: &'a str) -> Pending<'a, Option<char>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    /// How long ago it was started, if it runs on this machine.
    fn lived(&self) -> Option<Duration> {
        None
    }
    /// How long it has waited for a CPU of this machine, if it runs on this machine.
    fn run_delay(&self) -> Option<RunDelay> {
        None
    }
    /// Its peak memory, in MiB, if it runs on this machine.
    fn peak_memory_mib(&self) -> Option<u64> {
        None
    }
}

/// Lines of a hint that may follow QEMU's message.
const HINT_LINES: usize = 3;

/// The last line of `output` with text. If it is a hint, which QEMU prints below its message and without its own name, the
/// message comes first.
pub fn last_lines_of(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let Some(last) = lines.len().checked_sub(1) else { return String::new() };
    let message = (last.saturating_sub(HINT_LINES)..=last).rev().find(|index| is_of_qemu(lines[*index]));
    nestmatrix_vmm::guest::excerpt(&lines[message.unwrap_or(last)..].join(" "))
}

/// Whether a line is a message under the name of a QEMU: `qemu-system-ppc64: ...`.
fn is_of_qemu(line: &str) -> bool {
    let program = line.split_once(": ").map(|(path, _)| path.rsplit('/').next().unwrap_or(path));
    program.is_some_and(|name| name.starts_with("qemu") && !name.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::last_lines_of;

    const REFUSED: &str = "qemu-system-ppc64: KVM implementation does not support Nested-HV\n";

    #[rstest]
    #[case::nothing("\n \n", "")]
    #[case::one_line(REFUSED, REFUSED.trim_end())]
    #[case::the_last_message("qemu: warning: no\nqemu: disk full\n\n", "qemu: disk full")]
    #[case::a_hint_follows(
        &format!("{REFUSED}Try appending -machine cap-nested-hv=off\n"),
        "qemu-system-ppc64: KVM implementation does not support Nested-HV Try appending -machine cap-nested-hv=off"
    )]
    #[case::of_a_path("/usr/libexec/qemu-kvm: no\nTry yes", "/usr/libexec/qemu-kvm: no Try yes")]
    #[case::not_of_qemu("EAX=0: the qemu\nCode=90", "Code=90")]
    #[case::too_far_up(&format!("{REFUSED}1\n2\n3\n4"), "4")]
    fn what_qemu_said_last_comes_with_the_message_above_a_hint(#[case] output: &str, #[case] expected: &str) {
        assert_eq!(last_lines_of(output), expected);
    }
}
