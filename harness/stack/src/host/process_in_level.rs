//! A process in a booted level, which is asked through the guest agent.

use std::cell::OnceCell;
use std::rc::Rc;
use std::time::Duration;

use nestmatrix_vmm::guest::{Agent, ExecOutput, ExecState};
use nestmatrix_vmm::qemu::{Ended, TPM_READY, cpu_time_in_stat};
use nestmatrix_vmm::wire::CallError;
use tokio::sync::Mutex;

use super::booted_level::{FOLDER, NOT_BROUGHT, NOT_COPIED};
use super::{Diagnostics, HostError, Pending, QemuEnd, RunningProcess, last_lines_of, other_qemu, swtpm};

/// A process in a level.
///
/// A task completes each question, even if the caller gives up: an agent reports the end of a command only once, and keeps a
/// file open until it is asked to close it.
pub(super) struct ProcessInLevel {
    host: String,
    agent: Agent,
    pid: i64,
    /// Its end, once it is known.
    end: Rc<OnceCell<QemuEnd>>,
    /// Locked while the agent is asked for it, because the agent forgets the command after its first answer.
    asking: Rc<Mutex<()>>,
}

impl ProcessInLevel {
    pub(super) fn new(host: &str, agent: &Agent, pid: i64) -> Self {
        let (host, agent) = (host.to_owned(), agent.clone());
        Self { host, agent, pid, end: Rc::default(), asking: Rc::default() }
    }

    /// Completes `work`, even if this future is dropped.
    async fn carry_through<T: 'static>(
        &self,
        work: impl Future<Output = Result<T, CallError>> + 'static,
    ) -> Result<T, HostError> {
        let done = tokio::task::spawn_local(work).await;
        done.map_err(|e| HostError::System {
            what: format!("asking {}", self.host),
            source: std::io::Error::other(e),
        })?
        .map_err(HostError::Agent)
    }
}

impl RunningProcess for ProcessInLevel {
    fn cpu_time(&self) -> Pending<'_, Duration> {
        Box::pin(async move {
            let (agent, path) = (self.agent.clone(), format!("/proc/{}/stat", self.pid));
            let stat = self.carry_through(async move { agent.read_start(&path).await }).await?;
            let stat = String::from_utf8_lossy(&stat);
            cpu_time_in_stat(&stat).ok_or_else(|| HostError::Command {
                what: "reading QEMU's CPU time".into(),
                host: self.host.clone(),
                why: format!("its process {} is gone", self.pid),
            })
        })
    }

    fn ended(&self) -> Pending<'_, Option<QemuEnd>> {
        Box::pin(async move {
            let (agent, pid) = (self.agent.clone(), self.pid);
            let (end, asking) = (Rc::clone(&self.end), Rc::clone(&self.asking));
            self.carry_through(async move {
                let _one_at_a_time = asking.lock().await;
                if end.get().is_none()
                    && let ExecState::Ended(output) = agent.poll(pid).await?
                {
                    // Nothing else sets it while the lock is held.
                    let _ = end.set(qemu_end(&output));
                }
                Ok(end.get().cloned())
            })
            .await
        })
    }

    fn diagnostics(&self, with_kernel: bool) -> Pending<'_, Diagnostics> {
        Box::pin(async move {
            let log = format!("{FOLDER}/qemu-{}.log", self.pid);
            let output = self.agent.run(&Diagnostics::script(self.pid, &log, with_kernel)).await?;
            Ok(Diagnostics::parse(&String::from_utf8_lossy(&output.stdout)))
        })
    }

    fn pid_in_level(&self) -> Option<i64> {
        Some(self.pid)
    }

    fn swtpm_state<'a>(&'a self, folder: &'a str) -> Pending<'a, Option<char>> {
        Box::pin(async move {
            let script = format!("read -r pid <{FOLDER}/{folder}/{TPM_READY} && cat /proc/$pid/stat");
            let stat = self.agent.run(&script).await?;
            Ok(swtpm::state_in(&String::from_utf8_lossy(&stat.stdout)))
        })
    }

    fn kill(&self) -> Pending<'_, ()> {
        Box::pin(async move {
            self.agent.run(&format!("kill -9 {}", self.pid)).await?;
            Ok(())
        })
    }
}

fn qemu_end(output: &ExecOutput) -> QemuEnd {
    let ended = match (output.signal, output.status) {
        (Some(signal), _) => Ended::Signalled(signal),
        (None, status) => Ended::Exited(status.unwrap_or_default()),
    };
    let end = QemuEnd::new(ended, &[&output.stdout[..], &output.stderr[..]].concat());
    QemuEnd { not_started: not_started(&end), ..end }
}

/// Why QEMU never ran, if the script that should become it ended by itself: it could not prepare a file, or the shell did not
/// find QEMU or may not run it (POSIX, Shell Command Language, 2.8.2).
fn not_started(end: &QemuEnd) -> Option<String> {
    match end.ended {
        Ended::Exited(NOT_BROUGHT) if end.output.contains(NOT_COPIED) => Some(end.output.replace('\n', "; ")),
        Ended::Exited(swtpm::NOT_STARTED) if end.output.contains(swtpm::NO_SWTPM) => {
            Some(last_lines_of(&end.output))
        }
        Ended::Exited(other_qemu::NOT_PREPARED) if end.output.contains(other_qemu::NO_OTHER_QEMU) => {
            Some(last_lines_of(&end.output))
        }
        Ended::Exited(126) => Some(format!("QEMU can't be run: {}", last_lines_of(&end.output))),
        Ended::Exited(127) => Some(format!("QEMU is missing: {}", last_lines_of(&end.output))),
        Ended::Exited(_) | Ended::Signalled(_) | Ended::Unseen => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::full(
        97,
        "cat: write error: No space left on device\nnestmatrix could not copy l1-initramfs",
        true
    )]
    #[case::of_qemu(97, "qemu-system-x86_64: something else", false)]
    #[case::without_swtpm(98, "nestmatrix could not start swtpm: libtpms.so.0: cannot open", true)]
    #[case::not_executable(126, "sh: exec: qemu-system-x86_64: Permission denied", true)]
    #[case::missing(127, "sh: exec: qemu-system-x86_64: not found", true)]
    #[case::an_ordinary_end(1, "qemu-system-x86_64: -accel kvm: failed to initialize kvm", false)]
    fn a_qemu_that_never_ran_differs_from_one_that_ended(
        #[case] status: i64,
        #[case] said: &str,
        #[case] never_ran: bool,
    ) {
        let output =
            ExecOutput { status: Some(status), signal: None, stdout: Vec::new(), stderr: said.into() };
        assert_eq!(qemu_end(&output).not_started.is_some(), never_ran);
    }
}
