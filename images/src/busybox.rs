//! Finds a busybox on this machine, for hosts without apt: RHEL has none, and Fedora's is a static program.

use crate::build::Loose;
use crate::elf;
use crate::{Digest, Error, Package};
use nestmatrix_model::Isa;
use std::env;
use std::fs;
use std::path::Path;

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
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let mut candidates = folders.map(|folder| folder.join("busybox"));
    let file = candidates.find(|file| is_usable(file, isa)).ok_or(Error::NoBusybox(isa))?;
    let file = file.canonicalize().map_err(Error::io("find", &file))?;
    let package = Package {
        name: NAME.to_owned(),
        version: "-".to_owned(),
        architecture: isa.to_string(),
        sha256: Digest::of_file(&file)?,
    };
    Ok(Loose { package, file, path: "usr/bin/busybox".to_owned(), executable: true })
}

fn is_usable(file: &Path, isa: Isa) -> bool {
    fs::read(file).is_ok_and(|data| elf::is_static(&data, isa))
}
