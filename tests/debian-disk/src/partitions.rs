//! Where what is on the disk. Sizes are in sectors of 512 bytes.

use crate::{Error, tool};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

pub(crate) const SECTOR: u64 = 512;

/// A part of the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Partition {
    /// Its first sector.
    pub(crate) start: u64,
    /// Its size in sectors.
    pub(crate) size: u64,
}

/// What BIOS' boot loader is in: GPT has no gap before its first partition.
pub(crate) const BIOS_BOOT: Partition = Partition { start: 2048, size: 2048 };
/// EFI's system partition.
pub(crate) const ESP: Partition = Partition { start: 4096, size: 32768 };
/// Where the root file system begins.
const ROOT_START: u64 = 36864;
/// Sectors after the last partition, for the second copy of the table.
const AFTER: u64 = 2048;

/// The root file system, of a size in bytes.
pub(crate) fn root(bytes: u64) -> Partition {
    Partition { start: ROOT_START, size: bytes.div_ceil(SECTOR) }
}

/// Writes an empty disk with a partition table.
pub(crate) fn write_table(disk: &Path, root: Partition) -> Result<(), Error> {
    let file = File::create(disk).map_err(Error::io("create", disk))?;
    file.set_len((root.start + root.size + AFTER) * SECTOR).map_err(Error::io("write", disk))?;
    // The types are those of BIOS boot, EFI system and Linux file system partitions.
    let table = [
        (BIOS_BOOT, "21686148-6449-6E6F-744E-656564454649"),
        (ESP, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
        (root, "0FC63DAF-8483-4772-8E79-3D69D8477DE4"),
    ]
    .map(|(Partition { start, size }, kind)| format!("start={start}, size={size}, type={kind}\n"));
    let script = format!("label: gpt\n{}", table.concat());
    tool::run_with(tool::command("sfdisk").arg("--quiet").arg(disk), &script).map(drop)
}

/// Writes bytes onto the disk.
pub(crate) fn write_at(disk: &Path, offset: u64, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = File::options().write(true).open(disk)?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    };
    write().map_err(Error::io("write", disk))
}

/// Copies the image of a file system onto the disk. Holes stay holes.
pub(crate) fn fill(disk: &Path, partition: Partition, image: &Path) -> Result<(), Error> {
    let copy = || {
        let mut from = File::open(image)?;
        let mut to = File::options().write(true).open(disk)?;
        let mut at = partition.start * SECTOR;
        let mut block = vec![0; 1 << 20];
        loop {
            let read = from.read(&mut block)?;
            if read == 0 {
                return Ok(());
            }
            if block[..read].iter().any(|byte| *byte != 0) {
                to.seek(SeekFrom::Start(at))?;
                to.write_all(&block[..read])?;
            }
            at += read as u64;
        }
    };
    let size = fs::metadata(image).map_err(Error::io("read", image))?.len();
    if size > partition.size * SECTOR {
        return Err(Error::Unexpected(format!("{} does not fit into its partition", image.display())));
    }
    copy().map_err(Error::io("copy to the disk from", image))
}
