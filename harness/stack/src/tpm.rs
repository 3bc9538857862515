//! Whether the levels with a TPM have it: whether their kernels see it, and whether the swtpm that plays it is still there.

use nestmatrix_model::{LevelNumber, TpmDevice};
use nestmatrix_vmm::qemu::{ChannelKind, ChannelName, HardwareDifference, SWTPM, has_lost_swtpm};
use serde_json::Value;

use super::Stop;
use super::explain::Explainer;
use super::machines::{MachineId, RunningMachine};
use super::stack::Stack;
use crate::host::Host;

/// The major version of TPM 2.0.
const VERSION: u32 = 2;

/// The script that prints whether the kernel has this driver, and the version of the TPM that it sees. Before Linux 5.6, only the
/// second device of a TPM 2.0 shows its version.
fn script(driver: &str) -> String {
    format!(
        "modprobe -q {driver} 2>/dev/null
         for d in /sys/bus/*/drivers/{driver}; do [ ! -e $d ] || echo driver; done
         [ -c /dev/tpm0 ] || exit 0
         v=; read -r v 2>/dev/null </sys/class/tpm/tpm0/tpm_version_major || [ ! -c /dev/tpmrm0 ] || v={VERSION}
         echo version=$v\n"
    )
}

impl Stack<'_> {
    /// Asks the kernel of a level with a TPM which one it sees, and stops the stack if it is not the requested one.
    pub(super) async fn check_tpm(&mut self, id: MachineId, host: &dyn Host) -> Result<(), Stop> {
        let TpmDevice::Device { driver, .. } = self.request.plan.profile.tpm else { return Ok(()) };
        if self.machines.requested(id).is_none_or(|one| one.machine.hardware.tpm_folder().is_none()) {
            return Ok(());
        }
        self.check_swtpms().await?;
        if self.is_windows(id.level) {
            // It takes no script. Its QEMU has shown that the device is there.
            return Ok(());
        }
        let printed = self.during(id, host.run(&script(driver))).await?;
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
        let version = printed.lines().find_map(|line| line.strip_prefix("version="));
        let kernel = version.map(|version| version.trim().parse().unwrap_or_default());
        if !id.second {
            self.ledger.level(id.level).tpm = kernel;
        }
        match kernel {
            Some(VERSION) => Ok(()),
            None if !printed.lines().any(|line| line == "driver") => {
                let why = format!("{}'s kernel has no driver for its TPM ({driver})", id.in_words());
                Err(self.harness(why).about(id.level))
            }
            kernel => {
                if let Some(stop) = self.explainer(id.second).lost_swtpm(Look::AtProcess).await {
                    return Err(stop);
                }
                let difference = HardwareDifference::TpmOfKernel { requested: VERSION, kernel };
                Err(self.wrong_hardware(id.level, difference))
            }
        }
    }

    /// Stops the stack if a TPM has lost the swtpm that plays it. That says nothing about the stack.
    pub(super) async fn check_swtpms(&self) -> Result<(), Stop> {
        self.explainer(false).lost_swtpm(Look::AtChannel).await.map_or(Ok(()), Err)
    }
}

/// What is looked at to see whether an swtpm is still there.
#[derive(Clone, Copy)]
pub(super) enum Look {
    /// Its channel to QEMU, by QMP.
    AtChannel,
    /// The state of its process as well.
    AtProcess,
}

impl Explainer<'_> {
    /// The stop of a stack in which a TPM has lost the swtpm that plays it, or still waits for it; none if all swtpms are there.
    pub(super) async fn lost_swtpm(&self, look: Look) -> Option<Stop> {
        for running in self.machines.running() {
            let requested = self.machines.requested(running.id);
            let Some(folder) = requested.and_then(|one| one.machine.hardware.tpm_folder()) else { continue };
            let why = match (self.why_lost(running).await, look) {
                (None, Look::AtProcess) => self.why_stopped(running, folder).await,
                (why, _) => why,
            };
            if let Some(why) = why {
                return Some(Stop::harness(self.stage, why).about(running.id.level));
            }
        }
        None
    }

    /// Whether the console of a level shows that its kernel failed. Nothing inside it answers then.
    fn a_kernel_failed(&self) -> bool {
        let levels = &self.request.plan.levels;
        levels.iter().any(|plan| self.console(plan.level).is_some_and(|console| console.failure().is_some()))
    }

    /// Whether the process of an swtpm does not run: the guest then waits for its TPM.
    async fn why_stopped(&self, running: &RunningMachine, folder: &str) -> Option<String> {
        let asked = tokio::time::timeout(self.limits.moment(), running.qemu.swtpm_state(folder));
        let state = asked.await.ok()?.ok()??;
        // By a signal or a debugger (proc_pid_stat(5)).
        matches!(state, 'T' | 't').then(|| {
            let (id, place) = (running.id.in_words(), where_it_ran(running.id.level));
            format!(
                "{SWTPM}, which plays the TPM of {id}, does not run{place}: its process is in state {state}"
            )
        })
    }

    async fn why_lost(&self, running: &RunningMachine) -> Option<String> {
        let level = running.id.level;
        let whose = format!("{SWTPM}, which plays the TPM of {}", running.id.in_words());
        if let Some(end) = running.qemu.swtpm_end() {
            return Some(format!("{whose}, {}", end.describe()));
        }
        let own = ChannelName { level, kind: ChannelKind::Qmp, second: running.id.second };
        // After a migration, the second machine has the channel of the first one.
        let wire = self.watch.wire_on(own).or_else(|| self.watch.wire(level, ChannelKind::Qmp))?;
        let asked = wire.call("query-chardev", Value::Null);
        match tokio::time::timeout(self.limits.moment(), asked).await {
            Ok(reply) => {
                has_lost_swtpm(&reply.ok()?).then(|| format!("{whose}, has ended{}", where_it_ran(level)))
            }
            // No guest runs yet, so QEMU waits for nothing else, unless a level around it does not run any more.
            Err(_) if self.is_launching(level) && !self.a_kernel_failed() => Some(format!(
                "{whose}, does not answer{}: QEMU waits for it at its start",
                where_it_ran(level)
            )),
            Err(_) => None,
        }
    }
}

/// For the end of a sentence: ` in L0`.
fn where_it_ran(level: LevelNumber) -> String {
    level.below().map_or(String::new(), |around| format!(" in {around}"))
}
