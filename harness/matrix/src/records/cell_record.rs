//! A cell's verdict and its reasons, as one line of `verdicts.jsonl`. docs/records.md describes each member for programs that
//! read the file without nestmatrix.

use std::collections::BTreeMap;

use nestmatrix_images::{Image, InstalledEmulator};
use nestmatrix_model::{Architecture, Fidelity, LevelNumber, Stage};
use nestmatrix_stack::{
    Description, LevelFacts, Metal, Snapshot, SnapshotKey, StageTime, StepRecord, Symptom, Usage,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{DiskRecord, GuestRecord, SkipReason, UefiRecord, VerdictWord, in_one_line};
use crate::contained::RelativeFolder;
use crate::disposable_host::HostChange;
use crate::scenario::{Cell, CellName, Expectation, Fingerprint, KnownFlaky, Tier};
use crate::surroundings::GuestOf;

/// A level of a cell's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LevelRecord {
    /// Which.
    pub level: LevelNumber,
    /// What the document asks for: `RHEL 10.0 and later`.
    pub required: String,
    /// The system that ran, by its image: `debian-13`.
    pub os: String,
    /// The image's recipe, product and digest; absent for the level that is this machine, and for an L0 around it.
    pub image: Option<ImageRecord>,
    /// How near that system is to the required one.
    #[serde(alias = "stand_in", deserialize_with = "fidelity")]
    pub fidelity: Fidelity,
    /// Why it is used; absent for the required system itself.
    #[serde(alias = "stand_in_reason")]
    pub fidelity_reason: Option<String>,
    /// The disk that it booted from; absent if QEMU loaded its kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskRecord>,
    /// Its UEFI firmware, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uefi: Option<UefiRecord>,
    /// The image of the swtpm that played its TPM, if it had one and that came from an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swtpm: Option<ImageRecord>,
    /// The other QEMU that it could be migrated to, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_qemu: Option<OtherQemuRecord>,
    /// The guest of the user that it booted, if it booted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestRecord>,
    /// What was seen in it.
    #[serde(flatten)]
    pub seen: LevelFacts,
}

/// A QEMU of another image than that of the level that ran it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherQemuRecord {
    /// The system that it is from, by its image: `debian-12`.
    pub os: String,
    /// The image's recipe, product and digest.
    pub image: ImageRecord,
    /// Its version by its package; a step has what QEMU itself reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<String>,
    /// How near that system is to the required one.
    pub fidelity: Fidelity,
    /// Why it is used; absent for the required system itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fidelity_reason: Option<String>,
}

/// The fidelity of a level's system. Records of earlier versions say whether it is a stand-in.
fn fidelity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Fidelity, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Recorded {
        Fidelity(Fidelity),
        StandIn(bool),
    }
    Ok(match Recorded::deserialize(deserializer)? {
        Recorded::Fidelity(fidelity) => fidelity,
        Recorded::StandIn(true) => Fidelity::StandIn,
        Recorded::StandIn(false) => Fidelity::Product,
    })
}

/// An image as a record names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Recipe.
    pub recipe: String,
    /// Product.
    pub product: String,
    /// SHA-256 that names it in the cache.
    pub digest: String,
}

impl From<&Image> for ImageRecord {
    fn from(image: &Image) -> Self {
        Self {
            recipe: image.name().to_owned(),
            product: image.product().to_string(),
            digest: image.digest().to_string(),
        }
    }
}

/// The snapshot from which a cell was restored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restored {
    /// Its key, the SHA-256 of everything that it depends on.
    pub key: SnapshotKey,
    /// The innermost level that was up in it.
    pub level: LevelNumber,
    /// When it was saved, UTC, RFC 3339.
    pub saved: String,
}

impl From<&Snapshot> for Restored {
    fn from(state: &Snapshot) -> Self {
        let Description { key, level, saved, .. } = state.description();
        Self { key: key.clone(), level: *level, saved: saved.clone() }
    }
}

/// One attempt at a cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// Seconds since the run began.
    pub start: f64,
    /// Seconds since the run began.
    pub end: f64,
    /// When its stack began to boot, in seconds since the run began. Times of stages, consoles and conversations are counted from
    /// here. Absent if it did not get so far, and in runs of earlier versions.
    #[serde(default)]
    pub booted: Option<f64>,
    /// Its verdict.
    pub verdict: VerdictWord,
    /// The key of the snapshot from which it was restored, or was to be; absent if it booted from its outermost level.
    pub from: Option<SnapshotKey>,
    /// Where the stack stopped: what was seen there.
    pub symptom: Option<String>,
    /// The factor of its time limits; absent in runs of earlier versions.
    #[serde(default)]
    pub timeout_scale: Option<f64>,
    /// What the emulator of the outermost level used of this machine.
    #[serde(flatten)]
    pub usage: Usage,
}

/// A cell's verdict and its reasons: one line of `verdicts.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CellRecord {
    /// The cell.
    pub cell: CellName,
    /// Its scenario.
    pub scenario: String,
    /// The document that the scenario tests.
    pub document: String,
    /// The claims that it tests.
    pub claims: Vec<String>,
    /// Its architecture.
    pub architecture: Architecture,
    /// What L0 ran on; absent if it was skipped.
    pub metal: Option<Metal>,
    /// What ran this machine, if that was native metal and a guest. Absent in runs of earlier versions.
    #[serde(default)]
    pub guest_of: Option<GuestOf>,
    /// The tier of its scenario's main claims.
    pub tier: Tier,
    /// The tier of each of its claims, as the documents put it. Empty in runs of earlier versions.
    #[serde(default)]
    pub tiers: BTreeMap<String, Tier>,
    /// What other systems call its scenario, by the names of the properties that they read. Absent in runs of earlier versions.
    #[serde(default)]
    pub ids: BTreeMap<String, String>,
    /// Identifies everything that it asked for; absent in runs of earlier versions.
    #[serde(default)]
    pub fingerprint: Option<Fingerprint>,
    /// The CPU model that its innermost level was to have, if it is of a sweep of CPU models. Absent in runs of earlier versions.
    #[serde(default)]
    pub cpu_model: Option<String>,
    /// The result that the document predicts.
    pub expectation: Expectation,
    /// The verdict.
    pub verdict: VerdictWord,
    /// What its scenario says about its flakiness on this metal and with these versions. Absent in runs of earlier versions.
    #[serde(default)]
    pub known_flaky: Option<KnownFlaky>,
    /// Whether its scenario describes this verdict: the fail of a claim that is known to be wrong, or of a limitation that is
    /// known to be gone. For a flaky cell: whether it describes each of its attempts. Absent in runs of earlier versions.
    #[serde(default)]
    pub as_described: bool,
    /// Whether it has a system that the authors of nestmatrix had not yet run. Absent in runs of earlier versions.
    #[serde(default)]
    pub not_yet_run: bool,
    /// Where the stack stopped, if it did.
    pub stage: Option<Stage>,
    /// The level that the symptom is about.
    pub level: Option<LevelNumber>,
    /// What was seen there. For a skipped cell: what is missing.
    pub symptom: Option<String>,
    /// What was seen there, as data; absent if nothing stopped it, and in runs of earlier versions.
    #[serde(default)]
    pub symptom_data: Option<Symptom>,
    /// Why it was skipped, as data; empty if it was not, and in runs of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_reasons: Vec<SkipReason>,
    /// The image of the emulator that ran its outermost level; absent if that was installed, and in runs of earlier versions.
    #[serde(default)]
    pub emulator: Option<ImageRecord>,
    /// The installed emulator that played its metal; absent if that came from an image, on native metal, and in runs of earlier
    /// versions.
    #[serde(default)]
    pub installed_emulator: Option<InstalledEmulator>,
    /// Its levels, L0 first; empty if it was skipped.
    pub levels: Vec<LevelRecord>,
    /// The evidence that it worked, if it did, in the form of `nestmatrix_stack::Evidence`.
    pub evidence: Option<Value>,
    /// The results of the scenario's steps, in order.
    pub steps: Vec<StepRecord>,
    /// The stages that it went through, in seconds since the cell began.
    pub stages: Vec<StageTime>,
    /// What it changed on this machine, if it was a disposable host. Absent in runs of earlier versions.
    #[serde(default)]
    pub host_changes: Vec<HostChange>,
    /// The snapshot that it was restored from, if it was.
    #[serde(alias = "continued")]
    pub restored: Option<Restored>,
    /// Why it was not restored from a snapshot, in a run that uses snapshots.
    pub cold: Option<String>,
    /// Every attempt, first to last.
    pub attempts: Vec<Attempt>,
    /// The number, from 1, of the attempt that the other members describe, if it is not the last one. Absent in older runs.
    #[serde(default, alias = "told_of")]
    pub described_attempt: Option<usize>,
    /// Its folder, relative to the run's.
    pub folder: Option<RelativeFolder>,
    /// In a merged run, the run that this record comes from.
    pub run: Option<String>,
}

impl CellRecord {
    /// Whether it expects a ratio of performance that its metal can't show: then its verdict says nothing about its claims.
    pub fn leaves_performance_open(&self) -> bool {
        let mut benchmarks = self.steps.iter().filter_map(|step| step.benchmark.as_ref());
        benchmarks.any(|benchmark| benchmark.judgement.is_left_open())
    }

    /// The record of a skipped cell, which is an error if the cell had to run.
    pub fn skipped(cell: &Cell, skipped: &[SkipReason], must_run: bool) -> Self {
        let reasons = in_one_line(skipped);
        if must_run {
            let symptom = Some(format!("it must run here but can't: {reasons}"));
            Self { symptom, skip_reasons: skipped.to_vec(), ..Self::blank(cell, VerdictWord::Error) }
        } else {
            let symptom = Some(reasons);
            Self { symptom, skip_reasons: skipped.to_vec(), ..Self::blank(cell, VerdictWord::Skip) }
        }
    }

    /// A record of `cell` with this verdict and nothing else.
    pub(crate) fn blank(cell: &Cell, verdict: VerdictWord) -> Self {
        Self {
            cell: cell.name.clone(),
            scenario: cell.scenario.clone(),
            document: cell.document.clone(),
            claims: cell.claims.clone(),
            architecture: cell.architecture,
            metal: None,
            guest_of: None,
            tier: cell.tier,
            tiers: cell.tiers.clone(),
            ids: cell.ids.clone(),
            fingerprint: Some(Fingerprint::of(cell)),
            cpu_model: cell.cpu_model.clone(),
            expectation: cell.expectation.clone(),
            verdict,
            known_flaky: None,
            as_described: false,
            not_yet_run: cell.untried().next().is_some(),
            stage: None,
            level: None,
            symptom: None,
            symptom_data: None,
            skip_reasons: Vec::new(),
            emulator: None,
            installed_emulator: None,
            levels: Vec::new(),
            evidence: None,
            steps: Vec::new(),
            stages: Vec::new(),
            host_changes: Vec::new(),
            restored: None,
            cold: None,
            attempts: Vec::new(),
            described_attempt: None,
            folder: None,
            run: None,
        }
    }

    /// The tiers of its claims, each once.
    pub fn tiers(&self) -> impl Iterator<Item = Tier> {
        let of_scenario = if self.tiers.is_empty() { Some(self.tier) } else { None };
        self.tiers.values().copied().chain(of_scenario)
    }

    /// How long the described attempt took, in seconds.
    pub fn seconds(&self) -> f64 {
        self.described_index()
            .and_then(|index| self.attempts.get(index))
            .map_or(0.0, |attempt| attempt.end - attempt.start)
    }

    /// The place of the described attempt: its stages, levels, evidence and files are the cell's.
    pub fn described_index(&self) -> Option<usize> {
        self.described_attempt.unwrap_or(self.attempts.len()).checked_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_record_that_is_read_and_written_again_is_the_same(start in 0.0..1e5, end in 0.0..1e5) {
            let attempt = json!({
                "start": start, "end": end, "verdict": "pass", "from": null, "symptom": null,
                "cpu_seconds": end, "peak_memory_mib": 512,
            });
            let read: Attempt = serde_json::from_str(&attempt.to_string()).unwrap();
            prop_assert_eq!((read.start, read.end, read.usage.cpu_seconds), (start, end, end));
            let again = serde_json::from_str::<Value>(&serde_json::to_string(&read).unwrap()).unwrap();
            for number in ["start", "end", "cpu_seconds"] {
                prop_assert_eq!(&again[number], &attempt[number]);
            }
        }
    }
}
