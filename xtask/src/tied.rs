//! A command that becomes another one after tying its life to that of its parent.
//!
//! The harness starts everything through it (its own program again), so that even `kill -9` of the harness leaves nothing
//! behind: the kernel kills the child when the thread that made it dies (prctl(2), PR_SET_PDEATHSIG; kept across exec).

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use nestmatrix_vmm::qemu::ExecWrapper;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// The first word of the hidden command.
const WORD: &str = "exec-tied-to";

/// The command to become.
#[derive(Debug, PartialEq, Eq)]
pub struct Tied {
    parent: i32,
    command: Vec<OsString>,
}

/// The wrapper that starts commands tied to this process.
///
/// # Errors
/// The operating system does not tell this program's path.
pub fn wrapper() -> std::io::Result<ExecWrapper> {
    let program = std::env::current_exe()?;
    Ok(ExecWrapper::new([program.into_os_string(), WORD.into(), std::process::id().to_string().into()]))
}

impl Tied {
    /// Reads `exec-tied-to PARENT PROGRAM ARGUMENT...`; none if it is another command.
    pub fn parse(arguments: &[OsString]) -> Option<Self> {
        let [word, parent, command @ ..] = arguments else { return None };
        let parent = parent.to_str()?.parse().ok()?;
        (word == WORD && !command.is_empty()).then(|| Self { parent, command: command.to_vec() })
    }

    /// Becomes the command; returns only if that fails.
    pub fn become_it(self) -> ExitCode {
        if let Err(e) = set_pdeathsig(Some(Signal::SIGKILL)) {
            eprintln!("failed to tie this process to its parent: {e}");
            return ExitCode::from(126);
        }
        // The parent may have died before it was asked for.
        if getppid().as_raw() != self.parent {
            return ExitCode::from(126);
        }
        let error = std::process::Command::new(&self.command[0]).args(&self.command[1..]).exec();
        eprintln!("failed to start {}: {error}", self.command[0].to_string_lossy());
        ExitCode::from(127)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hidden_command_is_taken() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let tied = Tied::parse(&words("exec-tied-to 42 qemu -S")).unwrap();
        assert_eq!(tied, Tied { parent: 42, command: words("qemu -S") });
        assert_eq!(Tied::parse(&words("run-matrix --jobs 2")), None);
        assert_eq!(Tied::parse(&words("exec-tied-to 42")), None);
    }
}
