//! Brings a test to a level, by the level's guest agent. No machine of the stack changes by that, so snapshots stay valid.

use std::fs;
use std::path::Path;

use nestmatrix_vmm::shell::quote;
use sha2::{Digest as _, Sha256};

use crate::host::{Host, HostError};

/// Where tests are in a level; a file system in memory.
pub(super) const FOLDER: &str = "/run/nest/suite";
/// How much is written at once, in bytes.
const PIECE: usize = 256 << 10;

/// Brings a file of this machine to a level, unless it is there. Returns its path in the level.
pub(super) async fn bring(host: &dyn Host, file: &Path) -> Result<String, HostError> {
    let failed = |source| HostError::System { what: format!("bringing {}", file.display()), source };
    let other = |why: String| failed(std::io::Error::other(why));
    let bytes = fs::read(file).map_err(failed)?;
    // The same name may be another build's.
    let path = format!("{FOLDER}/{}", &hex::encode(Sha256::digest(&bytes))[..16]);
    let there = host.run(&format!("mkdir -p {FOLDER} && [ -e {path} ]")).await?;
    if there.status == Some(0) {
        return Ok(path);
    }
    let agent = host.agent().ok_or_else(|| other("the level has no guest agent".to_owned()))?;
    let part = format!("{path}.part");
    let to = agent.open(&part, "w").await?;
    let mut written = Ok(());
    for piece in bytes.chunks(PIECE) {
        written = to.write(piece.to_vec()).await;
        if written.is_err() {
            break;
        }
    }
    let closed = to.close().await;
    written.and(closed)?;
    let renamed = host.run(&format!("mv {} {}", quote(&part), quote(&path))).await?;
    match renamed.status {
        Some(0) => Ok(path),
        _ => Err(other(String::from_utf8_lossy(&renamed.stderr).trim().to_owned())),
    }
}
