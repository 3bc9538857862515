//! The number by which a boot's report is told from that of an earlier boot.

use std::io::Read as _;

use super::RunError;

/// A fresh number that no earlier guest can know.
pub(crate) fn nonce() -> Result<String, RunError> {
    let mut bytes = [0_u8; 16];
    let mut source = std::fs::File::open("/dev/urandom").map_err(RunError::Nonce)?;
    source.read_exact(&mut bytes).map_err(RunError::Nonce)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
