//! What is observed of a stack while it boots: what each level was given and said, what came of its stages and steps.

use std::collections::BTreeMap;
use std::time::Duration;

use nestmatrix_model::{LevelNumber, Stage};
use serde::{Deserialize, Serialize};

use super::{Loops, Measurements, StepRecord, Stop};

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

/// What is known of a level.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LevelFacts {
    /// Its kernel release, as it says.
    pub kernel: Option<String>,
    /// Version of the QEMU that ran it.
    pub qemu: Option<String>,
    /// Machine type that this QEMU gave it. Of an innermost level whose QEMU made none, the type that it was asked for.
    pub machine: Option<String>,
    /// Firmware that its QEMU was asked for, if that is not the machine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// CPU model that this QEMU gave it.
    pub cpu: Option<String>,
    /// How many CPUs it was given. Of an L0 that is this machine it is not known, as the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// How much memory it was given, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Its kernel command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Its KVM module's `nested` parameter.
    pub nested: Option<String>,
    /// CPU flags that the level below has in its /proc/cpuinfo and this one has not. Nothing is known of the metal of an L0,
    /// nor of the innermost level.
    #[serde(alias = "lacks")]
    pub missing_features: Vec<String>,
    /// How many times slower its clock went than this machine's, from its first answer to its last; absent where the two are less
    /// than a second apart, and of the innermost level, whose clock is derived from that of the level below.
    #[serde(default)]
    pub clock_slowdown: Option<f64>,
    /// The times of the loops that were measured in it, if they were.
    pub loops: Option<Loops>,
    /// The last lines of its console.
    pub last_lines: Vec<String>,
}

/// What came of booting a stack.
#[derive(Debug)]
pub struct Observation {
    /// The stages that it went through.
    pub stages: Vec<StageTime>,
    /// What is known of each level.
    pub levels: BTreeMap<LevelNumber, LevelFacts>,
    /// What came of the scenario's own steps.
    pub steps: Vec<StepRecord>,
    /// What was measured for evidence.
    pub measurements: Measurements,
    /// Why it stopped, if it did.
    pub stop: Option<Stop>,
    /// Whether it was restored from the snapshot that it was given; absent if it was given none.
    pub restored: Option<bool>,
    /// What its outermost level's emulator used of this machine.
    pub usage: Usage,
    /// How long it was paused in a debug session.
    pub paused: Duration,
}

/// What an emulator used of this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// How long it ran, slept, or waited for a CPU, in seconds. 0 in old records, as the next.
    #[serde(default)]
    pub emulator_seconds: f64,
    /// How long of that it waited for a CPU that other processes had, in seconds: the longest wait of any of its threads.
    #[serde(default)]
    pub waited_seconds: f64,
    /// The most memory that it used at a time, in MiB; what several processes share counts for each.
    pub peak_memory_mib: u64,
}

impl Observation {
    /// Nothing was observed: the stack stopped before any level ran.
    pub fn stopped(stop: Stop) -> Self {
        Self {
            stages: Vec::new(),
            levels: BTreeMap::new(),
            steps: Vec::new(),
            measurements: Measurements::default(),
            stop: Some(stop),
            restored: None,
            usage: Usage::default(),
            paused: Duration::ZERO,
        }
    }
}
