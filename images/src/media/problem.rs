//! Why a file cannot be a medium, with advice.

use super::DiskFormat;
use crate::{Digest, Error};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much of a text from a medium an error shows.
const SHOWN: usize = 120;

/// A medium that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct MediumError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: MediumProblem,
}

/// What is wrong with a medium.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediumProblem {
    /// It does not exist.
    #[error("the file does not exist; name a disk image, or add it again from where it is now")]
    Missing,
    /// It is a folder or a device.
    #[error("it is not a file; name the file of a disk image")]
    NotAFile,
    /// It cannot be read.
    #[error("it cannot be read ({0}); check its permissions")]
    Unreadable(io::Error),
    /// Its path cannot be recorded.
    #[error("its path is not UTF-8, or has a control character; rename it")]
    Path,
    /// It has no contents.
    #[error("it is empty; download or copy it again")]
    Empty,
    /// It is something else than a disk image that can be read.
    #[error("it is {0}; a medium is a disk image in the format qcow2, raw, vhdx, vmdk or vpc")]
    Format(&'static str),
    /// UEFI can't start it.
    #[error("UEFI cannot start it: {0}; name the vendor's installation image")]
    Unbootable(&'static str),
    /// It is no CD image.
    #[error("it is not a CD image (ISO 9660)")]
    NotACd,
    /// It has no known format, and no partition table.
    #[error(
        "it is not a disk image: it has neither the signature of a known format nor a partition table (MBR or GPT)"
    )]
    NotADisk,
    /// It refers to another image.
    #[error(
        "it needs another image, {}, and such a name could lead to any file of this machine, so it is not followed; \
         if you trust the image, make one without it: `qemu-img convert -O qcow2 FILE NEW`", Shown(.0)
    )]
    BackingFile(String),
    /// Its data are in another file.
    #[error(
        "its data are in another file, and such a name could lead to any file of this machine, so it is not followed; \
         if you trust the image, make one that holds its data: `qemu-img convert -O qcow2 FILE NEW`"
    )]
    ExternalData,
    /// It consists of several files.
    #[error(
        "its data are in other files, and such names could lead to any file of this machine, so they are not followed; \
         if you trust the image, make one that holds its data: `qemu-img convert -O qcow2 FILE NEW`"
    )]
    Extents,
    /// It is encrypted.
    #[error("it is encrypted, and nestmatrix has no key for it; decrypt it with `qemu-img convert` first")]
    Encrypted,
    /// The metadata of its format are wrong.
    #[error("its {format} metadata are damaged: {reason}; download or copy it again")]
    Metadata {
        /// Its format.
        format: DiskFormat,
        /// What is wrong.
        reason: String,
    },
    /// A part is missing at its end.
    #[error("it is truncated: {0}; download or copy it again")]
    Truncated(String),
    /// It has another digest than the user gave.
    #[error("its SHA-256 is {found}, not {expected}; download it again, or correct --sha256")]
    OtherDigest {
        /// Its digest.
        found: Digest,
        /// The given one.
        expected: Digest,
    },
    /// It has changed since it was added.
    #[error(
        "it has changed since it was added: its SHA-256 is {found}, not {expected}; if that is right, add it again"
    )]
    Changed {
        /// Its digest.
        found: Digest,
        /// The recorded one.
        expected: Digest,
    },
    /// It has another size than when it was added.
    #[error(
        "it has changed since it was added: it has {found} bytes, not {expected}; if that is right, add it again"
    )]
    OtherSize {
        /// Its size in bytes.
        found: u64,
        /// The recorded one.
        expected: u64,
    },
    /// It changed while it was read.
    #[error("it changed while it was read; wait until it is complete, and try again")]
    Changing,
    /// qemu-img refused it.
    #[error("qemu-img cannot read it as {format}: {}", Shown(.output))]
    Refused {
        /// Its format.
        format: DiskFormat,
        /// What qemu-img printed.
        output: String,
    },
    /// qemu-img did not end.
    #[error("qemu-img did not end within {} s; the image may be damaged", .0.as_secs())]
    Timeout(Duration),
}

impl MediumProblem {
    /// Names the file.
    pub(crate) fn of(self, path: &Path) -> MediumError {
        MediumError { path: path.to_owned(), problem: self }
    }
}

impl From<MediumError> for Error {
    fn from(error: MediumError) -> Self {
        Self::Medium(Box::new(error))
    }
}

/// Text from a medium or about it, without control characters, in one line of limited length.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.0.trim().lines().next().unwrap_or_default();
        for c in line.chars().take(SHOWN) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        if line.chars().nth(SHOWN).is_some() { f.write_str("...") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_medium_is_escaped_and_cut() {
        let text = format!("/etc/\x1b[31m{}\nnext", "a".repeat(500));
        let shown = MediumProblem::BackingFile(text).to_string();
        assert!(
            shown.contains("another image, /etc/\\u{1b}[31maaa") && shown.contains("aaa..., and"),
            "{shown}"
        );
        assert!(!shown.contains("next") && shown.len() < 500, "{shown}");
    }
}
