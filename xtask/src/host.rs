//! `host`: a disposable host, which cells may change as their L0. What a killed run changed is restored before anything else, and the
//! machine is rebooted for cells that do that.

use std::mem;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use clap::{Args, Subcommand};
use nestmatrix::disposable_host::{
    self as disposable, HostPaths, Journal, Lease, Restored, identity, permitted,
};
use nestmatrix::report::host_changes;
use nestmatrix::run::MetalChoice;
use nestmatrix_model::PROGRAM;
use nix::sys::signal::Signal;
use nix::unistd::Uid;

use crate::exit::{Failure, REBOOTING};
use crate::progress::not_restored_hint;
use crate::terminal::{note, print, print_to_stderr};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: HostCommand,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum HostCommand {
    /// Print what identifies this machine, for the file that permits cells to change it
    ///
    /// docs/disposable-hosts.md describes the file. Needs root.
    Identity,
    /// Restore what a run that was killed has changed on this machine
    ///
    /// The next `run-matrix` does the same. Needs root. docs/disposable-hosts.md lists what is restored.
    Restore,
}

pub fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let paths = HostPaths::of_this_machine();
    match arguments.command {
        HostCommand::Identity => {
            let lines = identity(&paths).map_err(Failure::error)?;
            print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>());
        }
        HostCommand::Restore => {
            if !Uid::effective().is_root() {
                return Err(needs_root("host restore"));
            }
            let _lease = Lease::exclusive(&paths).map_err(Failure::error)?;
            if !restore(&paths)? {
                note!("this host is as it was found; there is nothing to restore");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Gets this machine ready for a run on this metal: restores what a killed run changed, and reserves the machine until this process
/// ends. Checks that it may be changed, if it is to be a disposable host. `resumed` is the folder of the resumed run: if that rebooted
/// the machine, its cell continues, and the result says what was found before the cell.
pub fn reserve(
    choice: MetalChoice,
    as_disposable: bool,
    resumed: Option<&Path>,
) -> Result<Option<Journal>, Failure> {
    let paths = HostPaths::of_this_machine();
    if as_disposable {
        check_disposable(choice, &paths)?;
        // The operating system ends it with this process.
        mem::forget(Lease::exclusive(&paths).map_err(Failure::error)?);
        let journal = Journal::read(&paths).map_err(Failure::error)?;
        let rebooted = journal.filter(|journal| resumed.is_some_and(|run| journal.awaits(run)));
        if rebooted.is_none() {
            restore(&paths)?;
        }
        return Ok(rebooted);
    }
    match restore_for_another_run(&paths) {
        // This metal does not depend on the state of the host.
        Err(failure) if choice == MetalChoice::Emulated => note!("warning: {failure}"),
        done => done?,
    }
    if choice != MetalChoice::Emulated {
        mem::forget(Lease::shared(&paths).map_err(Failure::error)?);
    }
    Ok(None)
}

fn check_disposable(choice: MetalChoice, paths: &HostPaths) -> Result<(), Failure> {
    if choice != MetalChoice::Native {
        return Err(Failure::bad_input(miette::miette!(
            "--disposable-host needs --metal native: emulated metal can be changed without it"
        )));
    }
    if !Uid::effective().is_root() {
        return Err(needs_root("run-matrix --disposable-host"));
    }
    permitted(paths).map_err(|e| Failure::bad_input(miette::miette!("--disposable-host: {e}")))
}

/// Restores what a killed run changed, for a run that does not change the machine.
fn restore_for_another_run(paths: &HostPaths) -> Result<(), Failure> {
    if !Journal::exists(paths) {
        return Ok(());
    }
    if !Uid::effective().is_root() {
        // A run that is in progress restores it itself.
        let _lease = Lease::shared(paths).map_err(Failure::error)?;
        return Err(Failure::error(format!(
            "a run that was killed has changed this host; restore it first: sudo {PROGRAM} host restore"
        )));
    }
    let _lease = Lease::exclusive(paths).map_err(Failure::error)?;
    restore(paths).map(|_| ())
}

fn needs_root(what: &str) -> Failure {
    Failure::bad_input(miette::miette!("`{what}` changes this machine, which needs root: run it with sudo"))
}

/// Restores what a killed run changed, and prints that. Returns whether there was anything to restore.
fn restore(paths: &HostPaths) -> Result<bool, Failure> {
    let Some((purpose, Restored { changes, problem })) =
        disposable::restore(paths).map_err(Failure::error)?
    else {
        return Ok(false);
    };
    note!("a run that has not ended has changed this host for {} ({})", purpose.cell, purpose.run.display());
    print_to_stderr(&host_changes(&changes));
    match problem {
        None => note!("this host is again as it was found on {}", purpose.began),
        Some(problem) => return Err(Failure::error(format!("{problem}\n{}", not_restored_hint()))),
    }
    Ok(true)
}

/// What is left to do on this machine after the run in this folder: a reboot for a cell of it, or nothing.
pub fn after_run(run: &Path, is_interrupted: bool) -> Result<Option<ExitCode>, Failure> {
    let paths = HostPaths::of_this_machine();
    // What an ordinary user can't read is not about this run.
    let Ok(Some(journal)) = Journal::read(&paths) else { return Ok(None) };
    if !journal.awaits(run) {
        return Ok(None);
    }
    if is_interrupted {
        restore(&paths)?;
        return Ok(None);
    }
    let resume = format!("{PROGRAM} run-matrix --resume {}", run.display());
    note!("{} reboots this machine now; afterwards: {resume}", journal.purpose.cell);
    if let Err(why) = reboot() {
        restore(&paths)?;
        return Err(Failure::error(format!("failed to reboot this machine: {why}")));
    }
    Ok(Some(ExitCode::from(REBOOTING)))
}

fn reboot() -> Result<(), String> {
    // tmt runs a test again after a reboot that it knows of.
    let words: &[&str] = if std::env::var_os("TMT_TEST_PIDFILE").is_some() {
        &["tmt-reboot"]
    } else if Path::new("/run/systemd/system").exists() {
        &["systemctl", "reboot"]
    } else {
        &["reboot"]
    };
    let status = Command::new(words[0]).args(&words[1..]).status();
    let what = words.join(" ");
    match status {
        Ok(status) if is_rebooting(status) => Ok(()),
        Ok(status) => Err(format!("{what}: {status}")),
        Err(e) => Err(format!("{what}: {e}")),
    }
}

/// Whether the machine reboots after the command that should do it has ended so. A reboot ends all processes, maybe this one first: tmt hangs
/// up on the test, systemd stops the service. What was found must then not be restored, as the cell continues after the reboot. But the user
/// who presses Ctrl-C wants no reboot.
fn is_rebooting(status: ExitStatus) -> bool {
    let by_user = [Signal::SIGINT, Signal::SIGQUIT].map(|signal| signal as i32);
    status.success() || status.signal().is_some_and(|signal| !by_user.contains(&signal))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::done(0, true)]
    #[case::refused(1 << 8, false)]
    #[case::hung_up_on(Signal::SIGHUP as i32, true)]
    #[case::ended_by_systemd(Signal::SIGTERM as i32, true)]
    #[case::interrupted_by_the_user(Signal::SIGINT as i32, false)]
    fn a_reboot_ends_its_command_and_the_user_ends_the_reboot(#[case] status: i32, #[case] reboots: bool) {
        assert_eq!(is_rebooting(ExitStatus::from_raw(status)), reboots);
    }
}
