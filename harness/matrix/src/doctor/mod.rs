//! What a host can run and what is missing: [`Probe`] asks the host, [`findings`] runs the checks, and a [`Checkup`] sums up by
//! architecture and by document.
//!
//! The commands that fix something are printed, never run.

mod checks;
mod checkup;
mod examination;
mod finding;
mod level;
mod probe;
mod sandbox;

pub(crate) use checks::size;
pub use checks::{
    EmulatorSupply, Inventory, Place, Proof, SourceState, Subject, findings, media_findings, own_architecture,
};
pub use checkup::{
    ArchitectureCheckup, Checkup, DisposableHost, DocumentCheckup, FORMAT, HostSummary, MetalCheckup, Reason,
    Selected,
};
pub use examination::Examination;
pub use finding::{Check, Finding, Status};
pub use level::{LevelError, check_level};
pub use probe::{ModuleFile, Probe, script};
pub use sandbox::SandboxTrial;
