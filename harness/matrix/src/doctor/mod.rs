//! What a host can run and what it lacks: [`Probe`] asks, [`findings`] judges, and a [`Checkup`] sums it up by architecture
//! and by document.
//!
//! The commands that mend something are told and never run.

mod checkup;
mod finding;
mod level;
mod probe;

pub use checkup::{
    ArchitectureCheckup, Checkup, Examination, FORMAT, Family, HostSeen, MetalCheckup, Reason, Selected,
};
pub(crate) use finding::size;
pub use finding::{Check, Finding, Kept, Patient, Place, Proof, Status, findings, own_architecture};
pub use level::{LevelError, check_level};
pub use probe::{ModuleFile, Probe, script};
