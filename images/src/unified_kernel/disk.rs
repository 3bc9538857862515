//! The partition table of a disk with an EFI system partition.

use gpt::mbr::ProtectiveMBR;
use gpt::{GptConfig, disk::LogicalBlockSize, partition_types};
use std::fs::File;
use std::io;

const SECTOR: u64 = 512;
/// Where the partition begins, and the room after it for the second copy of the table: the usual alignment of partitions.
const ALIGNMENT: u64 = 1 << 20;

/// Writes the table of a disk with one EFI system partition of this many bytes, and gives the disk its size.
///
/// Returns where the partition begins, in bytes.
pub(super) fn write_table(disk: &mut File, partition: u64) -> io::Result<u64> {
    let bytes = ALIGNMENT + partition.next_multiple_of(ALIGNMENT) + ALIGNMENT;
    disk.set_len(bytes)?;
    let sectors = u32::try_from(bytes / SECTOR - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(sectors).overwrite_lba0(disk).map_err(io::Error::other)?;
    let config = GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(disk, None).map_err(io::Error::other)?;
    let (first, length) = (ALIGNMENT / SECTOR, partition.div_ceil(SECTOR));
    table
        .add_partition_at("EFI system partition", 1, first, length, partition_types::EFI, 0)
        .map_err(io::Error::other)?;
    table.write().map_err(io::Error::other)?;
    Ok(ALIGNMENT)
}
