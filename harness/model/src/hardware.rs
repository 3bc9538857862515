//! The hardware of a level that a scenario can ask for: CPUs, devices, the backing of its memory, its network, and its TPM.

use serde::{Deserialize, Serialize};

use crate::word::Word;
use crate::word_traits;

/// What a scenario asks for, besides processor and machine type. Whatever it leaves open is up to the architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Hardware {
    /// How many CPUs it has when it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// How many CPUs it can have, with those that are plugged in while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cpus: Option<u32>,
    /// How much memory it can have, in MiB, with what is plugged in while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_memory_mib: Option<u32>,
    /// Devices in addition to those that every level has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// What backs its memory in the level around it, if not ordinary pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_backing: Option<MemoryBacking>,
    /// Its network, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The version of its TPM, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmVersion>,
}

impl Hardware {
    /// Whether only a machine with a PCI bus, and one that can plug CPUs and memory and has a TPM, can have it.
    pub fn needs_pci(&self) -> bool {
        !self.devices.is_empty()
            || self.network.is_some()
            || self.tpm.is_some()
            || self.max_cpus.is_some()
            || self.max_memory_mib.is_some()
    }
}

/// A device that a scenario can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// An IOMMU for the level's own devices.
    Viommu,
    /// A network card on a network that it has for itself: nothing else is connected to it.
    VirtioNet,
    /// A source of random numbers.
    VirtioRng,
    /// A memory balloon.
    VirtioBalloon,
    /// A watchdog.
    Watchdog,
    /// An NVMe drive, on which there is nothing.
    Nvme,
    /// A network card on a network whose other side counts the bytes that it gets.
    VirtioNetSink,
}

impl Word for Device {
    const WHAT: &'static str = "device";
    const ALL: &'static [Self] = &[
        Self::Viommu,
        Self::VirtioNet,
        Self::VirtioRng,
        Self::VirtioBalloon,
        Self::Watchdog,
        Self::Nvme,
        Self::VirtioNetSink,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Viommu => "viommu",
            Self::VirtioNet => "virtio-net",
            Self::VirtioRng => "virtio-rng",
            Self::VirtioBalloon => "virtio-balloon",
            Self::Watchdog => "watchdog",
            Self::Nvme => "nvme",
            Self::VirtioNetSink => "virtio-net-sink",
        }
    }
}
word_traits!(Device);

/// What backs the memory of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryBacking {
    /// Huge pages of the level around it.
    HugePages,
}

impl Word for MemoryBacking {
    const WHAT: &'static str = "backing of memory";
    const ALL: &'static [Self] = &[Self::HugePages];

    fn word(self) -> &'static str {
        match self {
            Self::HugePages => "huge-pages",
        }
    }
}
word_traits!(MemoryBacking);

/// The network of a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// QEMU's user-mode network, from which nothing gets out.
    Restricted,
}

impl Word for Network {
    const WHAT: &'static str = "network";
    const ALL: &'static [Self] = &[Self::Restricted];

    fn word(self) -> &'static str {
        match self {
            Self::Restricted => "restricted",
        }
    }
}
word_traits!(Network);

/// The version of a TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TpmVersion {
    /// TPM 2.0.
    V2,
}

impl Word for TpmVersion {
    const WHAT: &'static str = "version of a TPM";
    const ALL: &'static [Self] = &[Self::V2];

    fn word(self) -> &'static str {
        match self {
            Self::V2 => "2.0",
        }
    }
}
word_traits!(TpmVersion);

/// How QEMU gives a machine a TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TpmDevice {
    /// By a device.
    Device {
        /// Its name.
        name: &'static str,
        /// Linux' driver for it, by its name in sysfs.
        driver: &'static str,
    },
    /// It can't, for this reason.
    Missing(&'static str),
}

/// How QEMU gives a machine an IOMMU for its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viommu {
    /// By a device of this name.
    Device(&'static str),
    /// By this value of the machine's property `iommu`.
    Property(&'static str),
    /// It can't, for this reason.
    Missing(&'static str),
}
