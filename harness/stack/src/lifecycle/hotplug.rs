//! Adds a CPU to a level that runs. Its kernel must use it.

use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{ChannelKind, HardwareDifference};
use serde_json::Value;

use super::{Done, POLL, machine_of};
use crate::host::cpus_in;
use crate::stack::Stack;
use crate::steps::text_of;
use crate::{Limit, Stop};

/// The script that switches on every CPU that the kernel does not use yet, and prints those that it uses. Only an installed system has
/// a service for that. What the kernel says if it can't comes first.
const SWITCH_ON: &str = "for f in /sys/devices/system/cpu/cpu[0-9]*/online; do
  s=; read -r s <$f && [ \"$s\" = 0 ] && { echo 1 >$f; } 2>&1
done
read -r c </sys/devices/system/cpu/online; echo \"$c\"";

impl Stack<'_> {
    /// Adds a CPU to the machine of `level`, and waits until its kernel uses it.
    pub(super) async fn hotplug_cpu(&mut self, level: LevelNumber) -> Result<Done, Stop> {
        let id = machine_of(self, level)?;
        let qemu = self.wire(level, ChannelKind::Qmp)?;
        let slots = async { Ok(qemu.call("query-hotpluggable-cpus", Value::Null).await?) };
        let slots = self.during(level, slots).await?;
        let had = self.machines.requested(id).map_or(0, |requested| requested.machine.hardware.cpus);
        // QEMU lists the last one first.
        let free = slots.as_array().into_iter().flatten().rfind(|slot| slot["qom-path"].is_null());
        let slot =
            free.ok_or_else(|| self.harness(format!("{level} has no room for another CPU: set `max-cpus`")))?;
        let mut device = slot["props"].clone();
        device["driver"] = slot["type"].clone();
        device["id"] = format!("cpu-{had}").into();
        self.during(level, async { Ok(qemu.call("device_add", device).await?) }).await?;
        self.machines.add_cpu(id);
        let expected =
            had + slot["vcpus-count"].as_u64().and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
        let host =
            self.levels.host(level).ok_or_else(|| self.harness(format!("{level} takes no commands")))?;
        let patience = self.limits.of(level).silence;
        let clock = self.watch.stopwatch();
        loop {
            let limit = Limit { silence: patience, total: patience };
            let said = text_of(&self.during_within(limit, level.into(), host.run(SWITCH_ON)).await?);
            let kernel = said.lines().last().and_then(cpus_in);
            if kernel == Some(expected) {
                self.ledger.level(level).cpus_online = kernel;
                let seen = format!("its kernel uses {expected} CPUs instead of {had}");
                return Ok(Done { seen, stood_still: Duration::ZERO, booted_again: None });
            }
            if clock.elapsed(&self.watch) >= patience {
                let difference = HardwareDifference::CpusOfKernel {
                    machine: expected,
                    kernel: kernel.unwrap_or_default(),
                };
                return Err(self.wrong_hardware(level, difference));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
