//! QEMU: its command line from a typed machine, its process on this machine, its monitor.

mod boot;
mod channel;
mod cpu;
mod cpu_models;
mod devices;
mod hardware;
mod hardware_difference;
#[cfg(test)]
mod here;
mod machine;
mod monitor;
mod process;
mod rejection;
mod removable;
mod tpm;

pub use boot::{Boot, DiskBoot, DiskFormat, ImageFile, KernelBoot, Part, Uefi, VolumeBoot, Writes};
pub use channel::{Backing, ChannelKind, ChannelName, Port};
pub use cpu::{CpuReport, MissingFeature};
pub use cpu_models::CpuModel;
pub use devices::{GuestDevice, RECEIVED, SENT, SINK, traffic_folder};
pub use hardware::{HardwareReport, MEMORY_MODULE_MIB, MachineHardware, PLUG_PORT, memory_module};
pub use hardware_difference::HardwareDifference;
pub(crate) use machine::AGENT_PORT;
pub use machine::{Cpu, Instance, Machine, Memory, OtherQemu, Placement, machine_label};
pub use monitor::{KvmReport, MachineReport, Monitor};
pub use process::{Ended, ExecWrapper, Process, Start, Stdio, cpu_time_in_stat};
pub use rejection::{names_one_of, ran_out_of_resources, rejects_command_line, rejects_kernel};
pub use removable::{Removable, RemovableKind};
pub use tpm::{SWTPM, TPM_READY, TPM_SOCKET, blames_swtpm, has_lost_swtpm, swtpm_arguments, tpm_folder};
