//! Finds a busybox on this machine, for hosts without apt: RHEL has none, and Fedora's is a static program.

use crate::build::Loose;
use crate::elf;
use crate::programs::programs;
use crate::{Digest, Error, Package};
use nestmatrix_model::Isa;
use std::fs;
use std::path::{Path, PathBuf};

const PROGRAM: &str = "busybox";

/// What an image's record calls it.
const NAME: &str = "busybox of this machine";

/// Whether a package of an image is this machine's busybox.
pub(crate) fn is_of_this_machine(package: &Package) -> bool {
    package.name == NAME
}

/// This machine's busybox.
///
/// # Errors
/// [`Error::NoBusybox`] if it has none that runs without libraries on this instruction set.
pub(crate) fn of_this_machine(isa: Isa) -> Result<Loose, Error> {
    let file = find(isa).ok_or(Error::NoBusybox(isa))?;
    let file = file.canonicalize().map_err(Error::io("find", &file))?;
    let package = Package {
        name: NAME.to_owned(),
        version: "-".to_owned(),
        architecture: isa.to_string(),
        sha256: Digest::of_file(&file)?,
    };
    Ok(Loose { package, file, path: "usr/bin/busybox".to_owned(), executable: true })
}

/// This machine's busybox, if it runs without libraries on this instruction set.
pub(crate) fn find(isa: Isa) -> Option<PathBuf> {
    let elsewhere = ["/usr/sbin/busybox", "/sbin/busybox"].map(PathBuf::from);
    programs(PROGRAM).chain(elsewhere).find(|file| is_usable(file, isa))
}

fn is_usable(file: &Path, isa: Isa) -> bool {
    fs::read(file).is_ok_and(|data| elf::is_static(&data, isa))
}
