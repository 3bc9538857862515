//! The volumes that a system gets when it is prepared: a NoCloud seed for cloud-init, and the packages to install.

use super::fat::{self, Contents, Label};
use super::text::DiskRecipe;
use crate::{DiskPackages, Error};
use nestmatrix_model::architecture::ArchInfo;
use nestmatrix_model::{Architecture, CommandChannel, Isa, Word as _};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// cloud-init finds a seed by this label.
const SEED: &Label = b"CIDATA     ";
/// The script finds the packages by this label.
const PACKAGES: &Label = b"NESTPKGS   ";

/// Writes the seed of a disk that is prepared.
pub(crate) fn write_seed(path: &Path, disk: &DiskRecipe<'_>) -> Result<(), Error> {
    let Some(prepare) = disk.prepare() else { return Ok(()) };
    let mut files = vec![
        ("user-data", prepare.user_data.clone()),
        ("meta-data", prepare.meta_data.clone()),
        ("prepare.sh", prepare.script.clone()),
        ("prepare.env", settings(disk)),
    ];
    files.extend(prepare.network_config.iter().map(|text| ("network-config", text.clone())));
    if disk.command_channel() == CommandChannel::Console {
        files.extend(prepare.shell.iter().map(|text| ("shell.sh", text.clone())));
    }
    let files: Vec<(String, Contents)> =
        files.into_iter().map(|(name, text)| (name.to_owned(), Contents::Text(text))).collect();
    fat::write(path, SEED, &files)
}

/// Writes the volume of packages, each under the name that its file has in the cache.
pub(crate) fn write_packages(path: &Path, packages: &[PathBuf]) -> Result<(), Error> {
    let named = packages.iter().map(|file| {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, Contents::Copy(file.clone()))
    });
    fat::write(path, PACKAGES, &named.collect::<Vec<_>>())
}

/// The settings of the script, as assignments of a shell.
fn settings(disk: &DiskRecipe<'_>) -> String {
    let packages = match disk.packages() {
        DiskPackages::Archive | DiskPackages::Source => disk.prepare().map_or(&[][..], |text| &text.packages),
        DiskPackages::None | DiskPackages::NoSource => &[],
    };
    // Without a source, a disk without QEMU can still be the innermost level.
    let optional = if disk.packages() == DiskPackages::NoSource { "yes" } else { "" };
    let assignments = [
        ("NEST_COMMAND_CHANNEL", disk.command_channel().to_string()),
        ("NEST_PACKAGES", packages.join(" ")),
        ("NEST_QEMU", disk.qemu().unwrap_or_default().to_owned()),
        ("NEST_QEMU_OPTIONAL", optional.to_owned()),
        ("NEST_KVM_MODULES", kvm_modules(disk.medium().isa())),
    ];
    assignments.map(|(name, value)| format!("{name}={}\n", quoted(&value))).concat()
}

/// The modules of KVM for every architecture with this instruction set.
fn kvm_modules(isa: Isa) -> String {
    let of_it = Architecture::ALL.iter().map(|one| ArchInfo::of(*one)).filter(|info| info.isa == isa);
    let modules: BTreeSet<&str> = of_it.map(|info| info.kvm_module).collect();
    modules.into_iter().collect::<Vec<_>>().join(" ")
}

/// A value as one word of a shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_one_word_whatever_is_in_them() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("'; reboot; '"), r"''\''; reboot; '\'''");
    }

    #[test]
    fn an_instruction_set_has_the_modules_of_all_its_architectures() {
        assert_eq!(kvm_modules(Isa::Amd64), "kvm_amd kvm_intel");
    }
}
