//! A disk with a GPT and one partition, which is a FAT volume. The same files always give the same bytes.

use super::fat::{self, Contents, Label};
use crate::digest::Hasher;
use crate::{Digest, Error};
use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition;
use gpt::{GptConfig, disk::LogicalBlockSize, partition_types};
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use uuid::{Builder, Uuid};

const SECTOR: u64 = 512;
/// Where the partition begins, and the room after it for the second copy of the table: the usual alignment of partitions.
const ALIGNMENT: u64 = 1 << 20;

/// What the partition is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// UEFI looks for boot loaders on it.
    Boot,
    /// Every system mounts it.
    Data,
}

/// Writes a disk with these files on its only partition. Its identifiers follow from the digest of what is on it.
///
/// # Errors
/// Those of [`fat::write`], and [`Error::Io`] if the disk cannot be written.
pub(crate) fn write(
    path: &Path,
    purpose: Purpose,
    label: &Label,
    digest: &Digest,
    files: &[(String, Contents)],
) -> Result<(), Error> {
    let volume = Volume::beside(path);
    fat::write(&volume.0, label, files)?;
    let written = || -> io::Result<()> {
        let mut from = File::open(&volume.0)?;
        let mut to = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let start = write_table(&mut to, purpose, digest, from.metadata()?.len())?;
        to.seek(SeekFrom::Start(start))?;
        io::copy(&mut from, &mut to).map(drop)
    };
    written().map_err(Error::io("write", path))
}

/// The identifier of a part of what has this digest (RFC 9562, 5.8).
pub(crate) fn identifier(digest: &Digest, part: &str) -> Uuid {
    let hash = Hasher::new().field(digest.as_str()).field(part).finish();
    let number = u128::from_str_radix(&hash.as_str()[..32], 16).unwrap_or_default();
    Builder::from_custom_bytes(number.to_be_bytes()).into_uuid()
}

/// Writes the table of a disk whose partition has this many bytes, and gives the disk its size. Returns where the partition begins.
fn write_table(disk: &mut File, purpose: Purpose, digest: &Digest, partition: u64) -> io::Result<u64> {
    let bytes = ALIGNMENT + partition.next_multiple_of(ALIGNMENT) + ALIGNMENT;
    disk.set_len(bytes)?;
    let sectors = u32::try_from(bytes / SECTOR - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(disk).map_err(io::Error::other)?;
    let (name, kind) = match purpose {
        Purpose::Boot => ("EFI system partition", partition_types::EFI),
        Purpose::Data => ("Basic data partition", partition_types::BASIC),
    };
    let first_lba = ALIGNMENT / SECTOR;
    let partition = Partition {
        part_type_guid: kind,
        part_guid: identifier(digest, "partition"),
        first_lba,
        last_lba: first_lba + partition.div_ceil(SECTOR) - 1,
        flags: 0,
        name: name.to_owned(),
    };
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table =
        config.create_from_device(disk, Some(identifier(digest, "disk"))).map_err(io::Error::other)?;
    table.update_partitions([(1, partition)].into()).map_err(io::Error::other)?;
    table.write().map_err(io::Error::other)?;
    Ok(ALIGNMENT)
}

/// A file system that is removed once it is on the disk.
struct Volume(PathBuf);

impl Volume {
    fn beside(disk: &Path) -> Self {
        let mut name = disk.as_os_str().to_owned();
        name.push(".volume");
        Self(name.into())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // If it is still there, it is removed with the folder of the boot.
        let _ = fs::remove_file(&self.0);
    }
}
