//! What a scenario sets for the machine of a level.

use std::collections::BTreeMap;

use nestmatrix_model::{Accelerator, CpuRequirement, Guest, Hardware, Launch};
use serde::{Deserialize, Serialize};

/// The kernel's parameter for the first program of an initramfs.
pub(super) const FIRST_PROCESS: &str = "rdinit=";

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
    /// The guest of the user that it boots, if it boots one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
}

impl MachineSettings {
    /// What starts it.
    pub fn launch(&self) -> Launch {
        self.launch.unwrap_or_default()
    }

    /// The text on its console that the boot waits for, if it waits for any.
    pub fn ready(&self) -> Option<&str> {
        self.guest.as_ref()?.ready.as_deref()
    }

    /// The program that its kernel would start from the user's initramfs (kernel: Documentation/admin-guide/kernel-parameters.rst, rdinit=).
    pub(super) fn first_process(&self) -> &str {
        let mut last =
            self.kernel_parameters.iter().rev().filter_map(|word| word.strip_prefix(FIRST_PROCESS));
        last.next().unwrap_or("/init")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_started_by_what_its_kernel_would_start() {
        let with = |parameters: &[&str]| MachineSettings {
            kernel_parameters: parameters.iter().map(|&word| word.to_owned()).collect(),
            ..MachineSettings::default()
        };
        assert_eq!(with(&["quiet"]).first_process(), "/init");
        assert_eq!(with(&["rdinit=/a", "rdinit=/sbin/init"]).first_process(), "/sbin/init");
    }
}
