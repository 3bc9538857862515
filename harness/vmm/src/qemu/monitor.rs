//! QEMU's monitor (QMP): the commands that the harness uses.
//!
//! Replies whose schema differs between QEMU 5.2 and 11.1 are read as data, member by member.

use std::collections::BTreeMap;

use qapi::qmp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::wire::{CallError, Notice, Wire};

use super::{CpuModel, CpuReport, HardwareReport, Machine, cpu, cpu_models, hardware};

/// What QEMU reports about its machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReport {
    /// Its versioned type: `pc-q35-10.0-machine`.
    pub machine_type: String,
    /// Each property that must be on, and whether it is.
    pub required: BTreeMap<String, bool>,
    /// Its CPUs, its memory, its devices, and what was switched off or set in its processor.
    #[serde(default)]
    pub hardware: HardwareReport,
}

impl MachineReport {
    /// Checks that all required properties are on.
    ///
    /// # Errors
    /// The first property that is off.
    pub fn check(&self) -> Result<(), String> {
        match self.required.iter().find(|(_, on)| !**on) {
            None => Ok(()),
            Some((property, _)) => Err(property.clone()),
        }
    }
}

/// What `query-kvm` reports: the only proof that the accelerator is KVM and not a silent fallback to TCG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvmReport {
    /// KVM runs this machine.
    pub enabled: bool,
    /// QEMU is built with KVM.
    pub present: bool,
}

/// A monitor that has sent its greeting and negotiated its capabilities.
#[derive(Debug, Clone)]
pub struct Monitor {
    wire: Wire,
    version: String,
}

impl Monitor {
    /// Waits for the greeting and negotiates the capabilities. Everything after the greeting stays in `notices`.
    ///
    /// # Errors
    /// Any [`CallError`]: QEMU did not start, or the peer is not QEMU.
    pub async fn greet(wire: Wire, notices: &mut mpsc::Receiver<Notice>) -> Result<Self, CallError> {
        let peer = || wire.peer().to_owned();
        let greeting = match notices.recv().await {
            Some(Notice::Greeting(greeting)) => greeting,
            Some(Notice::Event(event)) => {
                let why = format!("the event {} came first", event.name);
                return Err(CallError::Unexpected { peer: peer(), command: "the connection".into(), why });
            }
            Some(Notice::Closed(why)) => return Err(CallError::Closed { peer: peer(), why }),
            None => return Err(CallError::Closed { peer: peer(), why: "there was no greeting".into() }),
        };
        wire.execute(qmp::qmp_capabilities { enable: None }).await?;
        Ok(Self { wire, version: version_in(&greeting["version"]) })
    }

    /// Continues a conversation whose greeting was handled before.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn reattach(wire: Wire) -> Result<Self, CallError> {
        // As data, like the greeting's: a member that is missing must not end the conversation.
        let version = version_in(&wire.call("query-version", Value::Null).await?);
        Ok(Self { wire, version })
    }

    /// The conversation itself.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// QEMU's version with the distribution's addition, such as `10.0.2 (Debian 1:10.0.2+ds-2)`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether KVM runs the machine.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn kvm(&self) -> Result<KvmReport, CallError> {
        let info = self.wire.execute(qmp::query_kvm {}).await?;
        Ok(KvmReport { enabled: info.enabled, present: info.present })
    }

    /// QEMU's machine, with the state of each property that `machine` requires and the hardware that it asks for.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn machine(&self, machine: &Machine) -> Result<MachineReport, CallError> {
        let machine_type = self.property("/machine", "type").await?;
        let mut report = MachineReport {
            machine_type: machine_type.as_str().unwrap_or_default().to_owned(),
            required: BTreeMap::new(),
            hardware: hardware::query(self, machine).await?,
        };
        for property in &machine.require {
            // A property that does not exist is not on.
            let value = match self.property("/machine", property).await {
                Ok(value) => value,
                Err(CallError::Refused { .. }) => Value::Bool(false),
                Err(e) => return Err(e),
            };
            report.required.insert(property.clone(), value == Value::Bool(true));
        }
        Ok(report)
    }

    /// What the first CPU really has, with the state of each feature in `required`.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn cpu(&self, model: &str, required: &[String]) -> Result<CpuReport, CallError> {
        cpu::query(self, model, required).await
    }

    /// The CPU models of this QEMU, and which of them the machine's host can run. Empty if this QEMU does not report them.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn cpu_models(&self) -> Result<Vec<CpuModel>, CallError> {
        match self.call("query-cpu-definitions", Value::Null).await {
            Ok(reply) => Ok(cpu_models::read(&reply)),
            Err(CallError::Refused { .. }) => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// QEMU's run state, which says why a machine does not run.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn run_state(&self) -> Result<String, CallError> {
        // As data: a state that only a newer QEMU knows is passed on too.
        let value = self.call("query-status", Value::Null).await?;
        Ok(value["status"].as_str().unwrap_or_default().to_owned())
    }

    /// KVM's counters of this machine's guest, summed over its CPUs (QMP `query-stats`, since QEMU 7.1; Linux,
    /// `KVM_GET_STATS_FD`). They have the names of KVM's debugfs files, and are readable where a kernel in lockdown hides those.
    /// Empty if this QEMU has no such command.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn kvm_counters(&self) -> Result<BTreeMap<String, u64>, CallError> {
        match self.call("query-stats", json!({ "target": "vcpu" })).await {
            Ok(stats) => Ok(counters_in(&stats)),
            Err(CallError::Refused { .. }) => Ok(BTreeMap::new()),
            Err(e) => Err(e),
        }
    }

    /// Lets the machine run (QMP `cont`).
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn resume(&self) -> Result<(), CallError> {
        self.wire.execute(qmp::cont {}).await.map(|_| ())
    }

    /// Presses and releases a key of the machine's keyboard, by QEMU's name of it (QMP `send-key`).
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn press(&self, key: &str) -> Result<(), CallError> {
        let keys = json!({ "keys": [{ "type": "qcode", "data": key }] });
        self.call("send-key", keys).await.map(|_| ())
    }

    /// Writes a picture of the machine's display to a file of QEMU's host (QMP `screendump`): PNG, or PPM before QEMU 7.1.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn picture(&self, file: &str) -> Result<(), CallError> {
        let wanted = json!({ "filename": file, "format": "png" });
        match self.call("screendump", wanted).await {
            Err(CallError::Refused { .. }) => {
                self.call("screendump", json!({ "filename": file })).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// How many bytes the machine has read from the drive of this name; none if it has no such drive.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn bytes_read(&self, drive: &str) -> Result<Option<u64>, CallError> {
        let stats = self.call("query-blockstats", json!({})).await?;
        let of_drive = stats.as_array().into_iter().flatten().find(|of| of["device"] == drive);
        Ok(of_drive.and_then(|of| of["stats"]["rd_bytes"].as_u64()))
    }

    /// Ends QEMU.
    ///
    /// # Errors
    /// Any [`CallError`] but the channel's end, which may come before the reply.
    pub async fn quit(&self) -> Result<(), CallError> {
        match self.wire.execute(qmp::quit {}).await {
            Ok(_) | Err(CallError::Closed { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    pub(super) async fn property(&self, path: &str, property: &str) -> Result<Value, CallError> {
        self.wire.execute(qmp::qom_get { path: path.into(), property: property.into() }).await
    }

    pub(super) async fn call(&self, command: &str, arguments: Value) -> Result<Value, CallError> {
        self.wire.call(command, arguments).await
    }
}

/// The counters in a reply to `query-stats`, summed over all CPUs. Histograms are left out.
fn counters_in(stats: &Value) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    let of_cpus = stats.as_array().into_iter().flatten();
    let kvm = of_cpus.filter(|of_cpu| of_cpu["provider"] == "kvm");
    for stat in kvm.filter_map(|of_cpu| of_cpu["stats"].as_array()).flatten() {
        if let (Some(name), Some(value)) = (stat["name"].as_str(), stat["value"].as_u64()) {
            *counters.entry(name.to_owned()).or_insert(0) += value;
        }
    }
    counters
}

/// QEMU's version in a greeting or in a reply to `query-version`.
fn version_in(version: &Value) -> String {
    let number = ["major", "minor", "micro"]
        .map(|part| version["qemu"][part].as_u64().map_or_else(|| "?".to_owned(), |n| n.to_string()))
        .join(".");
    match version["package"].as_str().map(|p| p.trim().trim_matches(['(', ')'])) {
        None | Some("") => number,
        Some(package) => format!("{number} ({package})"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counters_of_all_cpus_are_summed() {
        let of_cpu = |exits: u64| {
            let histogram = json!({"name": "halt_wait_hist", "value": [1, 2]});
            json!({"provider": "kvm", "qom-path": "/machine", "stats": [{"name": "exits", "value": exits}, histogram]})
        };
        let other = json!({"provider": "cryptodev", "stats": [{"name": "exits", "value": 5}]});
        let stats = json!([of_cpu(7), of_cpu(35), other]);
        assert_eq!(counters_in(&stats), BTreeMap::from([("exits".to_owned(), 42)]));
        assert!(counters_in(&json!({"stats": 1})).is_empty());
    }

    #[test]
    fn a_version_is_read_whatever_is_missing_in_it() {
        let version = json!({"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "Debian 1:7.2"});
        assert_eq!(version_in(&version), "7.2.0 (Debian 1:7.2)");
        assert_eq!(version_in(&json!({"qemu": {"major": 11}, "package": ""})), "11.?.?");
    }
}
