//! Ends child processes together with this process, even if this one is killed.
//!
//! Every command starts through a hidden command of this program. That one asks the kernel for SIGKILL when its parent thread
//! ends (prctl(2), PR_SET_PDEATHSIG), and then becomes the command; the setting is kept across exec.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use crate::terminal::note;
use nestmatrix_vmm::qemu::ExecWrapper;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// The hidden command.
const COMMAND: &str = "exec-with-parent-death-signal";

/// The arguments of the hidden command.
#[derive(Debug, PartialEq, Eq)]
pub struct ExecWithParentDeathSignal {
    parent: i32,
    command: Vec<OsString>,
}

/// The words that go before a command which must end with this process.
///
/// # Errors
/// The path of this program is unknown.
pub fn wrapper() -> std::io::Result<ExecWrapper> {
    let program = std::env::current_exe()?;
    Ok(ExecWrapper::new([program.into_os_string(), COMMAND.into(), std::process::id().to_string().into()]))
}

impl ExecWithParentDeathSignal {
    /// Parses `exec-with-parent-death-signal PARENT PROGRAM ARGUMENT...`; none for any other command.
    pub fn parse(arguments: &[OsString]) -> Option<Self> {
        let [word, parent, command @ ..] = arguments else { return None };
        let parent = parent.to_str()?.parse().ok()?;
        (word == COMMAND && !command.is_empty()).then(|| Self { parent, command: command.to_vec() })
    }

    /// Becomes the command; returns only if that fails.
    pub fn exec(self) -> ExitCode {
        if let Err(e) = set_pdeathsig(Some(Signal::SIGKILL)) {
            note!("failed to set the parent death signal: {e}");
            return ExitCode::from(126);
        }
        // The parent may have ended before the signal was set.
        if getppid().as_raw() != self.parent {
            return ExitCode::from(126);
        }
        let error = std::process::Command::new(&self.command[0]).args(&self.command[1..]).exec();
        note!("failed to start {}: {error}", self.command[0].to_string_lossy());
        ExitCode::from(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hidden_command_is_parsed() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let parse = |text: &str| ExecWithParentDeathSignal::parse(&words(text));
        let parsed = parse("exec-with-parent-death-signal 42 qemu -S").unwrap();
        assert_eq!(parsed, ExecWithParentDeathSignal { parent: 42, command: words("qemu -S") });
        assert_eq!(parse("run-matrix --jobs 2"), None);
        assert_eq!(parse("exec-with-parent-death-signal 42"), None);
    }
}
