//! The export: a level of a cell as domain XML, for people who have libvirt and not nestmatrix.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Firmware, Launch, LevelNumber, PROGRAM};
use nestmatrix_stack::{BootFiles, BootImage, LevelPlan, Metal, StackPlan, UefiFirmware};
use nestmatrix_vmm::libvirt::domain_xml;
use nestmatrix_vmm::qemu::{
    Backing, ChannelKind, ChannelName, DiskFormat, ImageFile, Instance, Machine, Placement,
};

use crate::scenario::{Cell, LevelSpec};

/// A level of a cell, to be written as domain XML.
#[derive(Debug, Clone)]
pub struct Export<'c> {
    /// The cell.
    pub cell: &'c Cell,
    /// The level.
    pub level: LevelNumber,
    /// The folder of each level's image, with `vmlinuz` and `initramfs.cpio`. They need not exist here.
    pub images: BTreeMap<LevelNumber, PathBuf>,
}

/// Why a level can't be exported.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ExportProblem {
    /// The cell does not have the level.
    #[error("{cell} has no {level}")]
    NoLevel {
        /// The cell's name.
        cell: String,
        /// The level.
        level: LevelNumber,
    },
    /// L0 is no virtual machine.
    #[error("L0 is a bare machine; export L1 or a level inside it")]
    BareMachine,
    /// A system starts it on which the harness starts nothing.
    #[error("{system} starts {level}; export a level inside it")]
    StartedElsewhere {
        /// The level.
        level: LevelNumber,
        /// The system around it.
        system: String,
    },
    /// No image can boot a level.
    #[error("{level} of {cell} boots no image: `{program} list` says what is missing", program = PROGRAM)]
    NoImage {
        /// The cell's name.
        cell: String,
        /// The level.
        level: LevelNumber,
    },
    /// The level, or one inside it, has Windows. It boots from a disk, which decides its machine and its memory.
    #[error("{level} has Windows, which boots from a disk, and only levels made of packages are exported")]
    Windows {
        /// The level with Windows.
        level: LevelNumber,
    },
    /// The level boots a guest of the user, whose initramfs only nestmatrix packs.
    #[error("{level} boots the payload {payload}, and only levels whose images have recipes are exported")]
    Payload {
        /// The level.
        level: LevelNumber,
        /// The name of the payload.
        payload: String,
    },
    /// Windows starts a level, which then has no domain XML.
    #[error("the Windows around {level} starts it by `launch = \"{launch}\"`, so it has no domain XML")]
    StartedByWindows {
        /// The level.
        level: LevelNumber,
        /// How.
        launch: Launch,
    },
}

impl Export<'_> {
    /// The domain XML. `emulator` is the path of QEMU on the machine that it is for.
    ///
    /// # Errors
    /// The cell has no such level, or no image for it, or Windows starts it.
    pub fn xml(&self, emulator: &str) -> Result<String, ExportProblem> {
        Ok(domain_xml(&self.machine()?, &OnAnyMachine { level: self.level }, emulator))
    }

    /// The machine, as on native metal: what makes emulated metal faster is left out.
    ///
    /// # Errors
    /// The cell has no such level, or no image for it, or Windows starts it.
    pub fn machine(&self) -> Result<Machine, ExportProblem> {
        let Self { cell, level, .. } = *self;
        if level.below().is_none() {
            return Err(ExportProblem::BareMachine);
        }
        if let Some(around) = cell.l0_around().filter(|_| level == LevelNumber::ALL[1]) {
            return Err(ExportProblem::StartedElsewhere { level, system: around.name.clone() });
        }
        let inner: Vec<&LevelSpec> =
            cell.levels.iter().filter(|spec| spec.level >= LevelNumber::ALL[1]).collect();
        let Some(index) = inner.iter().position(|spec| spec.level == level) else {
            return Err(ExportProblem::NoLevel { cell: cell.name.to_string(), level });
        };
        let launch = inner[index].settings.launch();
        if let Some(windows) = inner[index..].iter().find(|spec| spec.system.is_windows()) {
            return Err(ExportProblem::Windows { level: windows.level });
        }
        if let Some(guest) = &inner[index].settings.guest {
            return Err(ExportProblem::Payload { level, payload: guest.payload.clone() });
        }
        if launch.is_by_windows() {
            return Err(ExportProblem::StartedByWindows { level, launch });
        }
        let plans = inner.iter().map(|spec| self.plan(spec)).collect::<Result<_, _>>()?;
        let profile = ArchInfo::of(cell.architecture);
        let metal = if cell.emulator_is_l0() { Metal::Emulated } else { Metal::Native };
        let plan = StackPlan {
            // libvirt knows no machine without PCI.
            innermost_machine: profile.innermost_machines.iter().find(|innermost| innermost.has_pci),
            clock: cell.clock,
            ..StackPlan::cold(metal, profile, plans)
        };
        let machine = plan.machine(index, Instance::First);
        Ok(Machine { hardware: machine.hardware.clone().without_traffic(), ..machine })
    }

    fn plan(&self, spec: &LevelSpec) -> Result<LevelPlan, ExportProblem> {
        let no_image = || ExportProblem::NoImage { cell: self.cell.name.to_string(), level: spec.level };
        let folder = self.images.get(&spec.level).ok_or_else(no_image)?;
        let uefi = match spec.firmware {
            Some(Firmware::Uefi | Firmware::UefiSecureBoot) => Some(uefi(folder, spec)),
            Some(Firmware::Default) | None => None,
        };
        Ok(LevelPlan {
            level: spec.level,
            image: BootImage {
                name: folder.display().to_string(),
                kernel_release: String::new(),
                files: BootFiles::Kernel {
                    kernel: folder.join("vmlinuz"),
                    initramfs: folder.join("initramfs.cpio"),
                    disk: None,
                },
            },
            settings: spec.settings.clone(),
            disk: None,
            uefi,
            // libvirt loads the kernel, and starts swtpm.
            unified_kernel: None,
            guest_volume: None,
            swtpm: None,
        })
    }
}

/// The firmware of a level. Its variables are its own file, since it writes to them.
fn uefi(folder: &Path, spec: &LevelSpec) -> UefiFirmware {
    let variables = folder.with_file_name(format!("{}-variables.fd", spec.level));
    UefiFirmware {
        name: "uefi".to_owned(),
        code: folder.with_file_name("uefi-code.fd"),
        base_variables: variables.clone(),
        variables,
        secure_boot: spec.firmware == Some(Firmware::UefiSecureBoot),
    }
}

/// A machine that has the files, and a person at the console instead of the harness.
struct OnAnyMachine {
    level: LevelNumber,
}

impl Placement for OnAnyMachine {
    fn channel(&self, channel: ChannelName) -> Option<Backing> {
        // Those of levels inside would be ports that nothing is connected to.
        let is_console = channel.level == self.level && channel.kind == ChannelKind::Console;
        is_console.then_some(Backing::Terminal)
    }

    fn file(&self, file: &ImageFile) -> String {
        file.path.display().to_string()
    }

    fn disk(&self, file: &ImageFile) -> String {
        file.path.display().to_string()
    }

    fn path_of(&self, name: &str) -> String {
        name.to_owned()
    }

    fn format(&self, file: &ImageFile) -> DiskFormat {
        file.format
    }
}
