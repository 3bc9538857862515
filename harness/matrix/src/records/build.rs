//! What identifies this program in records: two programs with the same version may be built from different sources.

use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

/// Hashing a program with its debug information takes a fifth of a second, so it is hashed once.
static BUILD: LazyLock<String> = LazyLock::new(|| {
    let program = std::fs::read("/proc/self/exe").unwrap_or_default();
    let hash = hex::encode(Sha256::digest(program));
    format!("{} ({})", env!("CARGO_PKG_VERSION"), &hash[..12])
});

/// The version of this program and the SHA-256 of its file; no SHA-256 if the file can't be read.
pub(crate) fn build() -> String {
    BUILD.clone()
}
