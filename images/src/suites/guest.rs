//! Guests of the user: a kernel, an initramfs, or both, which an innermost level boots.

use super::program::check_name;
use super::registry::{refused, whole_path};
use crate::digest::Hasher;
use crate::{Digest, Error};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// How an initramfs can begin: as an archive (cpio(5)), or as one that the kernel can decompress (kernel: lib/decompress.c).
const BEGINNINGS: [&[u8]; 9] = [
    b"070701",
    b"070702",
    b"\x1f\x8b",
    b"BZh",
    b"\x5d\x00\x00",
    b"\xfd7zXZ\x00",
    b"\x89LZO\x00",
    b"\x02\x21\x4c\x18",
    b"\x28\xb5\x2f\xfd",
];

/// A kernel and an initramfs of the user. The image of a level has what is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AddedGuest {
    /// The name of its record's file.
    #[serde(skip)]
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kernel: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) initramfs: Option<PathBuf>,
    pub(super) sha256: Digest,
}

impl AddedGuest {
    /// Its name in scenarios.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kernel: a bzImage, an Image, a vmlinux, or a package with one of them.
    pub fn kernel(&self) -> Option<&Path> {
        self.kernel.as_deref()
    }

    /// Its initramfs.
    pub fn initramfs(&self) -> Option<&Path> {
        self.initramfs.as_deref()
    }

    /// Its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.kernel().into_iter().chain(self.initramfs())
    }

    /// The digest of its files when it was added.
    pub fn sha256(&self) -> &Digest {
        &self.sha256
    }

    /// The digest of its files as they are now.
    ///
    /// # Errors
    /// [`Error::Io`] if one can't be read.
    pub fn digest_now(&self) -> Result<Digest, Error> {
        let mut hasher = Hasher::new();
        for (key, file) in [("kernel", self.kernel()), ("initramfs", self.initramfs())] {
            let Some(file) = file else { continue };
            hasher = hasher.field(key).field(Digest::of_file(file)?.as_str());
        }
        Ok(hasher.finish())
    }

    /// Reads a guest that is about to be added.
    pub(super) fn new(name: &str, kernel: Option<&Path>, initramfs: Option<&Path>) -> Result<Self, Error> {
        let given = kernel.or(initramfs).unwrap_or(Path::new(name));
        check_name(name).map_err(|reason| refused(given, reason))?;
        if let Some(initramfs) = initramfs {
            check_initramfs(initramfs)?;
        }
        let whole = |path: Option<&Path>| path.map(whole_path).transpose();
        let (kernel, initramfs) = (whole(kernel)?, whole(initramfs)?);
        let mut added = Self { name: name.to_owned(), kernel, initramfs, sha256: Digest::of_bytes(b"") };
        added.sha256 = added.digest_now()?;
        Ok(added)
    }
}

/// Whether a file can be an initramfs.
fn check_initramfs(path: &Path) -> Result<(), Error> {
    let mut beginning = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(8).read_to_end(&mut beginning));
    read.map_err(Error::io("read", path))?;
    if BEGINNINGS.iter().any(|known| beginning.starts_with(known)) {
        return Ok(());
    }
    let reason = "it is no initramfs: neither an archive that `cpio -o -H newc` makes, nor a compressed one";
    Err(refused(path, reason.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_the_digest_of_both_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("kernel"), "kernel").unwrap();
        fs::write(path("initramfs"), "070701...").unwrap();
        let both = AddedGuest::new("x", Some(&path("kernel")), Some(&path("initramfs"))).unwrap();
        let one = AddedGuest::new("x", None, Some(&path("initramfs"))).unwrap();
        assert_ne!(both.sha256, one.sha256);
        assert_eq!(both.digest_now().unwrap(), both.sha256);
        fs::write(path("initramfs"), "070701..!").unwrap();
        assert_ne!(both.digest_now().unwrap(), both.sha256);
    }

    #[test]
    fn what_no_kernel_can_unpack_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image.iso");
        fs::write(&file, "ISO").unwrap();
        let error = AddedGuest::new("x", None, Some(&file)).unwrap_err().to_string();
        assert!(error.contains("image.iso") && error.contains("it is no initramfs"), "{error}");
        fs::write(&file, [0x1f, 0x8b, 8]).unwrap();
        AddedGuest::new("x", None, Some(&file)).unwrap();
        let error = AddedGuest::new("X y", None, Some(&file)).unwrap_err().to_string();
        assert!(error.contains("is no name for it"), "{error}");
    }
}
