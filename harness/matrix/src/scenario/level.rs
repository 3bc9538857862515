//! One level of a cell's stack, as the scenario describes it: its number, operating system, CPU, and accelerator.

use std::collections::BTreeMap;

use nestmatrix_model::{
    Accelerator, BootKind, CpuCheck, CpuMode, CpuRequirement, Device, Firmware, Launch, LevelNumber, Word,
};
use nestmatrix_stack::{Kdump, MachineSettings};
use serde::{Deserialize, Serialize};

use super::guest;
use super::hardware;
use super::input::{Table, Text};
use super::problem::ScenarioProblem;
use super::role::Role;
use super::system::{SystemRequirement, Systems};

/// One level of a cell's stack.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LevelSpec {
    /// Which level.
    pub level: LevelNumber,
    /// The operating system that it runs.
    pub system: SystemRequirement,
    /// What the scenario sets for its machine.
    #[serde(flatten)]
    pub settings: MachineSettings,
    /// Whether its modprobe configuration is on a disk and so survives a reboot.
    pub disk: bool,
    /// What it must boot, if the scenario says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boots: Option<BootKind>,
    /// The firmware of its machine, if the scenario sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// The system that has the other QEMU which it can be migrated to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_qemu: Option<SystemRequirement>,
}

/// A scenario's `[levels.lN]` table, which holds for every system of the level.
#[derive(Debug, Clone, Default)]
pub(super) struct LevelSettings {
    machine: MachineSettings,
    /// What starts the level, if the scenario says so.
    launch: Option<Launch>,
    disk: bool,
    boots: Option<BootKind>,
    firmware: Option<Firmware>,
    other_qemu: Option<SystemRequirement>,
    /// Whether the file names one, even if not as it should.
    names_other_qemu: bool,
}

impl LevelSettings {
    pub(super) const KEYS: &'static [&'static str] = &[
        "cpu",
        "cpus",
        "max-cpus",
        "kernel-parameters",
        "kdump",
        "crashkernel-mib",
        "accelerator",
        "launch",
        "memory-mib",
        "max-memory-mib",
        "memory-backing",
        "machine-type",
        "machine",
        "devices",
        "network",
        "tpm",
        "disk",
        "boots",
        "firmware",
        "other-qemu",
        "payload",
        "ready",
    ];

    pub(super) fn read(table: &Table<'_>, level: LevelNumber, systems: Option<&Systems>) -> Self {
        let boots = table.optional_string("boots").and_then(|text| text.parse(BootKind::parse));
        let firmware = table.optional_string("firmware").and_then(|text| text.parse(Firmware::parse));
        // The command line of a disk's kernel is on the disk.
        for key in ["kernel-parameters", "kdump", "disk"].into_iter().filter(|key| table.has(key)) {
            if boots == Some(BootKind::Disk) {
                table.report(ScenarioProblem::NeedlessKey { key, wants: "boots = \"kernel\"" });
            }
        }
        if boots == Some(BootKind::UnifiedKernel) && firmware != Some(Firmware::Uefi) {
            table.report(ScenarioProblem::NeedlessKey { key: "boots", wants: "firmware = \"uefi\"" });
        }
        let launch = read_launch(table, level);
        let machine = read_machine(table, level, launch.filter(|launch| *launch != Launch::default()));
        let other_qemu = read_other_qemu(table, level, systems);
        let names_other_qemu = level.below().is_some() && table.has("other-qemu");
        Self { machine, launch, disk: read_disk(table, level), boots, firmware, other_qemu, names_other_qemu }
    }

    /// What starts the level.
    pub(super) fn launch(&self) -> Launch {
        self.machine.launch()
    }

    /// What starts the level, if the scenario says so.
    pub(super) fn launch_as_given(&self) -> Option<Launch> {
        self.launch
    }

    pub(super) fn has_device(&self, device: Device) -> bool {
        self.machine.hardware.devices.contains(&device)
    }

    pub(super) fn has_other_qemu(&self) -> bool {
        self.names_other_qemu
    }

    pub(super) fn has_kdump(&self) -> bool {
        self.machine.kdump.is_some()
    }

    pub(super) fn has_tpm(&self) -> bool {
        self.machine.hardware.tpm.is_some()
    }

    /// A level with this system in a level with this role, which starts it if it is one of Windows.
    pub(super) fn with_system(
        &self,
        level: LevelNumber,
        system: SystemRequirement,
        around: Option<Role>,
    ) -> LevelSpec {
        let Self { mut machine, launch: _, disk, boots, firmware, other_qemu, names_other_qemu: _ } =
            self.clone();
        machine.launch = around.map(Role::launch).or(machine.launch);
        // Hyper-V starts a virtual disk, and the only one that nestmatrix makes has a unified kernel.
        let boots = if around == Some(Role::HyperV) { Some(BootKind::UnifiedKernel) } else { boots };
        // A guest of the user has no disk.
        let boots = boots.or(machine.guest.as_ref().map(|_| BootKind::Kernel));
        LevelSpec { level, system, settings: machine, disk, boots, firmware, other_qemu }
    }
}

/// How a level is launched by libvirt.
const BY_LIBVIRT: &str = "launch = \"libvirt\"";

fn read_machine(table: &Table<'_>, level: LevelNumber, launch: Option<Launch>) -> MachineSettings {
    let parameters = table.optional_strings("kernel-parameters").unwrap_or_default();
    let accelerator = table.optional_string("accelerator").and_then(|text| {
        let accelerator = text.parse(Accelerator::parse);
        // Domain XML has no word for it.
        if launch.is_some() && accelerator == Some(Accelerator::KvmOrTcg) {
            text.report(ScenarioProblem::NeedlessKey { key: "accelerator", wants: "launch = \"qemu\"" });
        }
        accelerator
    });
    // It needs memory nodes, which nestmatrix does not describe to libvirt.
    if launch.is_some() && table.has("max-memory-mib") {
        table.report(ScenarioProblem::NeedlessKey { key: "max-memory-mib", wants: "launch = \"qemu\"" });
    }
    let (least, most) = (hardware::LEAST_MEMORY_MIB, hardware::MOST_MEMORY_MIB);
    let memory_mib = table.optional_integer("memory-mib", least, most);
    MachineSettings {
        cpu: table
            .optional_table("cpu", &["mode", "model", "require", "disable", "set", "check"])
            .map(|cpu| read_cpu(cpu, launch))
            .unwrap_or_default(),
        kernel_parameters: parameters.iter().filter_map(|text| text.parse(kernel_parameter)).collect(),
        accelerator: accelerator.unwrap_or_default(),
        launch,
        memory_mib,
        machine_type: table
            .optional_string("machine-type")
            .and_then(|text| text.parse(|text| qemu_name("a machine type", text))),
        machine: read_properties(table),
        kdump: read_kdump(table, level),
        hardware: hardware::read(table, level, memory_mib),
        guest: guest::read(table),
    }
}

/// What starts the level, if the scenario says so. The emulator starts L0.
fn read_launch(table: &Table<'_>, level: LevelNumber) -> Option<Launch> {
    let launch = table.optional_string("launch")?;
    if level.below().is_none() {
        launch.report(ScenarioProblem::NeedlessKey { key: "launch", wants: "[levels.l1]" });
    }
    launch.parse(Launch::parse)
}

fn read_properties(table: &Table<'_>) -> BTreeMap<String, String> {
    let properties = table.optional_strings("machine").unwrap_or_default();
    let property = |text: &str| match text.split_once('=') {
        Some((name, value)) => {
            Ok((qemu_name("a machine property", name)?, qemu_name("the value of a machine property", value)?))
        }
        None => Err(ScenarioProblem::BadName {
            what: "a machine property",
            given: text.to_owned(),
            rule: "NAME=VALUE, as after QEMU's `-machine TYPE,`",
        }),
    };
    properties.iter().filter_map(|text| text.parse(property)).collect()
}

/// The crash kernel of a level. Nothing makes L0 panic, so it needs none.
fn read_kdump(table: &Table<'_>, level: LevelNumber) -> Option<Kdump> {
    let has_kdump = table.optional_boolean("kdump").unwrap_or(false);
    let (least, most) = (hardware::LEAST_MEMORY_MIB, hardware::MOST_MEMORY_MIB);
    let crashkernel_mib = table.optional_integer("crashkernel-mib", least, most);
    if level.below().is_none() && has_kdump {
        table.report(ScenarioProblem::NeedlessKey { key: "kdump", wants: "[levels.l1]" });
    }
    if crashkernel_mib.is_some() && !has_kdump {
        table.report(ScenarioProblem::NeedlessKey { key: "crashkernel-mib", wants: "kdump = true" });
    }
    has_kdump.then_some(Kdump { crashkernel_mib })
}

/// Only L0 is ever rebooted. In the levels inside, a disk would have nothing to survive.
fn read_disk(table: &Table<'_>, level: LevelNumber) -> bool {
    let disk = table.optional_boolean("disk").unwrap_or(false);
    if disk && level.below().is_some() {
        table.report(ScenarioProblem::NeedlessKey { key: "disk", wants: "disk = true in [levels.l0]" });
    }
    disk
}

/// The system whose QEMU is the other one for a level. The level around gets it, so L0 has none.
fn read_other_qemu(
    table: &Table<'_>,
    level: LevelNumber,
    systems: Option<&Systems>,
) -> Option<SystemRequirement> {
    let text = table.optional_string("other-qemu")?;
    if level.below().is_none() {
        text.report(ScenarioProblem::NeedlessKey { key: "other-qemu", wants: "[levels.l1]" });
        return None;
    }
    // Without systems, their file is wrong, which has been reported.
    let systems = systems?;
    text.parse(|text| match systems.requirement(text)? {
        emulator if emulator.is_emulator() => {
            Err(ScenarioProblem::EmulatorInside { system: emulator.system, level })
        }
        around if around.around => Err(ScenarioProblem::SurroundingsInside { system: around.system, level }),
        requirement => Ok(requirement),
    })
}

/// The two ways to write `mode`.
#[derive(Clone, Copy)]
enum ModeWord {
    HostPassthrough,
    Custom,
}

impl Word for ModeWord {
    const WHAT: &'static str = "CPU mode";
    const ALL: &'static [Self] = &[Self::HostPassthrough, Self::Custom];

    fn word(self) -> &'static str {
        match self {
            Self::HostPassthrough => "host-passthrough",
            Self::Custom => "custom",
        }
    }
}

fn read_cpu(table: Table<'_>, launch: Option<Launch>) -> CpuRequirement {
    let features = table.optional_strings("require").unwrap_or_default();
    let require: Vec<String> =
        features.iter().filter_map(|text| text.parse(|text| qemu_name("a CPU feature", text))).collect();
    let model_name = |text: Text<'_>| text.parse(|text| qemu_name("a CPU model", text));
    let mode = match table.string("mode").and_then(|text| text.parse(ModeWord::parse)) {
        Some(ModeWord::Custom) => {
            table.string("model").and_then(model_name).map(|model| CpuMode::Custom { model })
        }
        Some(ModeWord::HostPassthrough) => {
            if let Some(model) = table.optional_string("model") {
                model.report(ScenarioProblem::NeedlessKey { key: "model", wants: "mode = \"custom\"" });
            }
            None
        }
        None => None,
    };
    let disable = hardware::disabled(&table, &require);
    let set = hardware::set(&table);
    let check = table.optional_string("check").and_then(|text| {
        if launch != Some(Launch::Libvirt) {
            text.report(ScenarioProblem::NeedlessKey { key: "check", wants: BY_LIBVIRT });
        }
        text.parse(CpuCheck::parse)
    });
    CpuRequirement { mode: mode.unwrap_or(CpuMode::HostPassthrough), require, disable, set, check }
}

/// A name for QEMU's command line, between commas. It must contain nothing that QEMU would read as another option.
pub(crate) fn qemu_name(what: &'static str, text: &str) -> Result<String, ScenarioProblem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(ScenarioProblem::BadName {
            what,
            given: text.to_owned(),
            rule: "ASCII letters, digits, `-`, `_` and `.`, with a letter or digit first",
        })
    }
}

pub(super) fn kernel_parameter(text: &str) -> Result<String, ScenarioProblem> {
    if !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control()) {
        Ok(text.to_owned())
    } else {
        Err(ScenarioProblem::BadName {
            what: "a kernel parameter",
            given: text.to_owned(),
            rule: "one parameter to a string, without white space",
        })
    }
}
