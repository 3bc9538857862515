//! The number that a boot's report must repeat, so that it can't be the report of an earlier boot.

use std::io::Read as _;

use super::RunError;

/// A fresh random number, which no earlier guest can know.
pub(crate) fn nonce() -> Result<String, RunError> {
    let mut bytes = [0_u8; 16];
    let mut source = std::fs::File::open("/dev/urandom").map_err(RunError::Nonce)?;
    source.read_exact(&mut bytes).map_err(RunError::Nonce)?;
    Ok(hex::encode(bytes))
}
