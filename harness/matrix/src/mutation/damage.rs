//! One kind of damage, as data: its name, its description, and how it changes a cell.

use std::fmt;

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{
    Accelerator, Command, CpuMode, Fault, FaultAction, LevelNumber, Stage, StageKind, StepAction,
};
use serde::{Deserialize, Serialize};

use crate::scenario::{Cell, LevelSpec, MutationChange};

/// Damage that is done to a cell on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Mutation {
    /// A step does nothing.
    DropStep {
        /// Its number, from 1.
        step: u8,
    },
    /// A step runs `true`; its expected result stays.
    TrueStep {
        /// Its number, from 1.
        step: u8,
    },
    /// A level no longer requires a CPU feature.
    FeatureNotRequired {
        /// The level.
        level: LevelNumber,
        /// The feature, by QEMU's name.
        feature: String,
    },
    /// A level loses a setting of the scenario.
    WithoutSetting {
        /// The level.
        level: LevelNumber,
        /// The setting.
        setting: LevelSetting,
    },
    /// KVM of L0 offers no nesting.
    NestingOff,
    /// The QEMU that runs a level emulates it.
    OnTcg {
        /// The level.
        level: LevelNumber,
    },
    /// The QEMU that runs a level is killed when a stage begins.
    QemuKilled {
        /// The level.
        level: LevelNumber,
        /// The stage.
        at: Stage,
    },
    /// The machine of a level gets a property that no machine has.
    BogusProperty {
        /// The level.
        level: LevelNumber,
    },
    /// A level can't load its KVM module.
    WithoutModule {
        /// The level.
        level: LevelNumber,
    },
    /// The innermost level returns the nonce of another boot.
    OldNonce,
    /// The innermost level is started in L0 instead of the level below it.
    InnermostOnL0,
    /// A mutation that the scenario itself describes.
    Custom {
        /// Its name in the scenario.
        name: String,
        /// The change.
        change: MutationChange,
    },
}

/// A setting of a level in a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LevelSetting {
    /// Parameters of its kernel.
    KernelParameters,
    /// The model of its CPU. The required features stay.
    CpuModel,
    /// The type of its machine.
    MachineType,
    /// Properties of its machine.
    MachineProperties,
    /// A disk with its modprobe configuration.
    Disk,
    /// Features of its CPU that are switched off.
    DisabledFeatures,
    /// Properties of its CPU.
    CpuProperties,
    /// The number of its CPUs.
    Cpus,
    /// Devices, and its network.
    Devices,
    /// The backing of its memory.
    MemoryBacking,
}

impl LevelSetting {
    pub(super) const ALL: [Self; 10] = [
        Self::KernelParameters,
        Self::CpuModel,
        Self::MachineType,
        Self::MachineProperties,
        Self::Disk,
        Self::DisabledFeatures,
        Self::CpuProperties,
        Self::Cpus,
        Self::Devices,
        Self::MemoryBacking,
    ];

    /// Whether the scenario sets it.
    pub(super) fn is_set(self, spec: &LevelSpec) -> bool {
        match self {
            Self::KernelParameters => !spec.settings.kernel_parameters.is_empty(),
            Self::CpuModel => spec.settings.cpu.mode != CpuMode::HostPassthrough,
            Self::MachineType => spec.settings.machine_type.is_some(),
            Self::MachineProperties => !spec.settings.machine.is_empty(),
            Self::Disk => spec.disk,
            Self::DisabledFeatures => !spec.settings.cpu.disable.is_empty(),
            Self::CpuProperties => !spec.settings.cpu.set.is_empty(),
            Self::Cpus => spec.settings.hardware.cpus.is_some(),
            Self::Devices => {
                !spec.settings.hardware.devices.is_empty() || spec.settings.hardware.network.is_some()
            }
            Self::MemoryBacking => spec.settings.hardware.memory_backing.is_some(),
        }
    }

    fn unset(self, spec: &mut LevelSpec) {
        match self {
            Self::KernelParameters => spec.settings.kernel_parameters.clear(),
            Self::CpuModel => spec.settings.cpu.mode = CpuMode::HostPassthrough,
            Self::MachineType => spec.settings.machine_type = None,
            Self::MachineProperties => spec.settings.machine.clear(),
            Self::Disk => spec.disk = false,
            Self::DisabledFeatures => spec.settings.cpu.disable.clear(),
            Self::CpuProperties => spec.settings.cpu.set.clear(),
            Self::Cpus => (spec.settings.hardware.cpus, spec.settings.hardware.max_cpus) = (None, None),
            Self::Devices => {
                spec.settings.hardware.devices.clear();
                spec.settings.hardware.network = None;
            }
            Self::MemoryBacking => spec.settings.hardware.memory_backing = None,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::KernelParameters => "kernel parameters",
            Self::CpuModel => "CPU model",
            Self::MachineType => "machine type",
            Self::MachineProperties => "machine properties",
            Self::Disk => "disk",
            Self::DisabledFeatures => "disabled CPU features",
            Self::CpuProperties => "CPU properties",
            Self::Cpus => "number of CPUs",
            Self::Devices => "devices",
            Self::MemoryBacking => "memory backing",
        }
    }
}

impl Mutation {
    /// Its name, which is unique among the mutations of a cell and can be part of a cell's name.
    pub fn name(&self) -> String {
        match self {
            Self::DropStep { step } => format!("drop-step-{step}"),
            Self::TrueStep { step } => format!("true-step-{step}"),
            Self::FeatureNotRequired { level, feature } => {
                format!("{}-not-required-{}", lower(level), kebab(feature))
            }
            Self::WithoutSetting { level, setting } => {
                format!("{}-without-{}", lower(level), kebab(setting.text()))
            }
            Self::NestingOff => "l0-nesting-off".to_owned(),
            Self::OnTcg { level } => format!("{}-on-tcg", lower(level)),
            Self::QemuKilled { level, at } => format!("{}-qemu-killed-at-{at}", lower(level)),
            Self::BogusProperty { level } => format!("{}-bogus-property", lower(level)),
            Self::WithoutModule { level } => format!("{}-without-kvm-module", lower(level)),
            Self::OldNonce => "old-nonce".to_owned(),
            Self::InnermostOnL0 => "innermost-on-l0".to_owned(),
            Self::Custom { name, .. } => format!("custom-{name}"),
        }
    }

    /// The cell with this damage, under its own name.
    pub(super) fn applied_to(&self, cell: &Cell) -> Cell {
        let mut cell = cell.clone();
        let profile = ArchInfo::of(cell.architecture);
        match self {
            Self::DropStep { step } | Self::Custom { change: MutationChange::Drop { step }, .. } => {
                change_step(&mut cell, *step, |action| *action = nothing());
            }
            Self::TrueStep { step } => change_command(&mut cell, *step, "true"),
            Self::Custom { change: MutationChange::Run { step, run }, .. } => {
                change_command(&mut cell, *step, run);
            }
            Self::Custom { change: MutationChange::KernelParameters { level, parameters }, .. } => {
                change_level(&mut cell, *level, |spec| {
                    spec.settings.kernel_parameters.extend(parameters.iter().cloned());
                });
            }
            Self::FeatureNotRequired { level, feature } => {
                change_level(&mut cell, *level, |spec| {
                    spec.settings.cpu.require.retain(|one| one != feature)
                });
            }
            Self::WithoutSetting { level, setting } => {
                change_level(&mut cell, *level, |spec| setting.unset(spec));
            }
            Self::NestingOff => {
                let parameter = format!("{}.nested=0", profile.kvm_module);
                change_level(&mut cell, LevelNumber::ALL[0], |spec| {
                    spec.settings.kernel_parameters.push(parameter)
                });
            }
            Self::OnTcg { level } => change_level(&mut cell, *level, |spec| {
                spec.settings.accelerator = Accelerator::Tcg;
                // QEMU can't emulate the CPU of its host, and would not start.
                if spec.settings.cpu.mode == CpuMode::HostPassthrough {
                    spec.settings.cpu.mode = CpuMode::Custom { model: profile.emulated_cpu.to_owned() };
                }
            }),
            Self::QemuKilled { level, at } => {
                cell.faults.push(Fault {
                    at: *at,
                    action: FaultAction::KillQemu,
                    level: *level,
                    second: false,
                });
            }
            Self::InnermostOnL0 => {
                let level = cell.innermost();
                let at = Stage::Level(level, StageKind::Launch);
                cell.faults.push(Fault { at, action: FaultAction::StartOnL0, level, second: false });
            }
            Self::BogusProperty { level } => change_level(&mut cell, *level, |spec| {
                spec.settings.machine.insert("no-such-property".to_owned(), "on".to_owned());
            }),
            Self::WithoutModule { level } => {
                let parameter = format!("module_blacklist={}", profile.kvm_module);
                change_level(&mut cell, *level, |spec| spec.settings.kernel_parameters.push(parameter));
            }
            Self::OldNonce => {
                // The innermost level's init takes the last nonce of its command line, and scenarios' parameters come last.
                let parameter = format!("nest.nonce={}", "0".repeat(32));
                let innermost = cell.innermost();
                change_level(&mut cell, innermost, |spec| spec.settings.kernel_parameters.push(parameter));
            }
        }
        cell
    }
}

/// `step 4 does nothing`, for people.
impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DropStep { step } => write!(f, "step {step} does nothing"),
            Self::TrueStep { step } => write!(f, "step {step} runs `true`"),
            Self::FeatureNotRequired { level, feature } => {
                write!(f, "CPU feature {feature} is not required of {level}")
            }
            Self::WithoutSetting { level, setting } => {
                write!(f, "{level} does not have the {} that the scenario sets", setting.text())
            }
            Self::NestingOff => f.write_str("KVM of L0 offers no nesting"),
            Self::OnTcg { level } => write!(f, "QEMU emulates {level}"),
            Self::QemuKilled { level, at } => write!(f, "QEMU of {level} is killed when {at} begins"),
            Self::BogusProperty { level } => write!(f, "the machine of {level} has a property that none has"),
            Self::WithoutModule { level } => write!(f, "{level} can't load its KVM module"),
            Self::OldNonce => f.write_str("the innermost level returns an old nonce"),
            Self::InnermostOnL0 => f.write_str("L0 runs the innermost level"),
            Self::Custom { change, .. } => match change {
                MutationChange::Drop { step } => write!(f, "step {step} does nothing"),
                MutationChange::Run { step, run } => write!(f, "step {step} runs `{run}`"),
                MutationChange::KernelParameters { level, parameters } => {
                    write!(f, "{level} has the kernel parameters {}", parameters.join(" "))
                }
            },
        }
    }
}

/// A step that does nothing and succeeds, which leaves the numbers of the other steps as they are.
fn nothing() -> StepAction {
    StepAction::Run(Command { run: "true".to_owned(), fails: false, status: None, output: None })
}

fn change_step(cell: &mut Cell, step: u8, change: impl FnOnce(&mut StepAction)) {
    if let Some(step) = usize::from(step).checked_sub(1).and_then(|index| cell.steps.get_mut(index)) {
        change(&mut step.action);
    }
}

/// Changes the command of a step. The harness's own commands only have to succeed.
fn change_command(cell: &mut Cell, step: u8, run: &str) {
    change_step(cell, step, |action| {
        let mut changed = match std::mem::replace(action, nothing()) {
            StepAction::Run(command) => command,
            StepAction::Own { .. }
            | StepAction::Chain { .. }
            | StepAction::Suite(_)
            | StepAction::Payload(_)
            | StepAction::Measure(_) => {
                Command { run: String::new(), fails: false, status: None, output: None }
            }
        };
        run.clone_into(&mut changed.run);
        *action = StepAction::Run(changed);
    });
}

fn change_level(cell: &mut Cell, level: LevelNumber, change: impl FnOnce(&mut LevelSpec)) {
    if let Some(spec) = cell.levels.iter_mut().find(|spec| spec.level == level) {
        change(spec);
    }
}

fn lower(level: &LevelNumber) -> String {
    level.to_string().to_lowercase()
}

fn kebab(name: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    name.chars().map(letter).collect()
}
