//! Records a stack while it boots, for its [`Observation`]. The boot itself reads almost nothing of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nestmatrix_model::{LevelNumber, Stage};
use nestmatrix_vmm::qemu::{CpuModel, Machine};

use super::machines::{FIRMWARE, MachineId};
use super::{HostReboot, LevelFacts, Measurements, Observation, StageTime, StepRecord, Stop, Usage, measure};

/// The record of a stack.
pub(super) struct Ledger {
    /// The time from which others are counted.
    started: Instant,
    stages: Vec<StageTime>,
    levels: BTreeMap<LevelNumber, LevelFacts>,
    pub(super) measurements: Measurements,
    steps: Vec<StepRecord>,
    /// The CPU models of the innermost level's QEMU, if that was asked.
    pub(super) cpu_models: Option<Vec<CpuModel>>,
    /// How long the stack was paused.
    pub(super) paused: Duration,
    /// Whether it was restored, if it should have been.
    pub(super) restored: Option<bool>,
    /// The boot id of this machine, if that is to be rebooted now.
    pub(super) host_boot_id: Option<String>,
}

impl Ledger {
    /// The empty record of a stack whose cell began at `started`.
    pub(super) fn new(started: Instant, measurements: Measurements) -> Self {
        Self {
            started,
            stages: Vec::new(),
            levels: BTreeMap::new(),
            measurements,
            steps: Vec::new(),
            cpu_models: None,
            paused: Duration::ZERO,
            restored: None,
            host_boot_id: None,
        }
    }

    /// Notes that the stage before is done and `stage` begins.
    pub(super) fn enter(&mut self, stage: Stage) {
        let now = self.end_stage();
        self.stages.push(StageTime { stage, start: now, end: now });
    }

    /// Notes that the stage is done; returns the time.
    pub(super) fn end_stage(&mut self) -> f64 {
        let now = self.started.elapsed().as_secs_f64();
        if let Some(last) = self.stages.last_mut() {
            last.end = now;
        }
        now
    }

    /// The stages so far.
    pub(super) fn stages(&self) -> &[StageTime] {
        &self.stages
    }

    /// What is known about a level, to be added to.
    pub(super) fn level(&mut self, level: LevelNumber) -> &mut LevelFacts {
        self.levels.entry(level).or_default()
    }

    /// What is known about a level, if anything.
    pub(super) fn known_of(&self, level: LevelNumber) -> Option<&LevelFacts> {
        self.levels.get(&level)
    }

    /// Notes a part of a level that no vendor would provide.
    pub(super) fn given(&mut self, machine: &Machine) {
        let level = self.level(machine.level);
        level.cpus = Some(machine.hardware.cpus);
        level.memory_mib = Some(machine.memory_mib);
        level.command_line = machine.boot.parameters().map(str::to_owned);
        level.firmware = machine.properties.get(FIRMWARE).cloned();
    }

    /// The measurements of a machine and of the levels in it: those of the stack, or of its second machine.
    pub(super) fn measured(&mut self, id: MachineId) -> &mut Measurements {
        if id.second {
            self.measurements.second_machine.get_or_insert_default()
        } else {
            &mut self.measurements
        }
    }

    /// Adds the result of a step.
    pub(super) fn add_step(&mut self, step: StepRecord) {
        self.steps.push(step);
    }

    /// Whether a command of the scenario was run in a level.
    pub(super) fn has_run_command_in(&self, level: LevelNumber) -> bool {
        self.steps.iter().any(|step| step.on == level && step.run.is_some())
    }

    /// The observation of the stack, after its end. `last_lines` returns the last lines of a level's console.
    pub(super) fn into_observation(
        mut self,
        stop: Option<Stop>,
        usage: Usage,
        last_lines: impl Fn(LevelNumber) -> Vec<String>,
    ) -> Observation {
        for (level, facts) in &mut self.levels {
            facts.last_lines = last_lines(*level);
        }
        measure::compare(&mut self.levels);
        let host_reboot = self.host_boot_id.map(|boot_id| {
            // The last one is the reboot.
            let before = self.steps.len().saturating_sub(1);
            HostReboot { steps: self.steps[..before].to_vec(), boot_id }
        });
        Observation {
            host_reboot,
            stages: self.stages,
            levels: self.levels,
            steps: self.steps,
            measurements: self.measurements,
            cpu_models: self.cpu_models,
            stop,
            restored: self.restored,
            usage,
            paused: self.paused,
        }
    }
}
