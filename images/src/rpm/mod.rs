//! RPM packages: the host's dnf resolves and downloads them, and its rpmkeys verifies their signatures. Nothing is installed, and
//! the host's own databases and caches are not touched.

mod dnf;
mod dvd;
mod index;
mod keys;
mod metadata;
mod offers;
mod package;
mod packages;

pub(crate) use dnf::has_download;
pub(crate) use dvd::Dvd;
pub(crate) use index::RpmIndex;
pub use index::SourceCheck;
pub(crate) use keys::fingerprints;
pub(crate) use offers::fetch as fetch_version;
pub(crate) use package::Rpm;
pub(crate) use packages::{RpmPackages, RpmText};
