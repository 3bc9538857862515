//! Reads the header and the description of a VMDK image: whether it is one file that refers to no other
//! (QEMU: block/vmdk.c; VMware: Virtual Disk Format 1.1).

use super::MediumProblem;
use super::bytes::{u32_le_at, u64_le_at};
use super::format::DiskFormat;

/// Where QEMU looks for the name of a parent, whatever the header says.
const DESCRIPTION: usize = 0x200;
const DESCRIPTION_BYTES: usize = 20 * 512;

const SECTOR: u64 = 512;

/// The most sectors of a description that are read.
const MOST_SECTORS: u64 = 2048;

/// Checks the start of a sparse image.
///
/// # Errors
/// The first problem.
pub(crate) fn check(start: &[u8]) -> Result<(), MediumProblem> {
    let damaged =
        |reason: &str| MediumProblem::Metadata { format: DiskFormat::Vmdk, reason: reason.to_owned() };
    let cut = || MediumProblem::Truncated("it ends inside the vmdk header".to_owned());
    if !(1..=3).contains(&u32_le_at(start, 4).ok_or_else(cut)?) {
        return Err(MediumProblem::Format("a vmdk image of an unknown version"));
    }
    let [capacity, offset, sectors] = {
        let [a, b, c] = [12, 28, 36].map(|at| u64_le_at(start, at).ok_or_else(cut));
        [a?, b?, c?]
    };
    // QEMU would then open the files that the description names.
    if capacity == 0 {
        return Err(MediumProblem::Extents);
    }
    if offset == 0 || sectors == 0 || sectors > MOST_SECTORS {
        return Err(damaged("the place of its description is wrong"));
    }
    let from = offset.checked_mul(SECTOR).and_then(|from| usize::try_from(from).ok());
    let from = from.ok_or_else(|| damaged("the place of its description is wrong"))?;
    let length = usize::try_from(sectors * SECTOR).unwrap_or(usize::MAX);
    let description = start.get(from..).ok_or_else(cut)?;
    let description = text(&description[..description.len().min(length)]);
    let also =
        text(start.get(DESCRIPTION..).map_or(&[][..], |rest| &rest[..rest.len().min(DESCRIPTION_BYTES)]));
    for one in [&description, &also] {
        if let Some(parent) = value(one, "parentFileNameHint") {
            return Err(MediumProblem::BackingFile(parent.trim_matches('"').to_owned()));
        }
        // QEMU takes whatever character is between the key and the value.
        if one.contains("parentFileNameHint") {
            return Err(MediumProblem::BackingFile("which it names in an unusual way".to_owned()));
        }
        if value(one, "parentCID").is_some_and(|id| !id.eq_ignore_ascii_case("ffffffff")) {
            return Err(MediumProblem::BackingFile("which it names by an identifier".to_owned()));
        }
    }
    let extents = description.lines().filter(|line| is_extent(line)).count();
    let kind = value(&description, "createType").unwrap_or_default();
    if extents > 1 || !["monolithicSparse", "streamOptimized"].contains(&kind.trim_matches('"')) {
        return Err(MediumProblem::Extents);
    }
    Ok(())
}

/// A description ends at the first zero byte.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// The value of the last line `KEY=VALUE`, however it is indented.
fn value<'t>(description: &'t str, key: &str) -> Option<&'t str> {
    description
        .lines()
        .rev()
        .find_map(|line| Some(line.split_once(key)?.1.trim_start().strip_prefix('=')?.trim()))
}

fn is_extent(line: &str) -> bool {
    ["RW ", "RDONLY ", "NOACCESS "].iter().any(|access| line.trim_start().starts_with(access))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n\n\
                        RW 2048 SPARSE \"x.vmdk\"\n";

    fn image(capacity: u64, description: &str) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        bytes[..4].copy_from_slice(b"KDMV");
        bytes[4] = 1;
        bytes[12..20].copy_from_slice(&capacity.to_le_bytes());
        bytes[28] = 1;
        bytes[36] = 20;
        bytes[512..512 + description.len()].copy_from_slice(description.as_bytes());
        bytes
    }

    #[test]
    fn only_one_file_passes() {
        check(&image(2048, GOOD)).unwrap();
        for (capacity, description, expected) in [
            (0, GOOD.to_owned(), "in other files"),
            (2048, GOOD.replace("monolithicSparse", "twoGbMaxExtentSparse"), "in other files"),
            (2048, format!("{GOOD}RW 2048 FLAT \"/etc/shadow\" 0\n"), "in other files"),
            (2048, GOOD.replace("ffffffff", "12345678"), "needs another image"),
            (2048, format!("{GOOD}parentFileNameHint = \"/etc/shadow\"\n"), "/etc/shadow"),
            (2048, GOOD.replace("createType", "x"), "in other files"),
        ] {
            let problem = check(&image(capacity, &description)).unwrap_err().to_string();
            assert!(problem.contains(expected), "{expected}: {problem}");
        }
        // QEMU reads the parent at a fixed place.
        let mut elsewhere = image(2048, "parentFileNameHint=\"/etc/shadow\"\n");
        elsewhere[28] = 40;
        elsewhere[40 * 512..40 * 512 + GOOD.len()].copy_from_slice(GOOD.as_bytes());
        assert!(matches!(check(&elsewhere), Err(MediumProblem::BackingFile(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = check(&bytes);
            if bytes.len() > 44 {
                bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
                bytes[28..36].copy_from_slice(&1u64.to_le_bytes());
                bytes[36..44].copy_from_slice(&1u64.to_le_bytes());
                let _ = check(&bytes);
            }
        }
    }
}
