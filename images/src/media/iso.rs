//! Installation images: whether one is complete, and whether UEFI can start it (ECMA-119, ECMA-167, El Torito 1.0, UEFI 2.10 13.3.2).

use super::bytes::{u16_le_at, u32_le_at};
use super::{MediumProblem, format};
use std::fs::File;

const SECTOR: u64 = 2048;
/// Where the volume descriptors begin.
const DESCRIPTORS: u64 = 16;
/// The most descriptors that are looked at.
const MOST_DESCRIPTORS: u64 = 32;
const IDENTIFIER: &[u8] = b"CD001";
const BOOT_RECORD: u8 = 0;
const PRIMARY: u8 = 1;
const END: u8 = 255;
const EL_TORITO: &[u8] = b"EL TORITO SPECIFICATION";

/// Where UDF's anchor is, its tag, and that of a partition.
const ANCHOR: u64 = 256;
const ANCHOR_TAG: u16 = 2;
const PARTITION_TAG: u16 = 5;

/// The number of UEFI among the platforms of boot entries.
const UEFI: u8 = 0xef;
const BOOTABLE: u8 = 0x88;
const ENTRY: usize = 32;
/// The headers of sections, the last one's being another, and what continues an entry.
const HEADER: u8 = 0x90;
const LAST_HEADER: u8 = 0x91;
const EXTENSION: u8 = 0x44;
/// The last bytes of the validation entry.
const KEY: &[u8] = &[0x55, 0xaa];

/// Whether a file begins like a CD.
pub(super) fn is_iso(start: &[u8]) -> bool {
    start.get(DESCRIPTORS as usize * SECTOR as usize + 1..).is_some_and(|rest| rest.starts_with(IDENTIFIER))
}

/// Checks that all of an image is there, as its volume descriptors say.
pub(crate) fn check(file: &File, length: u64) -> Result<(), MediumProblem> {
    let mut end = 0;
    for (kind, descriptor) in descriptors(file)? {
        if kind == PRIMARY {
            end = end.max(u64::from(u32_le_at(&descriptor, 80).unwrap_or_default()));
        }
    }
    end = end.max(udf_end(file)?);
    if end.saturating_mul(SECTOR) > length {
        let reason = format!("its volume has {} bytes, the file {length}", end * SECTOR);
        return Err(MediumProblem::Truncated(reason));
    }
    Ok(())
}

/// Checks that UEFI finds a boot loader on an image.
pub(crate) fn check_uefi(file: &File, length: u64) -> Result<(), MediumProblem> {
    let mut catalog = None;
    for (kind, descriptor) in descriptors(file)? {
        if kind == BOOT_RECORD && descriptor[7..].starts_with(EL_TORITO) {
            catalog = u32_le_at(&descriptor, 0x47);
        }
    }
    let Some(catalog) = catalog else {
        return Err(MediumProblem::Unbootable("it has no boot catalog (El Torito)"));
    };
    let catalog = sectors(file, u64::from(catalog), 1)?;
    let sum = catalog.chunks_exact(2).take(ENTRY / 2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let is_valid = |entry: &[u8]| entry[0] == 1 && entry.ends_with(KEY);
    if !catalog.get(..ENTRY).is_some_and(is_valid) || sum.fold(0_u16, u16::wrapping_add) != 0 {
        return Err(MediumProblem::Unbootable("its boot catalog is damaged"));
    }
    let starts = uefi_starts(&catalog);
    if starts.is_empty() {
        return Err(MediumProblem::Unbootable("its boot catalog has no entry for UEFI"));
    }
    if starts.iter().any(|start| u64::from(*start) * SECTOR >= length) {
        return Err(MediumProblem::Truncated("its boot loader for UEFI is beyond its end".to_owned()));
    }
    Ok(())
}

/// The sectors where the boot loaders for UEFI begin, by a boot catalog.
fn uefi_starts(catalog: &[u8]) -> Vec<u32> {
    // The first entry is of the platform in the validation entry. Each section has its own, and a number of entries.
    let (mut platform, mut left, mut is_last) = (catalog[1], 1, false);
    let mut starts = Vec::new();
    for entry in catalog.chunks_exact(ENTRY).skip(1) {
        match entry[0] {
            EXTENSION => {}
            kind if left > 0 => {
                left -= 1;
                if kind == BOOTABLE && platform == UEFI {
                    starts.extend(u32_le_at(entry, 8));
                }
            }
            kind @ (HEADER | LAST_HEADER) if !is_last => {
                (platform, is_last) = (entry[1], kind == LAST_HEADER);
                left = u16_le_at(entry, 2).unwrap_or_default();
            }
            _ => break,
        }
    }
    starts
}

/// The volume descriptors, and the kind of each.
fn descriptors(file: &File) -> Result<Vec<(u8, Vec<u8>)>, MediumProblem> {
    let mut found = Vec::new();
    for number in 0..MOST_DESCRIPTORS {
        let sector = sectors(file, DESCRIPTORS + number, 1)?;
        if sector.len() < SECTOR as usize || !sector[1..].starts_with(IDENTIFIER) || sector[0] == END {
            break;
        }
        found.push((sector[0], sector));
    }
    Ok(found)
}

/// The end of UDF's partition, in sectors; 0 if there is none. Windows' images have all but a note in it.
fn udf_end(file: &File) -> Result<u64, MediumProblem> {
    let anchor = sectors(file, ANCHOR, 1)?;
    if u16_le_at(&anchor, 0) != Some(ANCHOR_TAG) {
        return Ok(0);
    }
    let (Some(bytes), Some(at)) = (u32_le_at(&anchor, 16), u32_le_at(&anchor, 20)) else { return Ok(0) };
    let count = (u64::from(bytes) / SECTOR).min(MOST_DESCRIPTORS);
    let area = sectors(file, u64::from(at), count)?;
    let partitions =
        area.chunks(SECTOR as usize).filter(|sector| u16_le_at(sector, 0) == Some(PARTITION_TAG));
    let end = |sector: &[u8]| Some(u64::from(u32_le_at(sector, 188)?) + u64::from(u32_le_at(sector, 192)?));
    Ok(partitions.filter_map(end).max().unwrap_or(0))
}

/// These sectors, as far as the file has them.
fn sectors(file: &File, from: u64, count: u64) -> Result<Vec<u8>, MediumProblem> {
    format::read(file, from * SECTOR, (count * SECTOR) as usize).map_err(MediumProblem::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    /// An image with a boot entry for this platform, a volume of this many sectors, and perhaps UDF.
    fn image(platform: u8, volume: u32, udf: Option<u32>) -> Vec<u8> {
        let mut bytes = vec![0; 300 * SECTOR as usize];
        let mut put = |at: u64, offset: usize, value: &[u8]| {
            let at = at as usize * SECTOR as usize + offset;
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        put(16, 0, b"\x01CD001\x01");
        put(16, 80, &volume.to_le_bytes());
        put(17, 0, b"\x00CD001\x01EL TORITO SPECIFICATION");
        put(17, 0x47, &20_u32.to_le_bytes());
        put(18, 0, b"\xffCD001\x01");
        put(20, 0, &[1, 0]);
        put(20, 0x1e, &[0x55, 0xaa]);
        // The sum of the entry is 0: 1 + 0xaa55 + this.
        put(20, 0x1c, &(0_u16.wrapping_sub(0xaa56)).to_le_bytes());
        put(20, 32, &[BOOTABLE]);
        put(20, 40, &30_u32.to_le_bytes());
        put(20, 64, &[0x91, platform, 1, 0]);
        put(20, 96, &[BOOTABLE]);
        put(20, 104, &40_u32.to_le_bytes());
        if let Some(length) = udf {
            put(ANCHOR, 0, &ANCHOR_TAG.to_le_bytes());
            put(ANCHOR, 16, &(4 * SECTOR as u32).to_le_bytes());
            put(ANCHOR, 20, &260_u32.to_le_bytes());
            put(262, 0, &PARTITION_TAG.to_le_bytes());
            put(262, 188, &100_u32.to_le_bytes());
            put(262, 192, &length.to_le_bytes());
        }
        bytes
    }

    /// A good image, with these bytes of a sector changed.
    fn changed(sector: usize, bytes: &[(usize, u8)]) -> Vec<u8> {
        let mut image = image(UEFI, 300, None);
        bytes.iter().for_each(|(at, byte)| image[sector * SECTOR as usize + at] = *byte);
        image
    }

    fn checked(bytes: &[u8]) -> Result<(), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        assert!(is_iso(bytes));
        let length = bytes.len() as u64;
        check(&file, length).and_then(|()| check_uefi(&file, length)).map_err(|problem| problem.to_string())
    }

    #[test]
    fn an_image_is_complete_and_has_a_boot_entry_for_uefi() {
        assert_eq!(checked(&image(UEFI, 300, None)), Ok(()));
        assert_eq!(checked(&image(UEFI, 20, Some(200))), Ok(()));
        // The first section is BIOS's, and its entry is continued.
        let sections = [
            (64, HEADER),
            (65, 0),
            (128, EXTENSION),
            (160, LAST_HEADER),
            (161, UEFI),
            (162, 1),
            (192, BOOTABLE),
        ];
        assert_eq!(checked(&changed(20, &sections)), Ok(()));
        for (bytes, wrong) in [
            (image(UEFI, 301, None), "its volume has 616448 bytes, the file 614400"),
            (image(UEFI, 20, Some(201)), "its volume has 616448 bytes, the file 614400"),
            (image(1, 300, None), "has no entry for UEFI"),
            (changed(20, &[(4, 7)]), "its boot catalog is damaged"),
            // The sum is still 0.
            (changed(20, &[(0x1e, 0x54), (0x1c, 0xab)]), "its boot catalog is damaged"),
            (changed(17, &[(7, b'X')]), "it has no boot catalog"),
            (changed(20, &[(106, 9)]), "beyond its end"),
            // The second of two loaders.
            (changed(20, &[(66, 2), (128, BOOTABLE), (138, 9)]), "beyond its end"),
            // The section has no entries, so what follows it is none.
            (changed(20, &[(66, 0)]), "has no entry for UEFI"),
            // No section follows the last one.
            (
                changed(20, &[(65, 1), (128, LAST_HEADER), (129, UEFI), (130, 1), (160, BOOTABLE)]),
                "has no entry for UEFI",
            ),
        ] {
            let found = checked(&bytes).unwrap_err();
            assert!(found.contains(wrong), "{wrong}: {found}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_image_is_refused_or_read(at in 0_usize..300 * 2048, byte: u8, length in 0_usize..300 * 2048) {
            let mut bytes = image(UEFI, 20, Some(10));
            bytes[at] = byte;
            bytes.truncate(length);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let _ = check(&file, length as u64);
            let _ = check_uefi(&file, length as u64);
        }
    }
}
