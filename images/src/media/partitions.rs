//! Reads the partition table of a raw disk image: whether it is a disk, and whether its end is there (UEFI specification 2.10,
//! chapter 5).

use super::MediumProblem;
use super::bytes::{u32_le_at, u64_le_at};

const SECTOR: u64 = 512;
/// The sizes of sectors for which a disk may be partitioned.
const SECTORS: [u64; 2] = [SECTOR, 4096];
const GPT: &[u8] = b"EFI PART";
const MBR_SIGNATURE: &[u8] = &[0x55, 0xaa];
/// Where the entries of an MBR begin, and the length of one.
const ENTRIES: usize = 446;
const ENTRY: usize = 16;
/// The partition that covers a disk with a GPT. Its size may be too large.
const PROTECTIVE: u8 = 0xee;

/// Checks the start of a raw image of `length` bytes.
///
/// # Errors
/// [`MediumProblem::NotADisk`] without a partition table, [`MediumProblem::Truncated`] if partitions or the second GPT are beyond its
/// end.
pub(crate) fn check(start: &[u8], length: u64) -> Result<(), MediumProblem> {
    for sector in SECTORS {
        let at = usize::try_from(sector).unwrap_or(usize::MAX);
        if start.get(at..at + GPT.len()) != Some(GPT) {
            continue;
        }
        let second = u64_le_at(start, at + 32).and_then(|last| last.checked_add(1)?.checked_mul(sector));
        return match second {
            Some(end) if end <= length => Ok(()),
            Some(end) => Err(truncated("its second partition table ends", end, length)),
            None => Err(MediumProblem::Truncated("its partition table is cut".to_owned())),
        };
    }
    if start.get(510..512) != Some(MBR_SIGNATURE) {
        return Err(MediumProblem::NotADisk);
    }
    for number in 0..4 {
        let at = ENTRIES + number * ENTRY;
        let (Some(first), Some(count)) = (u32_le_at(start, at + 8), u32_le_at(start, at + 12)) else {
            continue;
        };
        let end = (u64::from(first) + u64::from(count)) * SECTOR;
        let kind = start.get(at + 4).copied().unwrap_or(0);
        if kind != 0 && kind != PROTECTIVE && end > length {
            return Err(truncated("a partition ends", end, length));
        }
    }
    Ok(())
}

fn truncated(what: &str, end: u64, length: u64) -> MediumProblem {
    MediumProblem::Truncated(format!("{what} at byte {end}, and the file at byte {length}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mbr(kind: u8, first: u32, count: u32) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        bytes[ENTRIES + 4] = kind;
        bytes[ENTRIES + 8..ENTRIES + 12].copy_from_slice(&first.to_le_bytes());
        bytes[ENTRIES + 12..ENTRIES + 16].copy_from_slice(&count.to_le_bytes());
        bytes[510..512].copy_from_slice(MBR_SIGNATURE);
        bytes
    }

    fn gpt(sector: usize, last: u64) -> Vec<u8> {
        let mut bytes = mbr(PROTECTIVE, 1, u32::MAX);
        bytes[sector..sector + 8].copy_from_slice(GPT);
        bytes[sector + 32..sector + 40].copy_from_slice(&last.to_le_bytes());
        bytes
    }

    #[test]
    fn a_disk_has_a_partition_table_and_its_end() {
        for (start, length, expected) in [
            (mbr(0x83, 2048, 2048), 4096 * 512, None),
            (mbr(0x83, 2048, 2049), 4096 * 512, Some("a partition ends at byte 2097664")),
            (gpt(512, 4095), 4096 * 512, None),
            (gpt(512, 4096), 4096 * 512, Some("its second partition table ends")),
            (gpt(4096, 9), 10 * 4096, None),
            (gpt(4096, 10), 10 * 4096, Some("its second partition table ends")),
            (gpt(512, u64::MAX), 4096 * 512, Some("its partition table is cut")),
            (vec![0; 8192], 8192, Some("it is not a disk image")),
            (b"text".to_vec(), 4, Some("it is not a disk image")),
        ] {
            let problem = check(&start, length).err().map(|problem| problem.to_string());
            match expected {
                None => assert_eq!(problem, None),
                Some(words) => {
                    assert!(problem.as_ref().is_some_and(|p| p.contains(words)), "{words}: {problem:?}")
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), length in any::<u64>()) {
            if let Some(place) = bytes.get_mut(510..512) {
                place.copy_from_slice(MBR_SIGNATURE);
            }
            let _ = check(&bytes, length);
            if let Some(place) = bytes.get_mut(512..520) {
                place.copy_from_slice(GPT);
            }
            let _ = check(&bytes, length);
        }
    }
}
