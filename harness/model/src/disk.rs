//! What a level boots, and how a machine that boots from a disk is put together.

use crate::word::Word;
use crate::word_traits;

/// What a level boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BootKind {
    /// A kernel and an initramfs made of packages. QEMU loads both.
    Kernel,
    /// A disk with an installed system. Its own boot loader loads its kernel.
    Disk,
    /// The same kernel and initramfs as for [`BootKind::Kernel`], as one program that UEFI starts from a disk (UAPI.5, Unified
    /// Kernel Images).
    UnifiedKernel,
}

impl Word for BootKind {
    const WHAT: &'static str = "kind of image";
    const ALL: &'static [Self] = &[Self::Kernel, Self::Disk, Self::UnifiedKernel];

    fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Disk => "disk",
            Self::UnifiedKernel => "unified-kernel",
        }
    }
}
word_traits!(BootKind);

/// The firmware of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Firmware {
    /// What QEMU loads by itself: SeaBIOS on x86, SLOF on POWER.
    Default,
    /// UEFI without secure boot.
    Uefi,
    /// UEFI that starts only signed boot loaders.
    UefiSecureBoot,
}

impl Word for Firmware {
    const WHAT: &'static str = "firmware";
    const ALL: &'static [Self] = &[Self::Default, Self::Uefi, Self::UefiSecureBoot];

    fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Uefi => "uefi",
            Self::UefiSecureBoot => "uefi-secure-boot",
        }
    }
}
word_traits!(Firmware);

/// What a disk is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskBus {
    /// virtio-blk.
    Virtio,
    /// virtio-scsi.
    Scsi,
    /// SATA (AHCI).
    Sata,
    /// NVMe.
    Nvme,
}

impl Word for DiskBus {
    const WHAT: &'static str = "disk bus";
    const ALL: &'static [Self] = &[Self::Virtio, Self::Scsi, Self::Sata, Self::Nvme];

    fn word(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Scsi => "scsi",
            Self::Sata => "sata",
            Self::Nvme => "nvme",
        }
    }
}
word_traits!(DiskBus);

/// A network card for which a system has a driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkCard {
    /// virtio-net, the card of every level that names no other.
    #[default]
    Virtio,
    /// Intel 82574.
    E1000e,
    /// Intel 82540EM.
    E1000,
}

impl Word for NetworkCard {
    const WHAT: &'static str = "network card";
    const ALL: &'static [Self] = &[Self::Virtio, Self::E1000e, Self::E1000];

    fn word(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::E1000e => "e1000e",
            Self::E1000 => "e1000",
        }
    }
}
word_traits!(NetworkCard);

/// How commands run in a system that is on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommandChannel {
    /// Through the guest agent.
    Agent,
    /// Through a shell on the first serial line.
    Console,
}

impl Word for CommandChannel {
    const WHAT: &'static str = "command channel";
    const ALL: &'static [Self] = &[Self::Agent, Self::Console];

    fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Console => "console",
        }
    }
}
word_traits!(CommandChannel);
