//! Reads the header of a qcow2 image, before any other program sees the image: whether it refers to other files
//! (QEMU: docs/interop/qcow2.rst).

use super::MediumProblem;
use super::bytes::{u32_at, u64_at};
use super::format::DiskFormat;

/// How many bytes from the start of a file are read. A header with all its extensions is in its first cluster, of at most 2 MiB.
pub(crate) const HEADER_BYTES: usize = 2 << 20;

/// Length of the header of version 2, to which version 3 adds.
const V2_LENGTH: usize = 72;
const V3_LENGTH: usize = 104;

/// Bits of `incompatible_features`.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// Types of header extensions.
const END: u32 = 0;
const ENCRYPTION: u32 = 0x0537_be77;
const EXTERNAL_DATA_NAME: u32 = 0x4441_5441;

/// QEMU's limits (block/qcow2.h).
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
const LONGEST_BACKING_FILE: usize = 1023;
const MOST_L1_BYTES: u64 = 32 << 20;
const MOST_REFCOUNT_BYTES: u64 = 8 << 20;

/// Checks that an image refers to no other file, and that its tables are inside its file of `length` bytes. `start` is the start of
/// the file, of [`HEADER_BYTES`] if the file has so many.
///
/// # Errors
/// The first problem.
pub(crate) fn check(start: &[u8], length: u64) -> Result<(), MediumProblem> {
    let damaged =
        |reason: &str| MediumProblem::Metadata { format: DiskFormat::Qcow2, reason: reason.to_owned() };
    let cut = || MediumProblem::Truncated("it ends inside the qcow2 header".to_owned());
    let u32 = |at| u32_at(start, at).ok_or_else(cut);
    let u64 = |at| u64_at(start, at).ok_or_else(cut);
    let version = u32(4)?;
    let minimum = match version {
        2 => V2_LENGTH,
        3 => V3_LENGTH,
        _ => return Err(MediumProblem::Format("a qcow2 image of an unknown version")),
    };
    if start.len() < minimum {
        return Err(cut());
    }
    // What leads to other files is checked first, since that must hold for damaged images too.
    let (backing, backing_length) = (u64(8)?, u32(16)? as usize);
    if backing != 0 || backing_length != 0 {
        return Err(MediumProblem::BackingFile(name(start, backing, backing_length)));
    }
    let features = if version == 3 { u64(72)? } else { 0 };
    if features & EXTERNAL_DATA != 0 {
        return Err(MediumProblem::ExternalData);
    }
    if u32(32)? != 0 {
        return Err(MediumProblem::Encrypted);
    }
    let header_length = if version == 3 { u32(100)? as usize } else { V2_LENGTH };
    if header_length < minimum || !header_length.is_multiple_of(8) {
        return Err(damaged("the length of its header is wrong"));
    }
    let cluster_bits = u32(20)?;
    if !CLUSTER_BITS.contains(&cluster_bits) {
        return Err(damaged("the size of its clusters is wrong"));
    }
    check_extensions(start, header_length, 1 << cluster_bits)?;
    if features & CORRUPT != 0 {
        return Err(damaged("it is marked as corrupt"));
    }
    if features & !(DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION | EXTENDED_L2) != 0 {
        return Err(MediumProblem::Format("a qcow2 image with unknown features"));
    }
    let tables = [
        (u64(40)?, u64::from(u32(36)?) * 8, MOST_L1_BYTES),
        (u64(48)?, u64::from(u32(56)?) << cluster_bits, MOST_REFCOUNT_BYTES),
    ];
    for (offset, size, most) in tables {
        if size > most {
            return Err(damaged("a table is too large"));
        }
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Err(MediumProblem::Truncated(format!(
                "a table at byte {offset} is beyond its end, {length}"
            )));
        }
    }
    Ok(())
}

/// Walks through the extensions of the header, as QEMU does: from the header's end to the end of its cluster.
fn check_extensions(start: &[u8], header: usize, cluster: usize) -> Result<(), MediumProblem> {
    let damaged =
        |reason: &str| MediumProblem::Metadata { format: DiskFormat::Qcow2, reason: reason.to_owned() };
    let mut at = header;
    while at < cluster {
        let (Some(kind), Some(length)) = (u32_at(start, at), u32_at(start, at + 4)) else {
            return Err(MediumProblem::Truncated("it ends inside the qcow2 header".to_owned()));
        };
        match kind {
            END => return Ok(()),
            ENCRYPTION => return Err(MediumProblem::Encrypted),
            EXTERNAL_DATA_NAME => return Err(MediumProblem::ExternalData),
            _ => {}
        }
        let length = (length as usize).checked_next_multiple_of(8);
        at = match length.and_then(|length| at.checked_add(8)?.checked_add(length)) {
            Some(next) if next <= cluster => next,
            _ => return Err(damaged("an extension of its header is too long")),
        };
    }
    Ok(())
}

/// The name of the backing file, for the error.
fn name(start: &[u8], offset: u64, length: usize) -> String {
    let named = || {
        let from = usize::try_from(offset).ok()?;
        start.get(from..from.checked_add(length.min(LONGEST_BACKING_FILE))?)
    };
    named().map_or_else(
        || "whose name cannot be read".to_owned(),
        |bytes| String::from_utf8_lossy(bytes).into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header of version 3 with the smallest tables.
    fn good() -> Vec<u8> {
        let mut header = vec![0; 1 << 16];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"QFI\xfb");
        put(4, &3u32.to_be_bytes());
        put(20, &16u32.to_be_bytes());
        put(24, &(1u64 << 30).to_be_bytes());
        put(36, &2u32.to_be_bytes());
        put(40, &(3u64 << 16).to_be_bytes());
        put(48, &(1u64 << 16).to_be_bytes());
        put(56, &1u32.to_be_bytes());
        put(100, &104u32.to_be_bytes());
        header
    }

    const LENGTH: u64 = 4 << 16;

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut header = good();
        header[at..at + bytes.len()].copy_from_slice(bytes);
        header
    }

    #[test]
    fn an_image_that_stands_alone_passes() {
        check(&good(), LENGTH).unwrap();
        // Version 2 has no features, and its header is shorter.
        check(&with(4, &2u32.to_be_bytes()), LENGTH).unwrap();
        let named_format = with(104, &[0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 3, b'r', b'a', b'w']);
        check(&named_format, LENGTH).unwrap();
    }

    #[test]
    fn what_leads_to_other_files_is_found_whatever_else_is_wrong() {
        for (at, bytes, expected) in [
            (8, &200u64.to_be_bytes()[..], "needs another image"),
            (16, &9u32.to_be_bytes(), "needs another image"),
            (8, &u64::MAX.to_be_bytes(), "whose name cannot be read"),
            (72, &4u64.to_be_bytes(), "data are in another file"),
            (32, &2u32.to_be_bytes(), "encrypted"),
            (104, &[0x05, 0x37, 0xbe, 0x77, 0, 0, 0, 16], "encrypted"),
            (104, b"DATA\0\0\0\x08", "data are in another file"),
        ] {
            for broken in [&[][..], &[(20, 0xff)], &[(79, 0x80)]] {
                // Extensions are inside a cluster, whose size must be right.
                if at == 104 && !broken.is_empty() || at == 72 && !broken.is_empty() {
                    continue;
                }
                let mut header = with(at, bytes);
                broken.iter().for_each(|(at, byte)| header[*at] = *byte);
                let problem = check(&header, LENGTH).unwrap_err().to_string();
                assert!(problem.contains(expected), "{at}: {problem}");
            }
        }
    }

    #[test]
    fn broken_headers_are_refused() {
        for (header, length, expected) in [
            (with(4, &1u32.to_be_bytes()), LENGTH, "unknown version"),
            (with(4, &4u32.to_be_bytes()), LENGTH, "unknown version"),
            (with(20, &63u32.to_be_bytes()), LENGTH, "size of its clusters"),
            (with(100, &8u32.to_be_bytes()), LENGTH, "length of its header"),
            (with(72, &2u64.to_be_bytes()), LENGTH, "marked as corrupt"),
            (with(72, &(1u64 << 60).to_be_bytes()), LENGTH, "unknown features"),
            (with(104, &[1, 1, 1, 1, 0xff, 0xff, 0xff, 0xff]), LENGTH, "extension of its header is too long"),
            (with(36, &u32::MAX.to_be_bytes()), LENGTH, "a table is too large"),
            (with(40, &u64::MAX.to_be_bytes()), LENGTH, "beyond its end"),
            (good(), 1 << 16, "beyond its end"),
            (good()[..50].to_vec(), 50, "ends inside the qcow2 header"),
        ] {
            let problem = check(&header, length).unwrap_err().to_string();
            assert!(problem.contains(expected), "{expected}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(
            mut header in proptest::collection::vec(any::<u8>(), 0..400), version in 0u32..5, length in any::<u64>(),
        ) {
            if let Some(place) = header.get_mut(4..8) {
                place.copy_from_slice(&version.to_be_bytes());
            }
            let _ = check(&header, length);
        }

        #[test]
        fn a_changed_header_never_hides_a_backing_file(at in 20usize..200, byte in any::<u8>(), name in 1u64..1000) {
            let mut header = with(8, &name.to_be_bytes());
            header[at] = byte;
            prop_assert!(matches!(check(&header, LENGTH), Err(MediumProblem::BackingFile(_))));
        }
    }
}
