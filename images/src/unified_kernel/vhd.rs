//! The footer of a fixed VHD, which makes a raw disk one (Microsoft's "Virtual Hard Disk Image Format Specification", 1.0).

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use uuid::Uuid;

pub(super) const FOOTER: usize = 512;
const SECTOR: u64 = 512;

/// This bit of the features is always set.
const RESERVED_FEATURE: u32 = 2;
const VERSION: u32 = 0x0001_0000;
/// A fixed disk has no other header.
const NO_OFFSET: u64 = u64::MAX;
/// The creator that Hyper-V writes. QEMU decides by it which size is meant: after most others, it would cut the disk to its geometry, and
/// with it the second partition table.
const CREATOR: &[u8] = b"win ";
const CREATOR_VERSION: u32 = 0x000a_0000;
const CREATOR_SYSTEM: &[u8] = b"Wi2k";
const FIXED: u32 = 2;
/// Where the checksum is. It covers all other bytes.
const CHECKSUM: usize = 64;

/// Appends the footer to the raw disk at `path`. It has no time, so that the same disk always gives the same bytes.
pub(super) fn append_footer(path: &Path, id: Uuid) -> io::Result<()> {
    let mut disk = File::options().write(true).open(path)?;
    let size = disk.seek(SeekFrom::End(0))?;
    disk.write_all(&footer(size, id))
}

fn footer(size: u64, id: Uuid) -> [u8; FOOTER] {
    let mut footer = [0; FOOTER];
    let mut put = |at: usize, bytes: &[u8]| footer[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"conectix");
    put(8, &RESERVED_FEATURE.to_be_bytes());
    put(12, &VERSION.to_be_bytes());
    put(16, &NO_OFFSET.to_be_bytes());
    put(28, CREATOR);
    put(32, &CREATOR_VERSION.to_be_bytes());
    put(36, CREATOR_SYSTEM);
    // The original and the current size.
    put(40, &size.to_be_bytes());
    put(48, &size.to_be_bytes());
    let Geometry { cylinders, heads, sectors } = Geometry::of(size);
    put(56, &cylinders.to_be_bytes());
    put(58, &[heads, sectors]);
    put(60, &FIXED.to_be_bytes());
    put(68, id.as_bytes());
    let sum = checksum(&footer);
    footer[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum.to_be_bytes());
    footer
}

/// The complement of the sum of all bytes of a footer without its checksum.
fn checksum(footer: &[u8; FOOTER]) -> u32 {
    !footer.iter().map(|byte| u32::from(*byte)).sum::<u32>()
}

/// Cylinders, heads, and sectors of a track, as old firmware addresses a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Geometry {
    cylinders: u16,
    heads: u8,
    sectors: u8,
}

impl Geometry {
    /// That of a disk of this many bytes ("CHS Calculation" in the specification). It covers at most as much.
    fn of(size: u64) -> Self {
        const MOST_CYLINDERS: u64 = 65535;
        const MOST_HEADS: u64 = 16;
        const CYLINDERS: u64 = 1024;
        let total = (size / SECTOR).min(MOST_CYLINDERS * MOST_HEADS * 255);
        let (sectors, heads) = if total >= MOST_CYLINDERS * MOST_HEADS * 63 {
            (255, MOST_HEADS)
        } else {
            let few = (total / 17).div_ceil(CYLINDERS).max(4);
            let fits = |sectors: u64, heads: u64| heads <= MOST_HEADS && total / sectors < heads * CYLINDERS;
            let tracks = [(17, few), (31, MOST_HEADS)];
            tracks.into_iter().find(|(sectors, heads)| fits(*sectors, *heads)).unwrap_or((63, MOST_HEADS))
        };
        let cylinders = total / sectors / heads;
        // The numbers above fit.
        Self { cylinders: cylinders as u16, heads: heads as u8, sectors: sectors as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(footer: &[u8], at: usize) -> u64 {
        u64::from_be_bytes(footer[at..at + 8].try_into().unwrap())
    }

    /// Sizes and geometries of images that qemu-img made.
    #[test]
    fn the_geometry_is_that_of_the_specification() {
        for (size, cylinders, heads, sectors) in [
            (10_514_432, 302, 4, 17),
            (42_997_760, 988, 5, 17),
            (134_250_496, 964, 16, 17),
            (209_764_352, 826, 16, 31),
            (528_482_304, 1024, 16, 63),
            (2_147_991_552, 4162, 16, 63),
            (68_720_517_120, 32897, 16, 255),
            (214_748_364_800, 65535, 16, 255),
        ] {
            assert_eq!(Geometry::of(size), Geometry { cylinders, heads, sectors }, "{size}");
        }
    }

    proptest! {
        #[test]
        fn a_footer_describes_the_whole_disk_and_its_sum_is_right(mebibytes in 1_u64..2_000_000, id: u128) {
            let size = mebibytes << 20;
            let footer = footer(size, Uuid::from_u128(id));
            prop_assert_eq!((number(&footer, 40), number(&footer, 48)), (size, size));
            let sum: u32 = footer.iter().enumerate().filter(|(at, _)| !(64..68).contains(at))
                .map(|(_, byte)| u32::from(*byte)).sum();
            prop_assert_eq!(footer[64..68].to_vec(), (!sum).to_be_bytes().to_vec());
            let Geometry { cylinders, heads, sectors } = Geometry::of(size);
            let covered = u64::from(cylinders) * u64::from(heads) * u64::from(sectors);
            prop_assert!(cylinders > 0 && covered <= size / SECTOR);
        }
    }
}
