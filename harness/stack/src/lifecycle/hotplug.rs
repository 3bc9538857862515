//! Adds a CPU, or memory, to a level that runs. Its kernel must use it.

use std::time::Duration;

use nestmatrix_model::LevelNumber;
use nestmatrix_vmm::qemu::{ChannelKind, HardwareDifference, MEMORY_MODULE_MIB, memory_module};
use nestmatrix_vmm::wire::{CallError, Wire};
use serde_json::{Value, json};

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

/// The script that switches on all memory that the kernel does not use yet, and prints how much it uses.
const SWITCH_ON_MEMORY: &str = "for f in /sys/devices/system/memory/memory[0-9]*/state; do
  s=; read -r s <$f && [ \"$s\" = offline ] && { echo online >$f; } 2>&1
done 2>/dev/null
while read -r k v _; do [ \"$k\" = MemTotal: ] && echo \"$v\"; done </proc/meminfo";

/// The share of a memory module that a kernel must use. It keeps a part for itself, to manage the module.
const USED: f64 = 0.9;

impl Stack<'_> {
    /// Adds a memory module to the machine of `level`, and waits until its kernel uses it.
    pub(super) async fn hotplug_memory(&mut self, level: LevelNumber) -> Result<Done, Stop> {
        if let Some(why) = self.request.plan.profile.no_memory_plugging {
            return Err(self.harness(format!("{level} can't get memory: {why}")));
        }
        let id = machine_of(self, level)?;
        let qemu = self.wire(level, ChannelKind::Qmp)?;
        let hardware = self.machines.requested(id).map(|requested| requested.machine.hardware.clone());
        let hardware = hardware.ok_or_else(|| self.harness(format!("{level} was not launched")))?;
        if hardware.memory_modules >= hardware.memory_slots {
            let why =
                format!("{level} has no room for {MEMORY_MODULE_MIB} MiB more memory: set `max-memory-mib`");
            return Err(self.harness(why));
        }
        let before = self.memory_kib(level).await?;
        let module = memory_module(hardware.memory_modules);
        let memory = format!("{module}-memory");
        self.during(level, async { Ok(add_memory(&qemu, &memory).await?) }).await?;
        let device = json!({"driver": "pc-dimm", "id": module, "memdev": memory});
        self.during(level, async { Ok(qemu.call("device_add", device).await?) }).await?;
        self.machines.add_memory_module(id);
        let plugged = u64::from(MEMORY_MODULE_MIB);
        let patience = self.limits.of(level).silence;
        let clock = self.watch.stopwatch();
        loop {
            let now = self.memory_kib(level).await?;
            let more = now.saturating_sub(before) >> 10;
            #[expect(clippy::cast_precision_loss, reason = "it is far below 2^52")]
            if more as f64 >= plugged as f64 * USED {
                let seen = format!("its kernel uses {more} MiB more than the {} MiB before", before >> 10);
                return Ok(Done { seen, stood_still: Duration::ZERO, booted_again: None });
            }
            if clock.elapsed(&self.watch) >= patience {
                return Err(self.wrong_hardware(level, HardwareDifference::MemoryOfKernel { plugged, more }));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Has the kernel of `level` use all memory; returns how much that is, in KiB.
    async fn memory_kib(&mut self, level: LevelNumber) -> Result<u64, Stop> {
        let said = text_of(&self.run(level, SWITCH_ON_MEMORY).await?);
        let kib = said.lines().last().and_then(|line| line.trim().parse().ok());
        kib.ok_or_else(|| self.harness(format!("{level} does not say how much memory it has: {said:?}")))
    }

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

/// Gives a QEMU the memory of a module.
async fn add_memory(qemu: &Wire, id: &str) -> Result<Value, CallError> {
    let bytes = u64::from(MEMORY_MODULE_MIB) << 20;
    let added =
        qemu.call("object-add", json!({"qom-type": "memory-backend-ram", "id": id, "size": bytes})).await;
    match added {
        // Until QEMU 5.2, the properties are in an object inside the arguments.
        Err(CallError::Refused { .. }) => {
            let nested = json!({"qom-type": "memory-backend-ram", "id": id, "props": {"size": bytes}});
            qemu.call("object-add", nested).await
        }
        other => other,
    }
}
