//! What the QEMU in an image offers. It is asked where it runs, and its answer is remembered beside the image's files.
//!
//! The file is no part of the image: an image without it is complete, and it goes with the image's folder.

use crate::{Digest, Image};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

const FILE: &str = "qemu-offer.toml";

/// What a QEMU offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QemuOffer {
    /// Its machine types, aliases among them: `q35`, `pc-q35-7.2`.
    pub machine_types: Vec<String>,
    /// The files of firmware that it comes with.
    pub firmware: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Remembered {
    /// The image's digest: a file that was copied from elsewhere is not this image's.
    image: Digest,
    qemu: QemuOffer,
}

impl Image {
    /// What its QEMU was seen to offer, if that is remembered. A damaged file counts as none, so that it is asked again.
    pub fn qemu_offer(&self) -> Option<QemuOffer> {
        let text = fs::read_to_string(self.qemu_offer_file()).ok()?;
        let Remembered { image, qemu } = toml::from_str(&text).ok()?;
        (image == *self.digest() && !qemu.machine_types.is_empty()).then_some(qemu)
    }

    /// Remembers what its QEMU was seen to offer.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn remember_qemu_offer(&self, qemu: &QemuOffer) -> io::Result<()> {
        let remembered = Remembered { image: self.digest().clone(), qemu: qemu.clone() };
        let text = toml::to_string(&remembered).map_err(io::Error::other)?;
        // Several processes may remember the same at once, and one may end in the middle.
        let mut file = tempfile::NamedTempFile::new_in(self.folder())?;
        file.write_all(text.as_bytes())?;
        file.persist(self.qemu_offer_file())?;
        Ok(())
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
    fn what_is_remembered_is_known_when_the_image_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(image(folder.path(), "12ab").qemu_offer(), None);
        for offer in [offer("microvm q35 pc-q35-7.2"), offer("q35 pc")] {
            image(folder.path(), "12ab").remember_qemu_offer(&offer).unwrap();
            assert_eq!(image(folder.path(), "12ab").qemu_offer(), Some(offer));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no other file is left");
    }

    #[test]
    fn what_is_damaged_or_of_another_image_is_not_remembered() {
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
