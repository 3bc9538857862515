//! SHA-256 of files, packages, and all inputs of an image.

use crate::Error;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// A SHA-256 value, written as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes the digits that another program printed. They are only compared.
    pub(crate) fn from_hex(hex: &str) -> Self {
        Self(hex.to_ascii_lowercase())
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.0.update(bytes);
        hasher.finish()
    }

    pub(crate) fn of_file(path: &Path) -> Result<Self, Error> {
        Self::of_start(path, u64::MAX)
    }

    /// The digest of at most `bytes` bytes from the start of a file.
    pub(crate) fn of_start(path: &Path, bytes: u64) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(Error::io("open", path))?.take(bytes);
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer).map_err(Error::io("read", path))? {
                0 => return Ok(hasher.finish()),
                n => hasher.0.update(&buffer[..n]),
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Hashes a sequence of fields. Each is hashed with its length, so that different sequences are different bytes.
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(crate) fn field(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Hashes bytes without their length, as a part of one long field.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(hex::encode(self.0.finalize()))
    }
}
