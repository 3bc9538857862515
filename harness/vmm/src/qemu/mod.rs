//! QEMU: its command line from a typed machine, its process on this machine, its monitor.

mod cpu;
mod machine;
mod monitor;
mod process;
mod rejection;

pub use cpu::{CpuReport, MissingFeature};
pub use machine::{
    Backing, Boot, CPUS, ChannelKind, ChannelName, Cpu, ImageFile, Instance, Machine, Memory, Part,
    Placement, Port,
};
pub use monitor::{KvmReport, MachineReport, Monitor};
pub use process::{Ended, ExecWrapper, Process, Start, cpu_time_in_stat};
pub use rejection::{names_one_of, ran_out_of_resources, rejects_command_line, rejects_kernel};
