//! QEMU: its command line from a typed machine, its process on this machine, its monitor.

mod cpu;
mod machine;
mod monitor;
mod process;

pub use cpu::{CpuReport, MissingFeature};
pub use machine::{
    Backing, Boot, ChannelKind, ChannelName, Cpu, ImageFile, Instance, Machine, Memory, Part, Placement,
    Port, quote,
};
pub use monitor::{KvmReport, MachineReport, Monitor};
pub use process::{Ended, ExecWrapper, Process, Start, cpu_time_in_stat};
