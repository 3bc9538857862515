//! GRUB for BIOS and for UEFI, without grub-install, which needs root and the disk's device.

use crate::loaders::Loaders;
use crate::partitions::{BIOS_BOOT, ESP, SECTOR, fill, write_at};
use crate::{Error, tool};
use std::fs::{self, File};
use std::path::Path;

/// The menu. All boot loaders read it from the root file system.
const MENU: &str = "\
TERMINALset timeout=TIMEOUT
menuentry Debian {
    search --no-floppy --label root --set=root
    linux /vmlinuz root=LABEL=root ro PARAMETERS
    initrd /initrd.img
}
";

/// What the signed boot loader reads from the EFI system partition: it has no settings in itself.
const ON_ESP: &str = "\
search --no-floppy --label root --set=root
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
";

/// Size of the code in `boot.img`. The rest of the sector is the partition table's.
const BOOT_CODE: usize = 440;
/// Where `boot.img` has the first sector of `core.img` (`GRUB_BOOT_MACHINE_KERNEL_SECTOR`).
const KERNEL_SECTOR: usize = 0x5c;
/// Where the first sector of `core.img` has the place of the others: the first of its lists of blocks, which it reads from the end.
const BLOCK_LIST: usize = 0x1f4;

/// Writes the menu into the tree of the root file system. It waits for a key for so many seconds; -1 is for ever.
pub(crate) fn write_menu(tree: &Path, loaders: &Loaders, timeout: i32) -> Result<(), Error> {
    let folder = tree.join("boot/grub");
    fs::create_dir_all(&folder).map_err(Error::io("create folder", &folder))?;
    let path = folder.join("grub.cfg");
    let menu = MENU.replace("TERMINAL", loaders.terminal).replace("PARAMETERS", loaders.parameters);
    fs::write(&path, menu.replace("TIMEOUT", &timeout.to_string())).map_err(Error::io("write", &path))
}

/// Installs what BIOS starts, as grub-bios-setup does it.
pub(crate) fn install_bios(tree: &Path, disk: &Path) -> Result<(), Error> {
    let read = |path: &str| {
        let path = tree.join(path);
        fs::read(&path).map_err(Error::io("read", &path))
    };
    let mut boot = read("usr/lib/grub/i386-pc/boot.img")?;
    let mut core = read("boot/grub/i386-pc/core.img")?;
    let sectors = (core.len() as u64).div_ceil(SECTOR);
    if boot.len() < BOOT_CODE || core.len() < BLOCK_LIST + 10 || sectors > BIOS_BOOT.size {
        return Err(Error::Unexpected("GRUB's images are not of the expected size".to_owned()));
    }
    boot[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&BIOS_BOOT.start.to_le_bytes());
    // The segment that follows is already there.
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(BIOS_BOOT.start + 1).to_le_bytes());
    let others = u16::try_from(sectors - 1).unwrap_or(u16::MAX);
    core[BLOCK_LIST + 8..BLOCK_LIST + 10].copy_from_slice(&others.to_le_bytes());
    write_at(disk, 0, &boot[..BOOT_CODE])?;
    write_at(disk, BIOS_BOOT.start * SECTOR, &core)
}

/// Installs what UEFI starts: the signed shim, which starts the signed GRUB.
pub(crate) fn install_uefi(loaders: &Loaders, tree: &Path, disk: &Path, work: &Path) -> Result<(), Error> {
    let image = work.join("esp");
    let file = File::create(&image).map_err(Error::io("create", &image))?;
    file.set_len(ESP.size * SECTOR).map_err(Error::io("write", &image))?;
    tool::run(tool::command("mkfs.vfat").args(["-n", "ESP"]).arg(&image))?;
    let settings = work.join("grub.cfg");
    fs::write(&settings, ON_ESP).map_err(Error::io("write", &settings))?;
    tool::run(tool::command("mmd").arg("-i").arg(&image).args(["::EFI", "::EFI/BOOT", "::EFI/debian"]))?;
    let programs = loaders.uefi.map(|(from, name)| (tree.join(from), format!("BOOT/{name}")));
    // The folder is compiled into Debian's GRUB.
    for (from, to) in programs.into_iter().chain([(settings, "debian/grub.cfg".to_owned())]) {
        tool::run(tool::command("mcopy").arg("-i").arg(&image).arg(from).arg(format!("::EFI/{to}")))?;
    }
    fill(disk, ESP, &image)
}
