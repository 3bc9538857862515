//! The image of a level: a kernel and an initramfs, or a disk with an installed system.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nestmatrix_images::{Disk, UnifiedKernel, WindowsRole};
use nestmatrix_model::{CommandChannel, DiskBus, NetworkCard};

/// The image of a level. Its files are on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct BootImage {
    /// Its name: the same name means the same files.
    pub name: String,
    /// Release of its kernel, which the level must report; empty if it is not known.
    pub kernel_release: String,
    /// What is booted.
    pub files: BootFiles,
}

/// What is booted.
#[derive(Debug, Clone, PartialEq)]
pub enum BootFiles {
    /// A kernel that QEMU loads.
    Kernel {
        /// Kernel.
        kernel: PathBuf,
        /// Initramfs.
        initramfs: PathBuf,
        /// Both on one disk; absent for a level that runs in no other.
        disk: Option<Disk>,
    },
    /// A disk with an installed system.
    Disk(SystemDisk),
    /// A root file system that a Windows level imports into WSL 2, which brings the kernel.
    WslRoot {
        /// The archive (tar.gz).
        archive: PathBuf,
    },
}

/// A disk with an installed system, and what that needs.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemDisk {
    /// The prepared disk, which stays as it is.
    pub base: PathBuf,
    /// The overlay over it that the level of one boot writes to; it is made before the boot.
    pub overlay: PathBuf,
    /// What the disk is connected to.
    pub bus: DiskBus,
    /// The network card that it gets if the scenario gives it a network.
    pub network_card: NetworkCard,
    /// How commands run in the system.
    pub command_channel: CommandChannel,
    /// The program of its QEMU, if it has one of its own name or place.
    pub qemu: Option<String>,
    /// Memory that the system itself needs, in MiB.
    pub memory_mib: u32,
    /// CPUs that the system needs at least.
    pub cpus: u32,
    /// `ID` and `VERSION_ID` of its os-release, which the level must report; none if they are not known.
    pub system: Option<(String, String)>,
    /// What its first boot needs, in which it is prepared; none if it is prepared.
    pub first_boot: Option<FirstBoot>,
    /// What is known of the Windows on it, if it is one.
    pub windows: Option<WindowsSystem>,
}

/// What a machine has in the first boot of a disk, in which the system on it is prepared, or installed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirstBoot {
    /// Volumes beside the disk.
    pub volumes: Vec<PathBuf>,
    /// CDs.
    pub cds: Vec<PathBuf>,
    /// Whether the first CD is booted, as long as the disk has no boot loader.
    pub boots_cd: bool,
    /// Volumes on sticks.
    pub sticks: Vec<PathBuf>,
    /// Whether its system needs a display. If it does not come to its end, a picture shows where it stands.
    pub display: bool,
}

/// A Windows on a disk, and how it becomes a level.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowsSystem {
    /// What it was prepared for, and the commands for that.
    pub role: Arc<WindowsRole>,
    /// What KVM tells it about itself: features of its CPU by QEMU's names, with a value if they have one (`hv-spinlocks=0x1fff`).
    pub enlightenments: Vec<String>,
    /// Further ones if it hosts guests.
    pub nesting_enlightenments: Vec<String>,
    /// Further ones if it hosts guests on a processor of Intel.
    pub nesting_enlightenments_intel: Vec<String>,
}

impl WindowsSystem {
    /// Everything that its recipe may want of its CPU.
    pub(super) fn all_enlightenments(&self) -> impl Iterator<Item = &str> {
        let nesting = self.nesting_enlightenments.iter().chain(&self.nesting_enlightenments_intel);
        self.enlightenments.iter().chain(nesting).map(String::as_str)
    }
}

/// A disk with the kernel and the initramfs of a level as one UEFI program. It is written before each boot, since the nonce is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct UnifiedKernelDisk {
    /// The UEFI program that starts the kernel.
    pub stub: PathBuf,
    /// The disk, a VHD.
    pub path: PathBuf,
}

/// The UEFI firmware of a level. Its files are on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct UefiFirmware {
    /// Its name: the same name means the same files.
    pub name: String,
    /// The program.
    pub code: PathBuf,
    /// Its variables at the first boot, which stay as they are.
    pub base_variables: PathBuf,
    /// The variables of one boot; they are copied before it.
    pub variables: PathBuf,
    /// Whether it starts only signed boot loaders.
    pub secure_boot: bool,
}

/// swtpm and its libraries, packed for a level. It is on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct SwtpmArchive {
    /// Its name: the same name means the same files.
    pub name: String,
    /// The archive (cpio(5)).
    pub archive: PathBuf,
}

/// What the volume holds that brings a guest into the Windows level around it.
#[derive(Debug, Clone)]
pub enum GuestFiles<'p> {
    /// For Hyper-V: a fixed VHD with the guest's kernel and initramfs as one UEFI program.
    UnifiedKernel {
        /// What is on the disk.
        unified: UnifiedKernel<'p>,
        /// The disk.
        vhd: &'p Path,
    },
    /// For WSL 2: a root file system.
    WslRoot {
        /// The archive (tar.gz).
        archive: &'p Path,
    },
}

impl BootImage {
    /// What is known of the Windows on its disk, if it is one.
    pub fn windows(&self) -> Option<&WindowsSystem> {
        self.disk()?.windows.as_ref()
    }

    /// The disk with the installed system, if it is one.
    pub fn disk(&self) -> Option<&SystemDisk> {
        match &self.files {
            BootFiles::Kernel { .. } | BootFiles::WslRoot { .. } => None,
            BootFiles::Disk(disk) => Some(disk),
        }
    }
}
