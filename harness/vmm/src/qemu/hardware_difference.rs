//! Differences between the hardware that a scenario asks for and the hardware that there is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A difference between the hardware that was requested and the hardware that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "in", rename_all = "kebab-case")]
pub enum HardwareDifference {
    /// The machine has another number of CPUs.
    Cpus {
        /// How many were requested.
        requested: u32,
        /// How many there are.
        actual: u32,
    },
    /// The machine can have another number of CPUs.
    MaxCpus {
        /// How many were requested.
        requested: u32,
        /// How many there can be; absent if QEMU does not say.
        actual: Option<u32>,
    },
    /// The level's kernel sees another number of CPUs than the machine has.
    CpusOfKernel {
        /// How many the machine has.
        machine: u32,
        /// How many the kernel uses.
        kernel: u32,
    },
    /// The level's kernel does not use the memory that was plugged in.
    MemoryOfKernel {
        /// How much was plugged in, in MiB.
        plugged: u64,
        /// How much more the kernel uses, in MiB.
        more: u64,
    },
    /// The level's kernel does not see, or still sees, a device that was plugged in, or removed.
    DeviceOfKernel {
        /// The device.
        device: String,
        /// Whether it was plugged in. Otherwise it was removed.
        plugged: bool,
    },
    /// A disk does not have what the level wrote to it.
    DiskContent {
        /// What was seen.
        seen: String,
    },
    /// The machine has another amount of memory.
    Memory {
        /// The requested MiB.
        requested: u64,
        /// The actual MiB.
        actual: u64,
    },
    /// The memory is not in huge pages.
    SmallPages,
    /// A feature stays on although it was switched off.
    FeatureOn {
        /// The feature, by QEMU's name.
        feature: String,
    },
    /// A property of the CPU has another value.
    CpuProperty {
        /// The property, by QEMU's name.
        property: String,
        /// The requested value.
        requested: String,
        /// The actual value; absent if QEMU does not know the property.
        actual: Option<String>,
    },
    /// The level's kernel sees no TPM, or one of another version.
    TpmOfKernel {
        /// The major version that was requested.
        requested: u32,
        /// The major version that the kernel reports; absent if it sees no TPM.
        kernel: Option<u32>,
    },
    /// A device is missing.
    Device {
        /// Its name in scenarios.
        device: String,
    },
}

impl fmt::Display for HardwareDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpus { requested, actual } => write!(f, "{actual} CPUs instead of {requested}"),
            Self::MaxCpus { requested, actual: Some(actual) } => {
                write!(f, "at most {actual} CPUs instead of {requested}")
            }
            Self::MaxCpus { requested, actual: None } => {
                write!(f, "QEMU does not say whether it can have {requested} CPUs")
            }
            Self::CpusOfKernel { machine, kernel } => {
                write!(f, "its kernel uses {kernel} CPUs, its machine has {machine}")
            }
            Self::Memory { requested, actual } => {
                write!(f, "{actual} MiB of memory instead of {requested} MiB")
            }
            Self::MemoryOfKernel { plugged, more } => {
                write!(f, "its kernel uses {more} MiB of the {plugged} MiB of memory that were plugged in")
            }
            Self::DeviceOfKernel { device, plugged: true } => {
                write!(f, "its kernel does not see the {device} that was plugged in")
            }
            Self::DeviceOfKernel { device, plugged: false } => {
                write!(f, "its kernel still has the {device} that was removed")
            }
            Self::DiskContent { seen } => {
                write!(f, "a disk that was plugged in is not what was written: {seen}")
            }
            Self::SmallPages => f.write_str("its memory is not in huge pages"),
            Self::FeatureOn { feature } => write!(f, "CPU feature {feature} is on, it was switched off"),
            Self::CpuProperty { property, requested, actual: Some(actual) } => {
                write!(f, "CPU property {property} is {actual} instead of {requested}")
            }
            Self::CpuProperty { property, requested, actual: None } => {
                write!(f, "CPU property {property} can't be read, it was set to {requested}")
            }
            Self::TpmOfKernel { requested, kernel: Some(kernel) } => {
                write!(f, "its kernel sees a TPM of version {kernel} instead of {requested}")
            }
            Self::TpmOfKernel { kernel: None, .. } => f.write_str("its kernel sees no TPM"),
            Self::Device { device } => write!(f, "device {device} is missing"),
        }
    }
}
