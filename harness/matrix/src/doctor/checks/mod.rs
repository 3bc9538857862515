//! The checks, one file a group. The commands that they print are never run.

mod cpu;
mod kvm;
mod media;
mod packages;
mod resources;
mod sandbox;
mod subject;
mod tools;

pub use cpu::own_architecture;
pub use media::media_findings;
pub(crate) use resources::size;
pub use subject::{EmulatorSupply, Inventory, Place, Proof, SourceState, Subject, findings};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod without_apt_tests;
