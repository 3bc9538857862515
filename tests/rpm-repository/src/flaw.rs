//! Copies of a repository in which one package is not as it should be. They cost seconds: files are linked, not copied.

use crate::sign::{Signer, unsign};
use crate::tree::index;
use crate::{Error, Repository};
use std::fs;
use std::path::Path;

/// What is wrong with one package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It is signed with another key than that of the repository.
    OtherKey,
    /// It is not signed.
    Unsigned,
    /// One byte of its contents is changed. The index has the checksum of the changed file, so only its signature shows it.
    Tampered,
    /// One byte of its contents is changed. The index has the checksum of the original.
    Damaged,
    /// It is not there, and the index does not list it. What depends on it can't be resolved.
    LeftOut,
    /// It is not there, although the index lists it.
    Vanished,
}

impl Repository {
    /// Makes a copy in another folder, in which one package has a flaw.
    ///
    /// # Errors
    /// Why it failed; [`Error::Unexpected`] if there is no such package.
    pub fn with_flaw(&self, flaw: Flaw, package: &str, folder: &Path) -> Result<Self, Error> {
        let package =
            self.package(package).ok_or_else(|| Error::unexpected(package, "there is no such package"))?;
        link_all(self.folder(), folder)?;
        let copy = self.moved(folder);
        let path = folder.join(package.path());
        let original = fs::read(&path).map_err(Error::io("read", &path))?;
        // Not through the link, which would change the original.
        fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        let write = |bytes: &[u8]| fs::write(&path, bytes).map_err(Error::io("write", &path));
        match flaw {
            Flaw::OtherKey => {
                write(&original)?;
                Signer::new("another key")?.sign(std::slice::from_ref(&path))?;
            }
            Flaw::Unsigned => {
                write(&original)?;
                unsign(&path)?;
            }
            Flaw::Tampered | Flaw::Damaged => write(&with_another_byte(original))?,
            Flaw::LeftOut | Flaw::Vanished => {}
        }
        if !matches!(flaw, Flaw::Damaged | Flaw::Vanished) {
            index(&copy.part(package.part))?;
        }
        Ok(copy)
    }
}

/// Changes a byte near the end, where a package has its compressed files.
fn with_another_byte(mut package: Vec<u8>) -> Vec<u8> {
    let at = package.len().saturating_sub(20);
    if let Some(byte) = package.get_mut(at) {
        *byte ^= 1;
    }
    package
}

/// Links the files of a folder into another one, which is created. Files of other file systems are copied.
fn link_all(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::io("create folder", to))?;
    for entry in fs::read_dir(from).map_err(Error::io("read folder", from))? {
        let entry = entry.map_err(Error::io("read folder", from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            link_all(&from, &to)?;
        } else {
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(drop))
                .map_err(Error::io("link to", &to))?;
        }
    }
    Ok(())
}
