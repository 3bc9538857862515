//! Which format a disk image has, by its signature, and whether it is a disk that stands alone. Nothing here starts another program,
//! since one that opens an image may follow what the image names.

use super::{MediumProblem, bytes, iso, partitions, qcow2, vmdk};
use nestmatrix_model::{Word, word_traits};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The format of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskFormat {
    /// QEMU's own.
    Qcow2,
    /// The bytes of the disk.
    Raw,
    /// Hyper-V's.
    Vhdx,
    /// VMware's.
    Vmdk,
    /// An installation image: no disk, but what installs one.
    Iso,
    /// Virtual PC's, with the ending `.vhd`.
    Vpc,
}

impl Word for DiskFormat {
    const WHAT: &'static str = "disk format";
    const ALL: &'static [Self] = &[Self::Qcow2, Self::Raw, Self::Vhdx, Self::Vmdk, Self::Vpc, Self::Iso];

    fn word(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
            Self::Vhdx => "vhdx",
            Self::Vmdk => "vmdk",
            Self::Vpc => "vpc",
            Self::Iso => "iso",
        }
    }
}
word_traits!(DiskFormat);

/// The error's words for an installation image, where no recipe installs it.
pub(crate) const INSTALLATION_IMAGE: &str =
    "an installation image (ISO 9660), which `sources add --dvd` may take";

const QCOW: &[u8] = b"QFI\xfb";
const VHDX: &[u8] = b"vhdxfile";
const VMDK: &[u8] = b"KDMV";
const VPC: &[u8] = b"conectix";
/// A VHD ends with a footer of this length. A dynamic one also begins with it.
const FOOTER: usize = 512;

/// Signatures of what is no medium: where, what, and the error's words.
const OTHERS: &[(usize, &[u8], &str)] = &[
    (0, b"# Disk DescriptorFile", "only the description of a vmdk image, whose data are in other files"),
    (0, b"COWD", "a vmdk image of VMware ESX 2"),
    (0, b"QED\0", "a qed image"),
    (0, b"LUKS\xba\xbe", "encrypted (LUKS)"),
    (0, b"WithoutFreeSpace", "a Parallels image"),
    (0, b"WithouFreSpacExt", "a Parallels image"),
    (0, b"Bochs Virtual HD Image", "a Bochs image"),
    (0, b"#!/bin/sh\n#V2.0 Format", "a cloop image"),
    (0x40, b"\x7f\x10\xda\xbe", "a VirtualBox image (vdi)"),
    (0, b"\x1f\x8b", "compressed (gzip); decompress it"),
    (0, b"\xfd7zXZ\0", "compressed (xz); decompress it"),
    (0, b"\x28\xb5\x2f\xfd", "compressed (zstd); decompress it"),
    (0, b"BZh", "compressed (bzip2); decompress it"),
    (0, b"PK\x03\x04", "a zip archive; unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (257, b"ustar", "a tar archive (an .ova is one); unpack it"),
    (0x8001, b"CD001", INSTALLATION_IMAGE),
];

/// Finds out the format of an image of `length` bytes, and checks what its metadata name.
///
/// # Errors
/// Why it cannot be a medium.
pub(crate) fn inspect(file: &File, length: u64) -> Result<DiskFormat, MediumProblem> {
    if length == 0 {
        return Err(MediumProblem::Empty);
    }
    let start = read(file, 0, qcow2::HEADER_BYTES).map_err(MediumProblem::Unreadable)?;
    if iso::is_iso(&start) {
        iso::check(file, length)?;
        return Ok(DiskFormat::Iso);
    }
    let end = read(file, length.saturating_sub(FOOTER as u64), FOOTER).map_err(MediumProblem::Unreadable)?;
    check(&start, &end, length)
}

fn check(start: &[u8], end: &[u8], length: u64) -> Result<DiskFormat, MediumProblem> {
    for (at, signature, what) in OTHERS {
        if start.get(*at..).is_some_and(|rest| rest.starts_with(signature)) {
            return Err(MediumProblem::Format(what));
        }
    }
    if start.starts_with(QCOW) {
        qcow2::check(start, length)?;
        return Ok(DiskFormat::Qcow2);
    }
    if start.starts_with(VMDK) {
        vmdk::check(start)?;
        return Ok(DiskFormat::Vmdk);
    }
    if start.starts_with(VHDX) {
        return Ok(DiskFormat::Vhdx);
    }
    if start.starts_with(VPC) || end.starts_with(VPC) {
        vpc(start, end)?;
        return Ok(DiskFormat::Vpc);
    }
    partitions::check(start, length)?;
    Ok(DiskFormat::Raw)
}

/// Checks the footer of a VHD and its type (Virtual Hard Disk Image Format Specification).
fn vpc(start: &[u8], end: &[u8]) -> Result<(), MediumProblem> {
    const TYPE: usize = 60;
    const FIXED: u32 = 2;
    const DYNAMIC: u32 = 3;
    const DIFFERENCING: u32 = 4;
    if !end.starts_with(VPC) {
        return Err(MediumProblem::Truncated("the footer of its format is missing".to_owned()));
    }
    for footer in [start, end].into_iter().filter(|footer| footer.starts_with(VPC)) {
        match bytes::u32_at(footer, TYPE) {
            Some(FIXED | DYNAMIC) => {}
            Some(DIFFERENCING) => {
                return Err(MediumProblem::BackingFile("the one that it differs from".to_owned()));
            }
            _ => {
                let reason = "the type of its disk is unknown".to_owned();
                return Err(MediumProblem::Metadata { format: DiskFormat::Vpc, reason });
            }
        }
    }
    Ok(())
}

/// At most `most` bytes from `offset`.
pub(crate) fn read(file: &File, offset: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    let mut filled = 0;
    while filled < most {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An MBR whose only partition is inside the image.
    fn disk() -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes
    }

    fn found(bytes: &[u8]) -> Result<DiskFormat, String> {
        let end = &bytes[bytes.len().saturating_sub(FOOTER)..];
        check(bytes, end, bytes.len() as u64).map_err(|problem| problem.to_string())
    }

    #[test]
    fn an_image_is_raw_only_without_any_signature() {
        assert_eq!(found(&disk()), Ok(DiskFormat::Raw));
        for (at, signature, what) in OTHERS {
            let mut bytes = disk();
            bytes[*at..at + signature.len()].copy_from_slice(signature);
            assert!(found(&bytes).unwrap_err().starts_with(&format!("it is {what}")), "{what}");
        }
        for signature in [QCOW, VMDK] {
            let mut bytes = disk();
            bytes[..signature.len()].copy_from_slice(signature);
            assert!(found(&bytes).is_err());
        }
    }

    #[test]
    fn a_vhd_has_its_footer_and_no_parent() {
        let footer = |kind: u8| {
            let mut footer = vec![0; FOOTER];
            footer[..8].copy_from_slice(VPC);
            footer[63] = kind;
            footer
        };
        let fixed = [disk(), footer(2)].concat();
        assert_eq!(found(&fixed), Ok(DiskFormat::Vpc));
        let dynamic = [footer(3), disk(), footer(3)].concat();
        assert_eq!(found(&dynamic), Ok(DiskFormat::Vpc));
        let cut = [footer(3), disk()].concat();
        assert!(found(&cut).unwrap_err().contains("truncated"));
        let differencing = [footer(3), disk(), footer(4)].concat();
        assert!(found(&differencing).unwrap_err().contains("needs another image"));
        let unknown = [footer(9), disk(), footer(3)].concat();
        assert!(found(&unknown).unwrap_err().contains("type of its disk"));
    }
}
