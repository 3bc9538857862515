//! What a scenario sets for the machine of a level.

use std::collections::BTreeMap;

use nestmatrix_model::{Accelerator, CpuRequirement, Hardware, Launch};
use serde::{Deserialize, Serialize};

/// What a scenario sets for the machine of a level. Whatever it leaves open is up to the architecture and the place in the stack.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineSettings {
    /// The required CPU.
    pub cpu: CpuRequirement,
    /// Additional parameters on its kernel's command line.
    pub kernel_parameters: Vec<String>,
    /// The accelerator of the QEMU that runs it.
    pub accelerator: Accelerator,
    /// What starts it, if that is not QEMU's command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<Launch>,
    /// Memory in MiB, if it is set.
    pub memory_mib: Option<u32>,
    /// Its type, by QEMU's name, if it is set.
    pub machine_type: Option<String>,
    /// Its properties, by QEMU's names.
    pub machine: BTreeMap<String, String>,
    /// Its crash kernel, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kdump: Option<Kdump>,
    /// Its CPUs, devices, memory backing and network.
    #[serde(flatten)]
    pub hardware: Hardware,
}

impl MachineSettings {
    /// What starts it.
    pub fn launch(&self) -> Launch {
        self.launch.unwrap_or_default()
    }

    /// Whether its machine needs a PCI bus. libvirt puts its controllers there.
    pub fn needs_pci(&self) -> bool {
        self.hardware.needs_pci() || self.launch() == Launch::Libvirt
    }
}

/// A crash kernel, which the level boots after a panic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kdump {
    /// The memory that is reserved for it, in MiB, if it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crashkernel_mib: Option<u32>,
}
