//! The features that a CPU really has, as QEMU reports them, compared with the required ones.
//!
//! Requesting a feature proves nothing: without `enforce`, QEMU leaves out what the host does not have and only warns. So the
//! harness queries the CPU object itself, before the guest runs its first instruction.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::wire::CallError;

use super::Monitor;

/// What QEMU reports about a machine's first CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuReport {
    /// The requested model.
    pub model: String,
    /// QEMU's type of the model: `host-x86_64-cpu`.
    pub model_type: String,
    /// Each required feature, and whether the CPU has it.
    pub required: BTreeMap<String, bool>,
    /// Features of the model that the host does not have (`unavailable-features` of the CPU object).
    pub unavailable: Vec<String>,
    /// Every feature that the model has on this host (`query-cpu-model-expansion`, type full), if this QEMU reports them.
    pub features: Vec<String>,
}

/// A required feature that the CPU does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingFeature {
    /// Its name.
    pub feature: String,
    /// The requested model.
    pub model: String,
}

impl fmt::Display for MissingFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missing CPU feature: {} (model {})", self.feature, self.model)
    }
}

impl CpuReport {
    /// The first required feature that the CPU does not have.
    ///
    /// # Errors
    /// The feature.
    pub fn check(&self) -> Result<(), MissingFeature> {
        let absent = self.required.iter().find(|(name, given)| !**given || self.unavailable.contains(name));
        match absent {
            None => Ok(()),
            Some((feature, _)) => Err(MissingFeature { feature: feature.clone(), model: self.model.clone() }),
        }
    }
}

pub(super) async fn query(
    monitor: &Monitor,
    model: &str,
    required: &[String],
) -> Result<CpuReport, CallError> {
    // As data: its members depend on the target, and a newer QEMU may have another target.
    let cpus = monitor.call("query-cpus-fast", Value::Null).await?;
    let Some(path) = cpus[0]["qom-path"].as_str() else {
        let why = format!("no first CPU in {cpus}");
        let peer = monitor.wire().peer().to_owned();
        return Err(CallError::Unexpected { peer, command: "query-cpus-fast".into(), why });
    };
    let model_type = monitor.property(path, "type").await?;
    let mut given = BTreeMap::new();
    for feature in required {
        // A property that does not exist is a feature that the CPU does not have.
        let value = match monitor.property(path, feature).await {
            Ok(value) => value,
            Err(CallError::Refused { .. }) => Value::Bool(false),
            Err(e) => return Err(e),
        };
        given.insert(feature.clone(), value == Value::Bool(true));
    }
    let unavailable = optional(monitor.property(path, "unavailable-features").await)?;
    // As data: qapi requires `deprecated-props`, which not every QEMU reports.
    let expansion =
        monitor.call("query-cpu-model-expansion", json!({"type": "full", "model": {"name": model}})).await;
    let expansion = optional(expansion)?;
    Ok(CpuReport {
        model: model.to_owned(),
        model_type: model_type.as_str().unwrap_or_default().to_owned(),
        required: given,
        unavailable: names(&unavailable),
        features: switched_on(&expansion["model"]["props"]),
    })
}

/// The reply, or null if this QEMU does not know the command: not every target has it.
fn optional(reply: Result<Value, CallError>) -> Result<Value, CallError> {
    match reply {
        Err(CallError::Refused { .. }) => Ok(Value::Null),
        other => other,
    }
}

fn names(list: &Value) -> Vec<String> {
    let names = list.as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Names of the CPU features among a model's properties: those that are true and are not switches of QEMU itself.
fn switched_on(properties: &Value) -> Vec<String> {
    let properties = properties.as_object().into_iter().flatten();
    properties
        .filter(|(name, value)| **value == Value::Bool(true) && !QEMU_SWITCHES.contains(&name.as_str()))
        .map(|(name, _)| name.clone())
        .collect()
}

/// Properties of x86 CPU objects that control how QEMU treats the CPU. They are not features (target/i386/cpu.c).
const QEMU_SWITCHES: &[&str] = &[
    "check",
    "enforce",
    "migratable",
    "kvm",
    "fill-mtrr-mask",
    "full-cpuid-auto-level",
    "host-cache-info",
    "host-phys-bits",
    "hotplugged",
    "hotpluggable",
    "l3-cache",
    "legacy-cache",
    "lmce",
    "realized",
    "start-powered-off",
    "tcg-cpuid",
    "vmware-cpuid-freq",
    "x-consistent-cache",
    "x-force-cpuid-0x1f",
    "x-intel-pt-auto-level",
    "x-l1-cache-per-thread",
    "x-migrate-smi-count",
    "x-vendor-cpuid-only",
    "x-vendor-cpuid-only-v2",
    "xen-vapic",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn report(required: &[(&str, bool)], unavailable: &[&str]) -> CpuReport {
        CpuReport {
            model: "EPYC-IBPB".into(),
            model_type: "EPYC-IBPB-x86_64-cpu".into(),
            required: required.iter().map(|(n, g)| ((*n).to_owned(), *g)).collect(),
            unavailable: unavailable.iter().map(|n| (*n).to_owned()).collect(),
            features: Vec::new(),
        }
    }

    #[test]
    fn a_required_feature_must_really_be_given() {
        assert_eq!(report(&[("svm", true)], &["fxsr-opt"]).check(), Ok(()));
        let missing = report(&[("svm", false)], &[]).check().unwrap_err();
        assert_eq!(missing.to_string(), "missing CPU feature: svm (model EPYC-IBPB)");
        assert!(report(&[("svm", true)], &["svm"]).check().is_err(), "QEMU says it can't give it");
    }

    #[test]
    fn switches_of_qemu_are_not_features_of_the_cpu() {
        assert_eq!(switched_on(&json!({"svm": true, "enforce": true, "vmx": false, "level": 13})), ["svm"]);
    }
}
