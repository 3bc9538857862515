//! Makes an RPM repository like that of RHEL 9 from Debian's packages, for tests of what downloads and reads RPM packages. No
//! network and no root are needed, except that the image debian-12-amd64 is built first if the cache does not have it.
//!
//! Its files are Debian's, so a level boots with them. Its packages are divided, named, compressed and signed as RHEL's are:
//!
//! - libraries are in `/usr/lib64`, and Debian's loader is changed so that it looks there,
//! - `/usr/libexec/qemu-kvm` has no machine type microvm, and looks for its files in RHEL's folders,
//! - kernel modules are compressed with xz, and the kernel is in `/lib/modules/RELEASE`,
//! - large packages that no image needs, such as `linux-firmware`, are replaced by packages that are almost empty
//!   ([`Repository::unneeded`]).

mod blueprint;
mod build;
mod debian;
mod error;
mod flaw;
mod iso;
mod kernel;
mod libraries;
mod parallel;
mod patch;
mod qemu;
mod sign;
mod stand_in;
mod tool;
mod tree;

pub use blueprint::Version;
pub use error::Error;
pub use flaw::Flaw;
pub use tool::{needs, unavailable};
pub use tree::{Package, Part, Repository};
