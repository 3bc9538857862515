//! What a kernel's file says of itself: its release and its architecture, so that a level that runs another kernel than the
//! one that was given can be told.

use crate::Architecture;

/// Where the fields of the boot protocols are: x86's (kernel: Documentation/arch/x86/boot.rst), Arm's
/// (Documentation/arch/arm64/booting.rst), and IBM Z's (arch/s390/include/uapi/asm/setup.h and boot/head.S).
mod at {
    pub(super) const X86_MAGIC: usize = 0x202;
    pub(super) const X86_VERSION: usize = 0x20e;
    /// What the pointer of the field before counts from.
    pub(super) const X86_SETUP: usize = 0x200;
    pub(super) const ARM_MAGIC: usize = 0x38;
    pub(super) const ELF_MACHINE: usize = 0x12;
    pub(super) const Z_MAGIC: usize = 0x10008;
    pub(super) const Z_VERSION: usize = 0x10428;
}

/// What every kernel has in its data where that is not compressed.
const BANNER: &[u8] = b"Linux version ";

/// The architecture that a kernel's file is for, and what `uname -r` will say.
///
/// # Errors
/// A sentence, if it is none or does not tell its release.
pub(crate) fn identify(file: &[u8]) -> Result<(Architecture, String), String> {
    let is = |at: usize, magic: &[u8]| file.get(at..at + magic.len()) == Some(magic);
    let (architecture, release) = if is(at::X86_MAGIC, b"HdrS") {
        let pointer = file.get(at::X86_VERSION..at::X86_VERSION + 2);
        let pointer = pointer.map(|bytes| usize::from(bytes[0]) | usize::from(bytes[1]) << 8);
        (Architecture::Amd64, pointer.and_then(|pointer| release_at(file, at::X86_SETUP + pointer)))
    } else if is(at::ARM_MAGIC, b"ARM\x64") {
        (Architecture::Arm64, in_banner(file))
    } else if is(at::Z_MAGIC, b"S390EP") {
        let pointer = file.get(at::Z_VERSION..at::Z_VERSION + 8);
        let pointer = pointer.and_then(|bytes| Some(u64::from_be_bytes(bytes.try_into().ok()?)));
        let pointer = pointer.and_then(|pointer| usize::try_from(pointer).ok());
        (Architecture::S390x, pointer.and_then(|pointer| release_at(file, pointer)))
    } else if is(0, b"\x7fELF\x02") {
        let machine = file.get(at::ELF_MACHINE..at::ELF_MACHINE + 2).map(|bytes| (bytes[0], bytes[1]));
        let architecture = match machine {
            Some((62, 0)) => Architecture::Amd64,
            Some((183, 0)) => Architecture::Arm64,
            Some((21, 0)) => Architecture::Ppc64el,
            Some((0, 22)) => Architecture::S390x,
            _ => return Err("it is an ELF file of an architecture that no recipe is for".to_owned()),
        };
        (architecture, in_banner(file))
    } else {
        return Err(
            "it is no kernel: neither a bzImage, nor an Image of Arm or IBM Z, nor a vmlinux; a compressed \
                    Image is to be unpacked first"
                .to_owned(),
        );
    };
    let release = release.ok_or("it does not tell its release")?;
    Ok((architecture, release))
}

fn in_banner(file: &[u8]) -> Option<String> {
    let mut from = 0;
    // The words also stand in formats, where no release follows.
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
    // Faster than looking at every window, where tens of megabytes are looked through.
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == wanted[0]) {
        if text[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// The word at this place, if it can be a release: it begins with a number and becomes part of paths.
fn release_at(file: &[u8], at: usize) -> Option<String> {
    let text = file.get(at..)?.iter().take(128).take_while(|byte| byte.is_ascii_graphic()).copied();
    let release = String::from_utf8(text.collect()).ok()?;
    is_release(&release).then_some(release)
}

/// Whether `text` can be a kernel's release, and so a part of a path.
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
    fn each_kind_of_file_tells_its_architecture_and_release() {
        let x86 =
            with(0x1000, &[(0x202, b"HdrS"), (0x20e, &[0x00, 0x03]), (0x500, b"6.12.1-x+ (me@here) #1")]);
        let text = b"Linux version %s (x)\0Linux version 7.0.4+deb13 (me)";
        let arm = with(0x1000, &[(0x38, b"ARM\x64"), (0x800, text)]);
        let z = with(
            0x20000,
            &[(0x10008, b"S390EP"), (0x10428, &0x12000_u64.to_be_bytes()), (0x12000, b"6.1.0-50-s390x (x)")],
        );
        let power = with(0x1000, &[(0, b"\x7fELF\x02\x01"), (0x12, &[21, 0]), (0x900, text)]);
        for (file, architecture, release) in [
            (x86, Architecture::Amd64, "6.12.1-x+"),
            (arm, Architecture::Arm64, "7.0.4+deb13"),
            (z, Architecture::S390x, "6.1.0-50-s390x"),
            (power, Architecture::Ppc64el, "7.0.4+deb13"),
        ] {
            assert_eq!(identify(&file), Ok((architecture, release.to_owned())));
        }
    }

    #[test]
    fn what_is_no_kernel_or_a_hostile_one_is_refused() {
        assert!(identify(b"").is_err());
        assert!(identify(b"#!/bin/sh\n").is_err());
        let elsewhere = with(0x210, &[(0x202, b"HdrS"), (0x20e, &[0xff, 0xff])]);
        assert_eq!(identify(&elsewhere).unwrap_err(), "it does not tell its release");
        let path = with(0x1000, &[(0x202, b"HdrS"), (0x20e, &[0, 3]), (0x500, b"6.1/../../x (me)")]);
        assert!(identify(&path).is_err(), "a release becomes part of a path");
        let escape = with(0x1000, &[(0x202, b"HdrS"), (0x20e, &[0, 3]), (0x500, b"6.1\x1b[2J (me)")]);
        assert_eq!(identify(&escape).unwrap().1, "6.1", "only what can be shown");
    }
}
