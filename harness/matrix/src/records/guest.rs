//! The guest of the user that a level booted, as a record names it.

use nestmatrix_images::{Digest, LocalGuest};
use nestmatrix_model::Guest;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A guest of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestRecord {
    /// The name of the payload.
    pub payload: String,
    /// Its kernel; absent if the image had the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<GuestFile>,
    /// Its initramfs; absent if the image had the initramfs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initramfs: Option<GuestFile>,
    /// The text that the boot waited for, if it waited for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
}

/// A file of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFile {
    /// Its name, without its folder.
    pub name: String,
    /// Its SHA-256 when it was booted.
    pub sha256: String,
}

impl GuestRecord {
    /// What a scenario asked for, with the files that were booted.
    pub(crate) fn new(guest: &Guest, local: &LocalGuest) -> Self {
        let file = |(path, digest): (&Path, &Digest)| GuestFile {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            sha256: digest.to_string(),
        };
        Self {
            payload: guest.payload.clone(),
            kernel: local.kernel().and_then(|kernel| kernel.digests().next()).map(file),
            initramfs: local.initramfs().map(file),
            ready: guest.ready.clone(),
        }
    }
}
