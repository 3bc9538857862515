//! Makes the disk of a whole Debian system from packages, without root. It stands for a vendor's medium, such as RHEL's KVM guest
//! image:
//!
//! - systemd, udev, D-Bus, cloud-init and the guest agent, and a kernel that is signed for secure boot. There is no QEMU: what a level
//!   needs more is installed when the disk is prepared.
//! - One disk boots by BIOS (only amd64), by UEFI and with secure boot, through one menu of GRUB on its ext4 root file system.
//! - The guest agent refuses to run commands and to touch files, as RHEL configures it ([`AGENT_SETTINGS`]).
//! - The first serial line is the kernel's console, and has a login. No user can log in.
//!
//! These things differ from RHEL: there is no SELinux, and the agent's settings are in the agent's own file instead of in
//! `/etc/sysconfig/qemu-ga`.
//!
//! `mmdebstrap` installs the packages. As an ordinary user, it needs a range of user ids in `/etc/subuid` and `/etc/subgid`; its other
//! way, fakechroot, can't run a system whose C library is newer than the host's. [`unavailable`] says what is missing.
//!
//! It takes about 40 s: 35 s for the system and 5 s for each disk that is made of it.
//!
//! A disk for arm64 is made on another machine, too, if it runs arm64 programs with the user mode of QEMU. That takes 12 minutes.
//!
//! ```no_run
//! # use nestmatrix_debian_disk::{Disk, Flaw, System};
//! # use std::path::Path;
//! # fn main() -> Result<(), nestmatrix_debian_disk::Error> {
//! let disk = Disk::cached(Path::new("cache"))?; // or:
//! let system = System::cached(Path::new("cache"))?;
//! let disk = Disk::make(&system, None, Path::new("debian.qcow2"))?;
//! let broken = Disk::make(&system, Some(Flaw::NoAgent), Path::new("broken.qcow2"))?;
//! # Ok(())
//! # }
//! ```

mod boot_loader;
mod cached;
mod disk;
mod error;
mod flaw;
mod loaders;
mod partitions;
mod system;
mod tool;
mod tree;

pub use disk::Disk;
pub use error::Error;
pub use flaw::Flaw;
pub use system::{Contents, System};
pub use tool::{unavailable, unavailable_for};
pub use tree::AGENT_SETTINGS;
