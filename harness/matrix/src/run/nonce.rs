//! The number that a boot's report must repeat, so that the report can't be that of an earlier boot.

use nestmatrix_stack::random_hex;

use super::RunError;

/// A fresh random number, which no earlier guest can know.
pub(crate) fn nonce() -> Result<String, RunError> {
    random_hex::<16>().map_err(RunError::Nonce)
}
