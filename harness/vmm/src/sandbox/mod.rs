//! A sandbox for an emulator that runs on this machine: no network, no files of the user's, limits on memory and files.
//!
//! The harness says what the emulator needs ([`Confinement`]). A process of its own then confines itself and becomes the emulator,
//! since the same between `fork` and `exec` needs `unsafe`. The kernel may not offer all parts, so what is in force is reported
//! ([`Enforced`]).

mod confinement;
mod enter;
mod paths;

pub use confinement::{Confinement, Network, Ports};
pub use enter::{Enforced, Unconfined};
pub use paths::{SYSTEM, beside, disk_bytes, with_backing_files};
