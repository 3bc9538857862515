//! Copies files of this machine into a level, each only once, until its contents change.

use std::collections::BTreeMap;
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
use crate::random::random_hex;

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
    /// Checks that the file is as it was when it was read.
    ///
    /// # Errors
    /// It can't be read, or has changed.
    pub(crate) fn check(&self) -> io::Result<()> {
        let mut hasher = Sha256::new();
        io::copy(&mut File::open(&self.from)?, &mut hasher)?;
        if hex::encode(hasher.finalize()) == self.digest {
            return Ok(());
        }
        Err(io::Error::other(format!("{} was changed meanwhile", self.from.display())))
    }

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

    /// Its path on this machine.
    pub(crate) fn from(&self) -> &Path {
        &self.from
    }

    /// Where it is in the level before it is in its place, if something else than an agent brings it.
    pub(crate) fn part_in_level(&self) -> String {
        format!("{}/brought.part", self.folder_in_level())
    }

    /// Where it is in the level.
    pub fn path_in_level(&self) -> String {
        format!("{}/{}", self.folder_in_level(), self.name)
    }

    /// The path in the level that depends on its contents.
    fn destination(&self) -> PathBuf {
        match &self.then {
            Then::Stay => self.path_in_level().into(),
            Then::Unpack => self.folder_in_level().into(),
            Then::CopyTo(to) | Then::UnpackTo(to) => to.into(),
        }
    }

    /// The script that puts what was copied to `part` in its place.
    pub(crate) fn script(&self, part: &str) -> String {
        match &self.then {
            Then::Stay => format!("chmod 755 {part} && mv -f {part} {}", quote(&self.path_in_level())),
            Then::CopyTo(to) => {
                let to = quote(to);
                format!(
                    "if [ -d {to} ]; then echo {to}: it is a folder >&2; exit 1; fi
chmod 755 {part} && mkdir -p \"$(dirname {to})\" && cp -f {part} {to} && rm {part}"
                )
            }
            Then::Unpack => format!("tar -xf {part} -C {} && rm {part}", self.folder_in_level()),
            Then::UnpackTo(to) => {
                let to = quote(to);
                let key = hex::encode(Sha256::digest(to.as_bytes()));
                // A folder that exec made is removed first, so that no file of earlier contents stays. One of the level must stay.
                let made = format!("{FOLDER}/made-{}", &key[..16]);
                format!(
                    "if [ -e {made} ]; then rm -rf {to}; else rmdir {to} 2>/dev/null; fi
[ -e {to} ] || : >{made}
mkdir -p {to} && tar -xf {part} -C {to} && rm {part}"
                )
            }
        }
    }
}

/// The files that a level has: the digests of their contents, by their destinations.
#[derive(Debug, Default)]
pub(crate) struct Present(BTreeMap<PathBuf, String>);

impl Present {
    /// Whether the level has `file`, and nothing else was copied into its folder since, except `later` files.
    fn has(&self, file: &CopiedFile, later: &[CopiedFile]) -> bool {
        let destination = file.destination();
        let is_later = |(path, digest): (&PathBuf, &String)| {
            *path == destination
                || !path.starts_with(&destination)
                || later.iter().any(|later| later.destination() == *path && later.digest == *digest)
        };
        self.0.get(&destination) == Some(&file.digest) && self.0.iter().all(is_later)
    }

    /// Forgets what is at the destination of `file` or in it.
    fn forget(&mut self, file: &CopiedFile) {
        let destination = file.destination();
        self.0.retain(|other, _| !other.starts_with(&destination));
    }

    fn add(&mut self, file: &CopiedFile) {
        self.0.insert(file.destination(), file.digest.clone());
    }
}

/// Copies the files that the level does not have yet.
pub(crate) async fn bring(
    agent: &Agent,
    present: &mut Present,
    files: &[CopiedFile],
) -> Result<(), ExecError> {
    let with_later = || files.iter().enumerate().map(|(index, file)| (file, &files[index + 1..]));
    let Some(first) = with_later().find(|(file, later)| !present.has(file, later)).map(|(file, _)| file)
    else {
        return Ok(());
    };
    let folders: Vec<String> = files.iter().map(CopiedFile::folder_in_level).collect();
    run(agent, first, &format!("umask 022; mkdir -p {}", folders.join(" "))).await?;
    for (file, later) in with_later() {
        // The file before may have replaced this one.
        if present.has(file, later) {
            continue;
        }
        let failed = |e: io::Error| ExecError::Copy { from: file.from.clone(), why: e.to_string() };
        let part = format!("{}/{}.part", file.folder_in_level(), random_hex::<4>().map_err(failed)?);
        let mut part = Part { agent, path: part, is_left: true };
        // Until it is complete, nothing is known of its destination.
        present.forget(file);
        let copied = copy(agent, file, &part.path).await;
        part.is_left = false;
        if copied.is_err() {
            // It may have filled the level's memory.
            let _ = agent.run(&part.removal()).await;
        }
        copied?;
        present.add(file);
    }
    Ok(())
}

/// A file in a level that is being copied. If the copying is given up, it is removed.
struct Part<'a> {
    agent: &'a Agent,
    path: String,
    is_left: bool,
}

impl Part<'_> {
    fn removal(&self) -> String {
        format!("rm -f {0} {0}.gz", self.path)
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        if self.is_left {
            let (agent, removal) = (self.agent.clone(), self.removal());
            tokio::task::spawn_local(async move { agent.run(&removal).await });
        }
    }
}

/// Copies a file to `part`, and from there to its place.
async fn copy(agent: &Agent, file: &CopiedFile, part: &str) -> Result<(), ExecError> {
    let failed = |why: String| ExecError::Copy { from: file.from.clone(), why };
    let mut from = File::open(&file.from).map_err(|e| failed(e.to_string()))?;
    let is_compressed = is_worth_compressing(&mut from).map_err(|e| failed(e.to_string()))?;
    let to = if is_compressed { format!("{part}.gz") } else { part.to_owned() };
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
    let unpack = if is_compressed { format!("gzip -d {part}.gz || exit\n") } else { String::new() };
    run(agent, file, &format!("umask 022\n{unpack}{}", file.script(part))).await
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
