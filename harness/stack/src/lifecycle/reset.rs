//! Resets a level, perhaps after a panic of its kernel, with or without levels inside. What ran in it is gone, and is launched again.

use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::ChannelKind;

use super::{Done, machine_of};
use crate::level::{Level, Reported};
use crate::random::random_hex;
use crate::stack::Stack;
use crate::{Contradiction, Stop, Symptom};

/// How it comes that a level is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// It is reset while it runs.
    AtOnce,
    /// Its kernel panics before.
    ByCrash,
}

/// The script that counts the processes of QEMU in a level.
pub(super) const QEMUS: &str = "n=0
for p in /proc/[0-9]*/comm; do c=; read -r c <$p && case $c in qemu-system* | qemu-kvm) n=$((n + 1)) ;; esac; done 2>/dev/null
echo $n";

impl Stack<'_> {
    /// Resets `level`. It must boot again and host again, and the levels inside, if they ran, are launched again and must give the
    /// same evidence as at first, for a fresh nonce.
    pub(super) async fn reset_and_boot(&mut self, level: LevelNumber, begin: Begin) -> Result<Done, Stop> {
        if let Some(innermost) = self.levels.innermost().cloned().filter(|it| it.id.level == level) {
            return self.reset_innermost(innermost, begin).await;
        }
        let index =
            self.request.index_of(level).ok_or_else(|| self.harness(format!("{level} has no machine")))?;
        self.check_that_nonce_can_change(index + 1)?;
        let ran = self.leave_inside(level)?;
        let mut seen = match begin {
            Begin::AtOnce => self.reboot(level).await?,
            Begin::ByCrash => {
                let before = self.boot_id(level).await?;
                let crash = self.crash(level).await?;
                self.watch.begin_again(level);
                format!("{crash}; {}", self.boot_again(level, &before).await?)
            }
        };
        if let Some(host) = self.levels.hosting(level).map(Level::to_start_on).filter(|_| ran) {
            let left = self.run(level, QEMUS).await?;
            let left = String::from_utf8_lossy(&left.stdout).trim().to_owned();
            if left != "0" {
                return Err(self.harness(format!("{level} was reset, and {left:?} QEMUs run in it")));
            }
            self.renew_nonce()?;
            self.relaunch_inside(index, host).await?;
            let innermost = self.request.plan.innermost();
            self.check_nonce(innermost)?;
            seen.push_str(&format!("; {innermost} was launched again and has returned a fresh nonce"));
        }
        Ok(Done { seen, stood_still: Duration::ZERO, booted_again: Some(level) })
    }

    /// Checks that the level at `first` and those inside can be given another nonce.
    pub(super) fn check_that_nonce_can_change(&self, first: usize) -> Result<(), Stop> {
        let with_nonce = self.request.plan.levels[first..].iter().find(|plan| plan.unified_kernel.is_some());
        match with_nonce {
            None => Ok(()),
            Some(inside) => Err(self.harness(format!(
                "{} has its nonce on a disk, and can't be given another one",
                inside.level
            ))),
        }
    }

    /// The levels inside `level` are about to end with it. From now on, nothing of that counts. Returns whether there are any.
    pub(super) fn leave_inside(&mut self, level: LevelNumber) -> Result<bool, Stop> {
        let id = machine_of(self, level)?;
        let Some(next) = level.next().filter(|inside| self.machines.runs(*inside)) else { return Ok(false) };
        if let Some(moved) = self.channels.moved_inside(level) {
            let why = format!(
                "{moved} was migrated an odd number of times: it is launched on its first channels only"
            );
            return Err(self.harness(why));
        }
        let inside = LevelNumber::ALL.into_iter().filter(|inside| *inside > level);
        inside.for_each(|inside| self.watch.ignore_monitor(inside));
        self.watch.suspend_from(next, id.second);
        self.machines.forget_inside(level);
        self.levels.forget_inside(level);
        Ok(true)
    }

    /// Resets the innermost level, whose command line stays the same. That it reports again, from a kernel with another boot id,
    /// shows that it has booted.
    async fn reset_innermost(&mut self, innermost: Level<Reported>, begin: Begin) -> Result<Done, Stop> {
        let (level, id) = (innermost.id.level, innermost.id);
        let before = self.boot_id(level).await?;
        let crash = match begin {
            Begin::AtOnce => String::new(),
            Begin::ByCrash => format!("{}; ", self.crash(level).await?),
        };
        let qemu = self.wire(level, ChannelKind::Qmp)?;
        self.let_reset(level, &qemu, true).await?;
        let own_resets = self.watch.own_resets(level);
        self.watch.begin_again(level);
        self.ledger.measurements.report = None;
        self.system_reset(level, &qemu).await?;
        let launched = self.launched_again(&innermost)?;
        let reported = self.wait_for_report(launched, super::Role::Again).await?;
        reported.into_iter().for_each(|innermost| self.levels.add_innermost(innermost));
        self.let_reset(level, &qemu, false).await?;
        self.check_own_resets(level, own_resets)?;
        let after = self.boot_id(level).await?;
        if after == before {
            return Err(
                self.harness(format!("{} was reset and has boot id {after} as before", id.in_words()))
            );
        }
        let seen = format!("{crash}{level} has reported again, its boot id was {before} and is {after}");
        Ok(Done { seen, stood_still: Duration::ZERO, booted_again: Some(level) })
    }

    /// The innermost level must have reported the nonce that it was started with now.
    pub(super) fn check_nonce(&self, innermost: LevelNumber) -> Result<(), Stop> {
        let measurements = &self.ledger.measurements;
        let got = measurements.report.as_ref().map(|report| report.nonce.clone()).unwrap_or_default();
        if got == measurements.nonce {
            return Ok(());
        }
        let contradiction = Contradiction::Nonce { got, expected: measurements.nonce.clone() };
        Err(Stop::stack(self.stage, Symptom::NotNested { level: innermost, contradiction }))
    }

    /// The innermost level gets another nonce, so that an old report proves nothing.
    pub(super) fn renew_nonce(&mut self) -> Result<(), Stop> {
        let nonce = random_hex::<16>().map_err(|e| self.harness(format!("failed to get a nonce: {e}")))?;
        let measurements = &mut self.ledger.measurements;
        (measurements.nonce, measurements.report) = (nonce, None);
        Ok(())
    }
}
