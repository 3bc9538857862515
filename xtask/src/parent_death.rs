//! Ends child processes together with this process, even if this one is killed, and confines emulators.
//!
//! Every command starts through a hidden command of this program. That one asks the kernel for SIGKILL when its parent thread
//! ends (prctl(2), PR_SET_PDEATHSIG), and then becomes the command; the setting is kept across exec. Another hidden command also
//! enters a sandbox, which the emulators of bare machines run in.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use crate::settings;
use crate::terminal::note;
use nestmatrix_vmm::qemu::ExecWrapper;
use nestmatrix_vmm::sandbox::Confinement;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// The hidden command.
const COMMAND: &str = "exec-with-parent-death-signal";

/// The hidden command that also confines itself.
const IN_SANDBOX: &str = "exec-in-sandbox";

/// Its exit status if it could not confine itself. The command was not started then.
const UNCONFINED: u8 = 125;

/// The arguments of a hidden command.
#[derive(Debug, PartialEq, Eq)]
pub struct ExecWithParentDeathSignal {
    parent: i32,
    /// Whether the first words of the command are those of a confinement.
    in_sandbox: bool,
    command: Vec<OsString>,
}

/// The words that go before a command which must end with this process.
///
/// # Errors
/// The path of this program is unknown, or a setting is wrong.
pub fn wrapper() -> io::Result<ExecWrapper> {
    let program = std::env::current_exe()?;
    let words = |command: &str| {
        [program.clone().into_os_string(), command.into(), std::process::id().to_string().into()]
    };
    let wrapper = ExecWrapper::new(words(COMMAND));
    Ok(if settings::sandbox()? { wrapper.with_sandbox(words(IN_SANDBOX)) } else { wrapper })
}

impl ExecWithParentDeathSignal {
    /// Parses `exec-with-parent-death-signal PARENT PROGRAM ARGUMENT...` and `exec-in-sandbox PARENT CONFINEMENT PROGRAM ARGUMENT...`;
    /// none for any other command.
    pub fn parse(arguments: &[OsString]) -> Option<Self> {
        let [word, parent, command @ ..] = arguments else { return None };
        let in_sandbox = word == IN_SANDBOX;
        let parent = parent.to_str()?.parse().ok()?;
        let is_hidden = in_sandbox || word == COMMAND;
        (is_hidden && !command.is_empty()).then(|| Self { parent, in_sandbox, command: command.to_vec() })
    }

    /// Becomes the command; returns only if that fails.
    pub fn exec(self) -> ExitCode {
        let command = match self.in_sandbox {
            true => match confine(&self.command) {
                Ok(command) => command,
                Err(why) => {
                    note!("the sandbox failed, so nothing was started in it: {why}");
                    return ExitCode::from(UNCONFINED);
                }
            },
            false => self.command,
        };
        // After the sandbox, since the kernel forgets the signal if the process changes its user namespace.
        if let Err(e) = set_pdeathsig(Some(Signal::SIGKILL)) {
            note!("failed to set the parent death signal: {e}");
            return ExitCode::from(126);
        }
        // The parent may have ended before the signal was set.
        if getppid().as_raw() != self.parent {
            return ExitCode::from(126);
        }
        let Some((program, arguments)) = command.split_first() else { return ExitCode::from(126) };
        let error = std::process::Command::new(program).args(arguments).exec();
        note!("failed to start {}: {error}", program.to_string_lossy());
        ExitCode::from(127)
    }
}

/// Confines this process; returns the command with its arguments.
fn confine(words: &[OsString]) -> Result<Vec<OsString>, String> {
    let (confinement, command) =
        Confinement::parse(words).map_err(|word| format!("unknown word {}", word.to_string_lossy()))?;
    confinement.enter(command).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hidden_commands_are_parsed() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let parse = |text: &str| ExecWithParentDeathSignal::parse(&words(text));
        let parsed = parse("exec-with-parent-death-signal 42 qemu -S").unwrap();
        let command = words("qemu -S");
        assert_eq!(parsed, ExecWithParentDeathSignal { parent: 42, in_sandbox: false, command });
        let parsed = parse("exec-in-sandbox 42 -- qemu -S").unwrap();
        let command = words("-- qemu -S");
        assert_eq!(parsed, ExecWithParentDeathSignal { parent: 42, in_sandbox: true, command });
        assert_eq!(parse("run-matrix --jobs 2"), None);
        assert_eq!(parse("exec-with-parent-death-signal 42"), None);
    }
}
