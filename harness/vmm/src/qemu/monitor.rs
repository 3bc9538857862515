//! QEMU's monitor (QMP): what the harness asks it and tells it.
//!
//! Replies whose schema has grown between QEMU 5.2 and 11.1 are read as data, member by member.

use std::collections::BTreeMap;

use qapi::qmp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::wire::{CallError, Notice, Wire};

use super::{CpuReport, cpu};

/// What QEMU says of the machine that it made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReport {
    /// Its type with its version: `pc-q35-10.0-machine`.
    pub machine_type: String,
    /// Each property that is required to be on, and whether it is.
    pub required: BTreeMap<String, bool>,
}

impl MachineReport {
    /// Whether it has what is required of it.
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

/// What `query-kvm` says: the only proof that an accelerator is KVM and not a silent fall-back to TCG.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvmReport {
    /// KVM runs this machine.
    pub enabled: bool,
    /// QEMU is built with KVM.
    pub present: bool,
}

/// A monitor whose greeting was read and whose capabilities are negotiated.
#[derive(Debug, Clone)]
pub struct Monitor {
    wire: Wire,
    version: String,
}

impl Monitor {
    /// Waits for the greeting and negotiates. What comes besides the greeting stays in `notices`.
    ///
    /// # Errors
    /// Any [`CallError`]: QEMU did not start, or it is no QEMU.
    pub async fn greet(wire: Wire, notices: &mut mpsc::Receiver<Notice>) -> Result<Self, CallError> {
        let peer = || wire.peer().to_owned();
        let greeting = match notices.recv().await {
            Some(Notice::Greeting(greeting)) => greeting,
            Some(Notice::Event(event)) => {
                let why = format!("the event {} came first", event.name);
                return Err(CallError::Unexpected { peer: peer(), command: "the connection".into(), why });
            }
            Some(Notice::Closed(why)) => return Err(CallError::Closed { peer: peer(), why }),
            None => return Err(CallError::Closed { peer: peer(), why: "nothing came".into() }),
        };
        wire.execute(qmp::qmp_capabilities { enable: None }).await?;
        Ok(Self { wire, version: version_in(&greeting["version"]) })
    }

    /// Goes on with a conversation that was begun before: its peer has greeted and was answered then.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn take_up(wire: Wire) -> Result<Self, CallError> {
        let version = version_in(&wire.call("query-version", Value::Null).await?);
        Ok(Self { wire, version })
    }

    /// The conversation itself.
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// QEMU's version with the distribution's own addition, such as `10.0.2 (Debian 1:10.0.2+ds-2)`.
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

    /// The machine that QEMU made, with the properties in `required` looked at one by one.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn machine(&self, required: &[String]) -> Result<MachineReport, CallError> {
        let machine_type = self.property("/machine", "type").await?;
        let mut report = MachineReport {
            machine_type: machine_type.as_str().unwrap_or_default().to_owned(),
            required: BTreeMap::new(),
        };
        for property in required {
            // One that does not exist is one that is not on.
            let value = match self.property("/machine", property).await {
                Ok(value) => value,
                Err(CallError::Refused { .. }) => Value::Bool(false),
                Err(e) => return Err(e),
            };
            report.required.insert(property.clone(), value == Value::Bool(true));
        }
        Ok(report)
    }

    /// What the first CPU really got, with the features in `required` looked at one by one.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn cpu(&self, model: &str, required: &[String]) -> Result<CpuReport, CallError> {
        cpu::ask(self, model, required).await
    }

    /// Why the machine does not run, if it does not: QEMU's run state.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn run_state(&self) -> Result<String, CallError> {
        let value = self.call("query-status", json!({})).await?;
        Ok(value["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Lets the machine run.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub async fn resume(&self) -> Result<(), CallError> {
        self.wire.execute(qmp::cont {}).await.map(|_| ())
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
        self.call("qom-get", json!({"path": path, "property": property})).await
    }

    pub(super) async fn call(&self, command: &str, arguments: Value) -> Result<Value, CallError> {
        self.wire.call(command, arguments).await
    }
}

/// What a greeting says of QEMU's version, or `query-version`.
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
    use super::*;

    #[test]
    fn a_version_is_read_whatever_is_missing_in_it() {
        let version = json!({"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "Debian 1:7.2"});
        assert_eq!(version_in(&version), "7.2.0 (Debian 1:7.2)");
        assert_eq!(version_in(&json!({"qemu": {"major": 11}, "package": ""})), "11.?.?");
    }
}
