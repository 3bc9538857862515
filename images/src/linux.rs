//! Reads the release and the architecture from a kernel's file, so that a level that runs another kernel is detected.

use nestmatrix_model::{Isa, IsaInfo, KernelImage, ReleaseAt, Word as _};

/// Where an ELF file says what machine it is for.
const ELF_MACHINE: usize = 0x12;

/// The banner in the data of every uncompressed kernel.
const BANNER: &[u8] = b"Linux version ";

/// The instruction set that a kernel's file is for, and what `uname -r` will say.
///
/// # Errors
/// A sentence, if it is none or does not tell its release.
pub(crate) fn identify(file: &[u8]) -> Result<(Isa, String), String> {
    let is = |at: usize, magic: &[u8]| file.get(at..at + magic.len()) == Some(magic);
    let of_kind = |isa: Isa| {
        let IsaInfo { kernel_image: Some(KernelImage { magic_at, magic, release }), .. } = isa.info() else {
            return None;
        };
        is(*magic_at, magic).then(|| (isa, said_release(file, *release)))
    };
    let (isa, release) = if let Some(found) = Isa::ALL.iter().copied().find_map(of_kind) {
        found
    } else if is(0, b"\x7fELF\x02") {
        let machine = file.get(ELF_MACHINE..ELF_MACHINE + 2).and_then(|bytes| bytes.try_into().ok());
        let isa = machine.and_then(Isa::of_elf_machine);
        let isa = isa.ok_or("it is an ELF file of an architecture that no recipe is for")?;
        (isa, in_banner(file))
    } else {
        return Err(
            "it is not a kernel: neither a bzImage, nor an Image of Arm or IBM Z, nor a vmlinux; decompress a \
                    compressed Image first"
                .to_owned(),
        );
    };
    let release = release.ok_or("it has no release")?;
    Ok((isa, release))
}

fn said_release(file: &[u8], place: ReleaseAt) -> Option<String> {
    match place {
        ReleaseAt::Banner => in_banner(file),
        ReleaseAt::Le16 { field, base } => {
            let pointer = file.get(field..field + 2)?.try_into().ok()?;
            release_at(file, base + usize::from(u16::from_le_bytes(pointer)))
        }
        ReleaseAt::Be64 { field } => {
            let pointer = file.get(field..field + 8)?.try_into().ok()?;
            release_at(file, usize::try_from(u64::from_be_bytes(pointer)).ok()?)
        }
    }
}

fn in_banner(file: &[u8]) -> Option<String> {
    let mut from = 0;
    // The banner also occurs in format strings, without a release.
    while let Some(found) = find(&file[from..], BANNER) {
        let start = from + found + BANNER.len();
        if let Some(release) = release_at(file, start) {
            return Some(release);
        }
        from = start;
    }
    None
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    // Faster than comparing every window, for files of tens of megabytes.
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == wanted[0]) {
        if text[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// The word at this offset, if it can be a release.
fn release_at(file: &[u8], at: usize) -> Option<String> {
    let text = file.get(at..)?.iter().take(128).take_while(|byte| byte.is_ascii_graphic()).copied();
    let release = String::from_utf8(text.collect()).ok()?;
    is_release(&release).then_some(release)
}

/// Whether `text` can be a kernel's release. It becomes part of paths, so it must not contain `/` or `..`.
pub(crate) fn is_release(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.contains('.')
        && !text.contains("..")
        && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(size: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut file = vec![0; size];
        for (at, bytes) in parts {
            file[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        file
    }

    #[test]
    fn each_kind_of_file_has_an_architecture_and_a_release() {
        let x86 =
            with(0x1000, &[(0x202, b"HdrS"), (0x20e, &[0x00, 0x03]), (0x500, b"6.12.1-x+ (me@here) #1")]);
        let text = b"Linux version %s (x)\0Linux version 7.0.4+deb13 (me)";
        let arm = with(0x1000, &[(0x38, b"ARM\x64"), (0x800, text)]);
        let z = with(
            0x20000,
            &[(0x10008, b"S390EP"), (0x10428, &0x12000_u64.to_be_bytes()), (0x12000, b"6.1.0-50-s390x (x)")],
        );
        let power = with(0x1000, &[(0, b"\x7fELF\x02\x01"), (0x12, &[21, 0]), (0x900, text)]);
        for (file, isa, release) in [
            (x86, Isa::Amd64, "6.12.1-x+"),
            (arm, Isa::Arm64, "7.0.4+deb13"),
            (z, Isa::S390x, "6.1.0-50-s390x"),
            (power, Isa::Ppc64el, "7.0.4+deb13"),
        ] {
            assert_eq!(identify(&file), Ok((isa, release.to_owned())));
        }
    }

    #[test]
    fn files_that_are_not_kernels_and_hostile_ones_are_refused() {
        assert!(identify(b"").is_err());
        assert!(identify(b"#!/bin/sh\n").is_err());
        let elsewhere = with(0x210, &[(0x202, b"HdrS"), (0x20e, &[0xff, 0xff])]);
        assert_eq!(identify(&elsewhere).unwrap_err(), "it has no release");
        let path = with(0x1000, &[(0x202, b"HdrS"), (0x20e, &[0, 3]), (0x500, b"6.1/../../x (me)")]);
        assert!(identify(&path).is_err(), "a release becomes part of a path");
        let escape = with(0x1000, &[(0x202, b"HdrS"), (0x20e, &[0, 3]), (0x500, b"6.1\x1b[2J (me)")]);
        assert_eq!(identify(&escape).unwrap().1, "6.1", "only printable characters");
    }
}
