//! Caches what the QEMU in an image supports. QEMU is asked where it runs, and its answer is stored next to the image's files.
//!
//! The file is not part of the image: an image is complete without it. It is removed together with the image's folder.

use crate::{Digest, Image, replace_file};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::PathBuf;

const FILE: &str = "qemu-offer.toml";

/// What a QEMU supports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuOffer {
    /// Its machine types, including aliases: `q35`, `pc-q35-7.2`.
    pub machine_types: Vec<String>,
    /// Its firmware files.
    pub firmware: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The image's digest, since the file can be a copy from another image.
    image: Digest,
    qemu: QemuOffer,
}

impl Image {
    /// What its QEMU supports, if that is stored. A damaged file counts as missing.
    pub fn qemu_offer(&self) -> Option<QemuOffer> {
        let text = fs::read_to_string(self.qemu_offer_file()).ok()?;
        let Record { image, qemu } = toml::from_str(&text).ok()?;
        (image == *self.digest() && !qemu.machine_types.is_empty()).then_some(qemu)
    }

    /// Stores what its QEMU supports.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn remember_qemu_offer(&self, qemu: &QemuOffer) -> io::Result<()> {
        let record = Record { image: self.digest().clone(), qemu: qemu.clone() };
        let text = toml::to_string(&record).map_err(io::Error::other)?;
        // Written atomically, since several processes may write it, and one may be killed.
        replace_file(&self.qemu_offer_file(), &text)
    }

    fn qemu_offer_file(&self) -> PathBuf {
        self.folder().join(FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn image(folder: &Path, digest: &str) -> Image {
        let metadata = format!(
            "format = 1\nname = \"debian-13-amd64\"\nproduct = \"hypervisor\"\narchitecture = \"amd64\"\n\
             recipe_sha256 = \"{0}\"\nresolved = 0\narchive = \"-\"\nsuites = []\nfiles = []\npackages = []\n",
            "0".repeat(64)
        );
        fs::write(folder.join("image.toml"), metadata).unwrap();
        Image::open(folder, &Digest::from_hex(digest), None).unwrap()
    }

    fn offer(machine_types: &str) -> QemuOffer {
        let machine_types = machine_types.split(' ').map(str::to_owned).collect();
        QemuOffer { machine_types, firmware: vec!["bios-256k.bin".to_owned()] }
    }

    #[test]
    fn a_stored_offer_is_read_when_the_image_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(image(folder.path(), "12ab").qemu_offer(), None);
        for offer in [offer("microvm q35 pc-q35-7.2"), offer("q35 pc")] {
            image(folder.path(), "12ab").remember_qemu_offer(&offer).unwrap();
            assert_eq!(image(folder.path(), "12ab").qemu_offer(), Some(offer));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no other file is left");
    }

    #[test]
    fn an_offer_that_is_damaged_or_of_another_image_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let image_of = |digest| image(folder.path(), digest);
        image_of("12ab").remember_qemu_offer(&offer("q35 pc")).unwrap();
        assert_eq!(image_of("34cd").qemu_offer(), None);
        let file = folder.path().join(FILE);
        let text = fs::read_to_string(&file).unwrap();
        let empty = text.replace("machine_types = [\"q35\", \"pc\"]", "machine_types = []");
        assert_ne!(empty, text);
        for damaged in [&text[..text.len() / 2], "", &empty] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(image_of("12ab").qemu_offer(), None, "{damaged}");
        }
        image_of("12ab").remember_qemu_offer(&offer("pc")).unwrap();
        assert_eq!(image_of("12ab").qemu_offer(), Some(offer("pc")));
    }
}
