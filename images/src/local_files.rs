//! Files of this machine that go into images of RPM packages if it has no apt: busybox, since RHEL has none, and firmware.

use crate::build::Loose;
use crate::elf;
use crate::programs::{find_program, programs};
use crate::recipe_text::FirmwareText;
use crate::tool;
use crate::{Digest, Error, Package};
use nestmatrix_model::Isa;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

const BUSYBOX: &str = "busybox";

/// End of the names that an image's record has for such files.
const OF_THIS_MACHINE: &str = " of this machine";

/// Whether a package of an image is a file of this machine.
pub(crate) fn is_local(package: &Package) -> bool {
    package.name.ends_with(OF_THIS_MACHINE)
}

/// Whether it is this machine's busybox.
pub(crate) fn is_busybox(package: &Package) -> bool {
    package.name.strip_suffix(OF_THIS_MACHINE) == Some(BUSYBOX)
}

/// This machine's busybox.
///
/// # Errors
/// [`Error::NoBusybox`] if it has none that runs without libraries on this instruction set.
pub(crate) fn busybox(isa: Isa) -> Result<Loose, Error> {
    let file = find_busybox(isa).ok_or(Error::NoBusybox(isa))?;
    loose(&file, BUSYBOX, isa, "usr/bin", true)
}

/// This machine's busybox, if it runs without libraries on this instruction set. Fedora's does.
pub(crate) fn find_busybox(isa: Isa) -> Option<PathBuf> {
    let elsewhere = ["/usr/sbin/busybox", "/sbin/busybox"].map(PathBuf::from);
    programs(BUSYBOX).chain(elsewhere).find(|file| is_usable(file, isa))
}

fn is_usable(file: &Path, isa: Isa) -> bool {
    fs::read(file).is_ok_and(|data| elf::is_static(&data, isa))
}

/// The files of a recipe's `[firmware]` that came with the QEMU of this machine, by the name `qemu`. Fedora's has qboot.
///
/// # Errors
/// [`Error::Io`] if one cannot be read.
pub(crate) fn firmware(
    text: &FirmwareText,
    qemu: &str,
    isa: Isa,
    wrapper: &[OsString],
) -> Result<Vec<Loose>, Error> {
    if find_program(qemu).is_none() {
        return Ok(Vec::new());
    }
    let listed = tool::run(tool::command(wrapper, qemu).args(["-L", "help"]), |_| false);
    // A QEMU that cannot list its folders comes without firmware for other machines.
    let folders = listed.map(|ended| ended.output).unwrap_or_default();
    let folders: Vec<&Path> = folders.lines().map(Path::new).collect();
    let names = text.files.iter().map(|path| path.rsplit('/').next().unwrap_or(path));
    let found = names.filter_map(|name| {
        let file = folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file())?;
        Some(loose(&file, name, isa, &text.folder, false))
    });
    found.collect()
}

/// A file as a part of an image, in this folder.
fn loose(file: &Path, name: &str, isa: Isa, folder: &str, executable: bool) -> Result<Loose, Error> {
    let file = file.canonicalize().map_err(Error::io("find", file))?;
    let package = Package {
        name: format!("{name}{OF_THIS_MACHINE}"),
        version: "-".to_owned(),
        architecture: isa.to_string(),
        sha256: Digest::of_file(&file)?,
    };
    Ok(Loose { package, file, path: format!("{folder}/{name}"), executable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_this_machine_is_recorded_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("qboot.rom");
        fs::write(&file, "firmware").unwrap();
        let loose = loose(&file, "qboot.rom", Isa::Amd64, "usr/share/qemu-kvm", false).unwrap();
        assert_eq!(loose.path, "usr/share/qemu-kvm/qboot.rom");
        assert_eq!(loose.package.sha256, Digest::of_bytes(b"firmware"));
        assert!(is_local(&loose.package) && !is_busybox(&loose.package));
    }
}
