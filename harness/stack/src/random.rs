//! Random numbers of the operating system.

use std::io;

/// So many fresh random bytes, as hexadecimal digits.
///
/// # Errors
/// The operating system gives none.
pub fn random_hex<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}
