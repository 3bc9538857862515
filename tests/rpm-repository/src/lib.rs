//! Makes an RPM repository like that of RHEL 9 from Debian's packages, for tests of what downloads and reads RPM packages. No
//! network and no root are needed, except that the image debian-12-amd64 is built first if the cache does not have it.
//!
//! Its files are Debian's, so a level boots with them. Its packages are divided, named, compressed and signed as RHEL's are:
//!
//! - libraries are in `/usr/lib64`, and Debian's loader is changed so that it looks there,
//! - `/usr/libexec/qemu-kvm` has no machine type microvm, and looks for its files in RHEL's folders,
//! - kernel modules are compressed with xz, and the kernel is in `/lib/modules/RELEASE`,
//! - packages that no image needs, such as `linux-firmware`, are replaced by packages that are almost empty
//!   ([`Repository::unneeded`]).
//!
//! These things differ from RHEL 9.4: `kernel-core` requires `linux-firmware`, as in RHEL 8, and does not only recommend it. The
//! release of the kernel is Debian's, and not version and release of its package. Only modules that a level may load are there.
//!
//! ```no_run
//! # use nestmatrix_images::{Store, StoreOptions};
//! # use nestmatrix_rpm_repository::{Flaw, Part, Repository};
//! # use std::path::Path;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(StoreOptions::default())?;
//! let repository = Repository::shared(&store)?; // or `make`, in a folder
//! println!("packages: {}", repository.part(Part::BaseOS).display());
//! println!("verified by {}", repository.key().display());
//! repository.with_flaw(Flaw::Tampered, "zlib", Path::new("another-folder"))?;
//! # Ok(())
//! # }
//! ```

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
