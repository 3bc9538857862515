//! UEFI firmware as an image: its code and its empty variables, without and with secure boot.

use crate::recipe_text::Table;
use crate::tree::Tree;
use crate::{Catalog, Error, Image, Product, Recipe};
use nestmatrix_input::Keys;
use nestmatrix_model::{Firmware, Isa};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Names of the files in an image.
pub(crate) const CODE: &str = "code.fd";
pub(crate) const VARS: &str = "vars.fd";
const SECURE_CODE: &str = "code-secure-boot.fd";
const SECURE_VARS: &str = "vars-secure-boot.fd";
const STUB: &str = "stub.efi";

/// The files travel to inner levels as virtio disks, which have whole sectors.
const SECTOR: u64 = 512;

/// A recipe's `[uefi]`: paths in its packages.
#[derive(Debug, Clone)]
pub(crate) struct UefiText {
    code: String,
    vars: String,
    /// Code and variables for secure boot, with Microsoft's keys.
    secure: Option<(String, String)>,
    /// The program that starts the kernel of a unified kernel image.
    stub: Option<String>,
}

/// Firmware and its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UefiFiles {
    /// The firmware, which is only read.
    pub code: PathBuf,
    /// Its variables. A machine writes to a copy.
    pub vars: PathBuf,
}

impl UefiText {
    pub(crate) const KEYS: Keys = &["code", "vars", "secure-boot-code", "secure-boot-vars", "stub"];

    pub(crate) fn read(table: &Table<'_>) -> Option<Self> {
        let [code, vars] = ["code", "vars"].map(|key| table.prose(key));
        let has_secure = ["secure-boot-code", "secure-boot-vars"].iter().any(|key| table.has(key));
        let secure = match has_secure {
            true => {
                let [code, vars] = ["secure-boot-code", "secure-boot-vars"].map(|key| table.prose(key));
                Some((code?, vars?))
            }
            false => None,
        };
        Some(Self { code: code?, vars: vars?, secure, stub: table.optional_prose("stub") })
    }

    /// Writes the files into an image's folder.
    ///
    /// # Errors
    /// [`Error::Assemble`] if a file is missing from the packages or has no whole sectors, [`Error::Io`].
    pub(crate) fn write(&self, packages: &Tree, recipe: &Recipe, folder: &Path) -> Result<(), Error> {
        let secure = self.secure.iter().flat_map(|(code, vars)| [(code, SECURE_CODE), (vars, SECURE_VARS)]);
        let flashes = [(&self.code, CODE), (&self.vars, VARS)].into_iter().chain(secure);
        for (path, name) in flashes.chain(self.stub.iter().map(|path| (path, STUB))) {
            let failed = |message: String| Error::Assemble { recipe: recipe.name().to_owned(), message };
            let (_, file) = packages.file(path).ok_or_else(|| failed(format!("no package holds {path}")))?;
            if name != STUB {
                check_size(path, file.data.len() as u64).map_err(failed)?;
            }
            let to = folder.join(name);
            write_sparse(&to, &file.data).map_err(Error::io("write", &to))?;
        }
        Ok(())
    }
}

/// Writes a file with holes instead of zeros: Arm's firmware is padded to 64 MiB.
fn write_sparse(path: &Path, data: &[u8]) -> io::Result<()> {
    const PIECE: usize = 64 << 10;
    let file = File::create(path)?;
    file.set_len(data.len() as u64)?;
    for (number, piece) in data.chunks(PIECE).enumerate() {
        if piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(piece, (number * PIECE) as u64)?;
        }
    }
    Ok(())
}

fn check_size(path: &str, size: u64) -> Result<(), String> {
    if size > 0 && size.is_multiple_of(SECTOR) {
        return Ok(());
    }
    Err(format!(
        "{path} has {size} bytes, which is no multiple of {SECTOR}, so it cannot be a disk of a level"
    ))
}

impl Image {
    /// The files of this firmware; none if the image has no such firmware.
    pub fn uefi(&self, firmware: Firmware) -> Option<UefiFiles> {
        if self.product() != Product::Firmware {
            return None;
        }
        let (code, vars) = match firmware {
            Firmware::Default => return None,
            Firmware::Uefi => (CODE, VARS),
            Firmware::UefiSecureBoot => (SECURE_CODE, SECURE_VARS),
        };
        Some(UefiFiles { code: self.file(code)?, vars: self.file(vars)? })
    }

    /// The program that starts the kernel of a unified kernel image, if this is an image of firmware that has it.
    pub fn uefi_stub(&self) -> Option<PathBuf> {
        self.file(STUB).filter(|_| self.product() == Product::Firmware)
    }
}

impl Catalog {
    /// The recipe of the UEFI firmware for this instruction set.
    pub fn uefi(&self, isa: Isa) -> Option<&Recipe> {
        self.recipes().find(|recipe| recipe.isa() == isa && recipe.products().contains(&Product::Firmware))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn zeros_become_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut data = vec![0; 1 << 20];
        data[70_000] = 1;
        write_sparse(&path, &data).unwrap();
        assert_eq!(fs::read(&path).unwrap(), data);
        assert!(fs::metadata(&path).unwrap().blocks() * 512 < 1 << 18);
    }

    #[test]
    fn firmware_has_whole_sectors() {
        assert_eq!(check_size("x", 3_653_632), Ok(()));
        assert!(check_size("x", 0).is_err());
        assert!(check_size("x", 513).unwrap_err().contains("513 bytes"));
    }
}
