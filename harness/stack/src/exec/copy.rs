//! Copies files of this machine into a level, each only once: a level keeps them by the digests of their contents.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzEncoder;
use nestmatrix_vmm::guest::Agent;
use nestmatrix_vmm::shell::quote;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{ExecError, FOLDER};

/// How much is written at once, in bytes.
const PIECE: usize = 256 << 10;

/// A file of this machine that is copied into a level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFile {
    /// Its path on this machine.
    from: PathBuf,
    /// Its name in the level.
    name: String,
    /// The SHA-256 of its contents.
    digest: String,
    /// What happens to it there.
    then: Then,
}

/// What happens to a file once it is in the level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It stays where it is.
    Stay,
    /// It is copied to this path.
    CopyTo(String),
    /// It is an archive for tar, which is unpacked where it is.
    Unpack,
    /// The same, into this folder.
    UnpackTo(String),
}

impl CopiedFile {
    /// Reads the file at `from`, which gets the name `name` in the level.
    ///
    /// # Errors
    /// It can't be read.
    pub fn new(from: &Path, name: impl Into<String>, then: Then) -> io::Result<Self> {
        // The harness of a session may run in another folder.
        let from = std::path::absolute(from)?;
        let mut hasher = Sha256::new();
        io::copy(&mut File::open(&from)?, &mut hasher)?;
        Ok(Self { from, name: name.into(), digest: hex::encode(hasher.finalize()), then })
    }

    /// The folder in the level that is its own.
    pub fn folder_in_level(&self) -> String {
        let key = format!("{} {} {:?}", self.digest, self.name, self.then);
        format!("{FOLDER}/files/{}", &hex::encode(Sha256::digest(key))[..16])
    }

    /// Where it is in the level.
    pub fn path_in_level(&self) -> String {
        format!("{}/{}", self.folder_in_level(), self.name)
    }

    /// The script that does with it what is to be done.
    fn script(&self) -> String {
        let path = quote(&self.path_in_level());
        match &self.then {
            Then::Stay => format!("chmod 755 {path}\n"),
            Then::CopyTo(to) => {
                let to = quote(to);
                format!("chmod 755 {path} && mkdir -p \"$(dirname {to})\" && cp {path} {to} && rm {path}\n")
            }
            Then::Unpack => format!("tar -xf {path} -C {} && rm {path}\n", self.folder_in_level()),
            Then::UnpackTo(to) => {
                let to = quote(to);
                format!("mkdir -p {to} && tar -xf {path} -C {to} && rm {path}\n")
            }
        }
    }
}

/// Copies the files that the level does not have yet.
pub(super) async fn bring(
    agent: &Agent,
    present: &mut BTreeSet<String>,
    files: &[CopiedFile],
) -> Result<(), ExecError> {
    let missing = || files.iter().filter(|file| !present.contains(&file.folder_in_level()));
    let folders: Vec<String> = missing().map(CopiedFile::folder_in_level).collect();
    let Some(first) = missing().next() else { return Ok(()) };
    run(agent, first, &format!("umask 022; mkdir -p {}", folders.join(" "))).await?;
    for file in missing() {
        let mut copied = copy(agent, file).await;
        if copied.is_ok() && file.then != Then::Stay {
            copied = run(agent, file, &file.script()).await;
        }
        if copied.is_err() {
            // It may have filled the level's memory.
            let _ = agent.run(&format!("rm -rf {}", file.folder_in_level())).await;
        }
        copied?;
    }
    let stay: Vec<String> =
        missing().filter(|file| file.then == Then::Stay).map(CopiedFile::script).collect();
    if !stay.is_empty() {
        run(agent, first, &stay.concat()).await?;
    }
    present.extend(folders);
    Ok(())
}

async fn copy(agent: &Agent, file: &CopiedFile) -> Result<(), ExecError> {
    let failed = |why: String| ExecError::Copy { from: file.from.clone(), why };
    let path = file.path_in_level();
    let mut from = File::open(&file.from).map_err(|e| failed(e.to_string()))?;
    let is_compressed = is_worth_compressing(&mut from).map_err(|e| failed(e.to_string()))?;
    let to = if is_compressed { format!("{path}.gz") } else { path.clone() };
    let to = agent.open(&to, "w").await.map_err(|e| failed(e.to_string()))?;
    let mut hasher = Sha256::new();
    let mut written = Ok(());
    {
        let hashed = Hashed { from, hasher: &mut hasher };
        let mut pieces: Box<dyn Read + '_> = match is_compressed {
            true => Box::new(GzEncoder::new(hashed, Compression::fast())),
            false => Box::new(hashed),
        };
        while written.is_ok() {
            let mut piece = Vec::with_capacity(PIECE);
            let read = pieces.by_ref().take(PIECE as u64).read_to_end(&mut piece);
            if read.map_err(|e| failed(e.to_string()))? == 0 {
                break;
            }
            written = to.write(piece).await;
        }
    }
    let closed = to.close().await;
    written.and(closed).map_err(|e| failed(e.to_string()))?;
    if hex::encode(hasher.finalize()) != file.digest {
        return Err(failed("it was changed meanwhile".to_owned()));
    }
    if is_compressed {
        run(agent, file, &format!("gzip -d {}.gz", quote(&path))).await?;
    }
    Ok(())
}

/// Whether the file is much smaller when it is compressed, like a program with debug information: the channel to a level is slower than
/// unpacking there. Its beginning decides.
fn is_worth_compressing(file: &mut File) -> io::Result<bool> {
    let mut beginning = Vec::with_capacity(PIECE);
    file.by_ref().take(PIECE as u64).read_to_end(&mut beginning)?;
    file.rewind()?;
    let mut compressed = Vec::new();
    GzEncoder::new(&beginning[..], Compression::fast()).read_to_end(&mut compressed)?;
    Ok(compressed.len() * 4 < beginning.len() * 3)
}

/// Hashes what is read of a file.
struct Hashed<'a> {
    from: File,
    hasher: &'a mut Sha256,
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

async fn run(agent: &Agent, file: &CopiedFile, script: &str) -> Result<(), ExecError> {
    let output = agent.run(script).await?;
    if output.status == Some(0) {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ExecError::Copy { from: file.from.clone(), why })
}
