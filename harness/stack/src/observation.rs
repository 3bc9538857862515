//! The observation of a stack while it boots: what each level was given and reported, and the results of its stages and steps.

use std::collections::BTreeMap;
use std::time::Duration;

use nestmatrix_model::{LevelNumber, Stage};
use nestmatrix_vmm::qemu::CpuModel;
use serde::{Deserialize, Serialize};

use super::{HostReboot, Loops, Measurements, StepRecord, Stop, Traffic};

/// When a stage began and ended, in seconds since the cell began.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The stage.
    pub stage: Stage,
    /// Seconds.
    pub start: f64,
    /// Seconds.
    pub end: f64,
}

/// What is known about a level.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LevelFacts {
    /// The kernel release that it reports.
    pub kernel: Option<String>,
    /// `ID` and `VERSION_ID` of its os-release, as it reports them; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Version of the QEMU that ran it.
    pub qemu: Option<String>,
    /// The machine type that this QEMU gave it. For an innermost level whose QEMU made none, the requested type.
    pub machine: Option<String>,
    /// The requested firmware, if it is not the machine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// CPU model that this QEMU gave it.
    pub cpu: Option<String>,
    /// How many CPUs it was given. This and the next three are unknown for an L0 that is this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// How many CPUs its kernel uses by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus_online: Option<u32>,
    /// The major version of the TPM that its kernel sees, if it was asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<u32>,
    /// What it tried to reach in its network, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// How much memory it was given, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Its kernel command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Its KVM module's `nested` parameter.
    pub nested: Option<String>,
    /// CPU flags in the /proc/cpuinfo of the level below that this level does not have. Unknown for L0, and for the innermost
    /// level.
    #[serde(alias = "lacks")]
    pub missing_features: Vec<String>,
    /// How many times slower its clock was than this machine's, from its first answer to its last; absent if the two are less
    /// than a second apart, and for the innermost level, whose clock is derived from that of the level below.
    #[serde(default)]
    pub clock_slowdown: Option<f64>,
    /// The times of the loops that were measured in it, if they were.
    pub loops: Option<Loops>,
    /// The last lines of its console.
    pub last_lines: Vec<String>,
}

/// The result of booting a stack.
#[derive(Debug)]
pub struct Observation {
    /// The stages that it went through.
    pub stages: Vec<StageTime>,
    /// What is known about each level.
    pub levels: BTreeMap<LevelNumber, LevelFacts>,
    /// The results of the scenario's steps.
    pub steps: Vec<StepRecord>,
    /// What was measured for evidence.
    pub measurements: Measurements,
    /// The CPU models of the innermost level's QEMU, if that was asked.
    pub cpu_models: Option<Vec<CpuModel>>,
    /// Why it stopped, if it did.
    pub stop: Option<Stop>,
    /// Whether it was restored from its snapshot; absent if it was given none.
    pub restored: Option<bool>,
    /// What its outermost level's emulator used of this machine.
    pub usage: Usage,
    /// How long it was paused in a debug session.
    pub paused: Duration,
    /// What was done before this machine has to be rebooted, if the boot ended for that.
    pub host_reboot: Option<HostReboot>,
}

/// What an emulator used of this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// How long it ran, slept, or waited for a CPU, in seconds. This and the next are 0 in old records.
    #[serde(default)]
    pub emulator_seconds: f64,
    /// How long of that it waited for a CPU that other processes used, in seconds: the longest wait of any of its threads.
    #[serde(default)]
    pub waited_seconds: f64,
    /// Its peak memory, in MiB; memory that several processes share counts for each.
    pub peak_memory_mib: u64,
}

impl Usage {
    /// How much of the time since an earlier reading, without waits for a CPU, it used a CPU.
    pub(crate) fn share_since(&self, before: &Self) -> f64 {
        let ran = self.emulator_seconds - before.emulator_seconds;
        let waited = self.waited_seconds - before.waited_seconds;
        (self.cpu_seconds - before.cpu_seconds) / (ran - waited).max(0.001)
    }
}

impl Observation {
    /// Nothing was observed: the stack stopped before any level ran.
    pub fn stopped(stop: Stop) -> Self {
        Self {
            stages: Vec::new(),
            levels: BTreeMap::new(),
            steps: Vec::new(),
            measurements: Measurements::default(),
            cpu_models: None,
            stop: Some(stop),
            restored: None,
            usage: Usage::default(),
            paused: Duration::ZERO,
            host_reboot: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_an_emulator_waits_for_a_cpu_is_no_time_in_which_it_is_idle() {
        let at = |cpu_seconds, emulator_seconds, waited_seconds| Usage {
            cpu_seconds,
            emulator_seconds,
            waited_seconds,
            peak_memory_mib: 0,
        };
        let share = at(5.0, 20.0, 3.0).share_since(&at(4.0, 16.0, 1.0));
        assert!((share - 0.5).abs() < 1e-9, "{share}");
        assert!(Usage::default().share_since(&Usage::default()) < 1e-9, "nothing was measured");
    }
}
