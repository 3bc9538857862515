//! Powers a level off in an orderly way, ends its QEMU, and starts the level again in a new one.

use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::Machine;

use super::reset::QEMUS;
use super::{Done, machine_of};
use crate::boot_level::Role;
use crate::innermost_machine::Fitted;
use crate::level::{Launched, Level, StartedOn};
use crate::machines::{MachineId, Requested};
use crate::stack::Stack;
use crate::steps::text_of;
use crate::watch::{Abort, Watch};
use crate::{Stop, Symptom};

/// The script that ends the guests of a level as its init would, and powers it off once the script itself has ended: otherwise no
/// answer would come. The kernel then shows all that it says on its console, since no process can be asked for it any more.
const POWER_OFF: &str = "qemus() {
  n=0
  for p in /proc/[0-9]*/comm; do
    c=; read -r c <$p && case $c in qemu-system* | qemu-kvm) n=$((n + 1)); p=${p%/comm}; $1 ${p##*/} ;; esac
  done 2>/dev/null
}
qemus 'kill -TERM'
tries=0
while qemus :; [ $n -gt 0 ] && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
[ $n = 0 ] || { echo \"$n of its QEMUs do not end after SIGTERM\"; exit 1; }
sync
echo 7 >/proc/sys/kernel/printk
force=-f; [ -d /run/systemd/system ] && force=
(sleep 1; poweroff $force) </dev/null >/dev/null 2>&1 &";

/// What QEMU calls it if the guest's system powers off.
const BY_GUEST: &str = "guest-shutdown";

impl Stack<'_> {
    /// Powers `level` off and starts it again. It must boot, host and, with the levels inside if they ran, give the same evidence as
    /// at first, for a fresh nonce.
    pub(super) async fn power_off_and_boot(&mut self, level: LevelNumber) -> Result<Done, Stop> {
        let index =
            self.request.index_of(level).ok_or_else(|| self.harness(format!("{level} has no machine")))?;
        self.check_that_nonce_can_change(index)?;
        let (id, on) = (machine_of(self, level)?, self.host_of(level)?);
        if id.second {
            let why = format!(
                "{level} was migrated an odd number of times: it is started on its first channels only"
            );
            return Err(self.harness(why));
        }
        let around = level.below().ok_or_else(|| self.harness(format!("{level} has no host")))?;
        let before = self.boot_id(level).await?;
        let inside_ran = self.leave_inside(level)?;
        let noted = self.power_off(level).await?;
        self.end_qemu(level).await?;
        self.check_that_no_qemu_is_left(around, level).await?;
        self.levels.forget_inside(around);
        let (innermost, reports) = (self.request.plan.innermost(), self.request.plan.reports(level));
        let has_nonce = reports || inside_ran;
        if has_nonce {
            self.renew_nonce()?;
        }
        let launched = self.launch_anew(index, id, &on).await?;
        if reports {
            let reported = self.wait_for_report(launched, Role::Again).await?;
            reported.into_iter().for_each(|innermost| self.levels.add_innermost(innermost));
        } else {
            let up = self.come_up(launched).await?;
            let hosting = self.prove_hypervisor(up, Role::Again).await?.to_start_on();
            if inside_ran {
                self.relaunch_inside(index, hosting).await?;
            }
        }
        let after = self.boot_id(level).await?;
        if after == before {
            return Err(self.harness(format!("{level} was started again and has boot id {after} as before")));
        }
        let mut seen = format!("{level} has powered off, its QEMU has ended, and another one has booted it");
        if has_nonce {
            self.check_nonce(innermost)?;
            seen.push_str(&format!("; {innermost} has returned a fresh nonce"));
        }
        noted.iter().for_each(|noted| seen.push_str(&format!("; {noted}")));
        Ok(Done { seen, stood_still: Duration::ZERO, booted_again: Some(level) })
    }

    /// Powers `level` off, and waits for its end. Its kernel must not complain meanwhile. Returns what is worth a note.
    async fn power_off(&mut self, level: LevelNumber) -> Result<Vec<String>, Stop> {
        let complaints =
            |watch: &Watch| watch.console(level).map(|view| view.complaints()).unwrap_or_default();
        let before = complaints(&self.watch).len();
        self.watch.expect_power_off(level);
        let begun = self.run(level, POWER_OFF).await?;
        if begun.status != Some(0) {
            let seen = format!("{level} does not power off: {}", text_of(&begun));
            return Err(Stop::stack(self.stage, Symptom::StandsStill { level, seen }));
        }
        let off = |watch: &Watch| watch.shut_down(level).map(str::to_owned);
        let said = self.until(level, off).await?;
        // What it has said last comes on another channel.
        if let Some(abort) = self.watch.settle().await {
            return Err(self.explain(abort, false).await);
        }
        if said != BY_GUEST {
            return Err(self.explain(Abort::ShutDown { level, reason: said }, false).await);
        }
        let complaints = complaints(&self.watch);
        self.judge_complaints(level, complaints.iter().skip(before).map(String::as_str))
    }

    /// Checks that no QEMU of `level` runs in the level around, if that can be asked.
    async fn check_that_no_qemu_is_left(
        &mut self,
        around: LevelNumber,
        level: LevelNumber,
    ) -> Result<(), Stop> {
        let plan = self.request.plan;
        if !plan.levels.iter().any(|plan| plan.level == around) {
            // Other QEMUs may run on this machine.
            return Ok(());
        }
        // A second machine of a level further out has its QEMU in another level.
        let beside = plan.second == Some(level);
        let running = self.machines.running();
        let others = running.iter().filter(|running| beside && running.id.level == level).count();
        let left = self.run(around, QEMUS).await?;
        let left = String::from_utf8_lossy(&left.stdout).trim().to_owned();
        match left == others.to_string() {
            true => Ok(()),
            false => {
                Err(self.harness(format!("{level} was powered off, and {left:?} QEMUs run in {around}")))
            }
        }
    }

    /// Starts the machine of a level whose QEMU has ended, as it was at first.
    async fn launch_anew(
        &mut self,
        index: usize,
        id: MachineId,
        on: &StartedOn,
    ) -> Result<Level<Launched>, Stop> {
        let level = id.level;
        let instance = self.machines.requested(id).map(|requested| requested.machine.instance);
        let instance = instance.ok_or_else(|| self.harness(format!("{level} was not launched")))?;
        let nonce = self.ledger.measurements.nonce.clone();
        let Fitted { machine, why_default_firmware, .. } =
            self.fitted_machine(index, instance, nonce, &on.host).await?;
        let mut machine = Machine { incoming: false, ..machine };
        self.bring_programs(&mut machine, &on.host).await?;
        self.ledger.given(&machine);
        self.machines.request(Requested { machine: machine.clone(), why_default_firmware });
        self.watch.expect_nothing(level);
        self.watch.begin_again(level);
        let monitor = self.start_again(&machine, on).await?;
        self.query_machine(&machine, &monitor).await?;
        self.count_before(id, &monitor).await?;
        self.during(level, async { Ok(monitor.resume().await?) }).await?;
        Ok(Level { id, monitor: Some(monitor), state: Launched { machine, relay: None } })
    }
}
