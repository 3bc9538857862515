//! KVM's counters of a level, as the QEMU of its guest reports them: for a level whose kernel hides its own. With secure boot, Linux
//! is in lockdown, in which no process can read debugfs (kernel_lockdown(7)).

use std::rc::Rc;
use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{ChannelKind, Monitor};
use tokio::time::timeout;

use super::Stop;
use super::machines::MachineId;
use super::stack::Stack;
use crate::host::{Counters, HostError};

impl Stack<'_> {
    /// Notes the counters of the level around a machine that is still paused, if that level does not show them itself.
    pub(super) async fn count_before(&mut self, id: MachineId, monitor: &Monitor) -> Result<(), Stop> {
        let Some(around) = self.request.plan.around(id.level).filter(|_| !id.second) else { return Ok(()) };
        let before = self.ledger.measurements.counters_before.get(&around);
        if before.is_none_or(|counters| !self.hides_exits(counters)) {
            return Ok(());
        }
        let asked = async { Ok::<Counters, HostError>(monitor.kvm_counters().await?) };
        let of_guest = self.during(id, asked).await?;
        self.ledger.measurements.counters_before.entry(around).or_default().extend(of_guest);
        Ok(())
    }

    /// Notes the counters of all levels around a machine that Windows is about to start. Windows is a nested guest itself as soon as
    /// its Hyper-V runs, so what was counted before shows nothing about that machine.
    pub(super) async fn count_again(&mut self, id: MachineId) -> Result<(), Stop> {
        let limit = self.limits.of(id.level).total;
        for (level, host) in self.levels.hosts() {
            if Rc::clone(&host).windows().is_some() {
                continue;
            }
            let mut counters = self.ask_facts(level, &*host, String::new()).await?.counters;
            if self.hides_exits(&counters) {
                counters.extend(self.counters_from_guest(level, limit).await.unwrap_or_default());
            }
            self.ledger.measured(id).counters_before.insert(level, counters);
        }
        Ok(())
    }

    /// Whether exits are not among what a level shows of its counters. In lockdown, only those are readable that can't be reset.
    pub(super) fn hides_exits(&self, counters: &Counters) -> bool {
        self.request.plan.profile.exit_counters.iter().all(|name| !counters.contains_key(*name))
    }

    /// The counters of `level` when its guest has done its work; none if its QEMU does not answer.
    pub(super) async fn counters_from_guest(&self, level: LevelNumber, limit: Duration) -> Option<Counters> {
        let guest = level.next()?;
        let wire = self.watch.wire(guest, ChannelKind::Qmp)?.clone();
        let asked = async { Monitor::reattach(wire).await?.kvm_counters().await };
        timeout(limit, asked).await.ok()?.ok()
    }
}
