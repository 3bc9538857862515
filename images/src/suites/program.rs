//! Programs of the user that steps run in levels, with the files that they need there.

use super::registry::{refused, whole_path};
use crate::digest::Hasher;
use crate::elf::ProgramFile;
use crate::{Digest, Error};
use nestmatrix_model::SuiteKind;
use nestmatrix_model::Word as _;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A name becomes a file's name and a part of the names of cases.
const LONGEST_NAME: usize = 64;
/// The most files of one program, those in folders included.
const MOST_FILES: usize = 10_000;

/// A program of the user, and the files that it needs where it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AddedProgram {
    /// The name of its record's file.
    #[serde(skip)]
    pub(super) name: String,
    pub(super) program: PathBuf,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) files: Vec<AddedFile>,
    pub(super) sha256: Digest,
}

/// A file or a folder that a program needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AddedFile {
    /// Its path on this machine.
    pub from: PathBuf,
    /// Its path in a level.
    pub to: String,
}

impl AddedProgram {
    /// Its name in steps.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The program: an ELF file, or a script.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The files that it needs.
    pub fn files(&self) -> &[AddedFile] {
        &self.files
    }

    /// The digest of all its files when it was added.
    pub fn sha256(&self) -> &Digest {
        &self.sha256
    }

    /// The digest of all its files as they are now.
    ///
    /// # Errors
    /// [`Error::Io`] if a file can't be read, [`Error::Suite`] if there are too many.
    pub fn digest_now(&self) -> Result<Digest, Error> {
        let mut hasher = Hasher::new().field(Digest::of_file(&self.program)?.as_str());
        let mut left = MOST_FILES;
        for file in &self.files {
            for path in files_in(&file.from, &mut left)? {
                let name = path.strip_prefix(&file.from).unwrap_or(Path::new(""));
                hasher = hasher.field(&file.to).field(name.as_os_str().as_encoded_bytes());
                hasher = hasher.field(Digest::of_file(&path)?.as_str());
            }
        }
        Ok(hasher.finish())
    }

    /// What the program is for, if it is an ELF file.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be read.
    pub fn elf(&self) -> Result<Option<ProgramFile>, Error> {
        ProgramFile::read(&self.program).map_err(Error::io("read", &self.program))
    }

    /// Reads a program that is about to be added.
    pub(super) fn new(name: &str, program: &Path, files: Vec<AddedFile>) -> Result<Self, Error> {
        if let Err(reason) = check_name(name) {
            return Err(refused(program, reason));
        }
        let program = whole_path(program)?;
        let state = fs::metadata(&program).map_err(Error::io("read", &program))?;
        if !state.is_file() {
            let suites: Vec<&str> = SuiteKind::ALL.iter().map(|kind| kind.word()).collect();
            let reason =
                format!("it is no file; a folder can only be added as a suite: {}", suites.join(", "));
            return Err(refused(&program, reason));
        }
        if state.permissions().mode() & 0o111 == 0 {
            return Err(refused(&program, "it is not executable; set that with `chmod +x`".to_owned()));
        }
        if state.len() == 0 {
            return Err(refused(&program, "it is empty".to_owned()));
        }
        let mut added =
            Self { name: name.to_owned(), program, files: Vec::new(), sha256: Digest::of_bytes(b"") };
        if added.elf()?.is_some_and(|elf| elf.isa.is_none()) {
            let reason = "it is for a processor that no level has; levels are 64-bit systems".to_owned();
            return Err(refused(&added.program, reason));
        }
        for AddedFile { from, to } in files {
            if !to.starts_with('/') || to.contains(char::is_control) || to.split('/').any(|part| part == "..")
            {
                return Err(refused(&from, format!("{to:?} is no absolute path for it in a level")));
            }
            added.files.push(AddedFile { from: whole_path(&from)?, to });
        }
        added.sha256 = added.digest_now()?;
        Ok(added)
    }
}

/// Names that records give to other things.
const RESERVED_NAMES: [&str; 3] = ["kernel", "local-kernel", "qemu"];

/// Whether steps can call a program by this name.
///
/// # Errors
/// What such a name is made of.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if SuiteKind::parse(name).is_ok() {
        return Err(format!("{name} is a suite, and needs the folder in which it was built"));
    }
    // Records name a replaced kernel or QEMU so, after the system.
    if RESERVED_NAMES.contains(&name) {
        return Err(format!("{name} has another meaning in records; choose another name"));
    }
    if is_program_name(name) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name for it; use up to {LONGEST_NAME} lower-case letters, digits, `-`, `_` and `.`"
    ))
}

/// Whether a text can be the name of a program: it begins with a letter or a digit, and is a plain name of a file.
pub fn is_program_name(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.starts_with(is_word)
        && name.len() <= LONGEST_NAME
        && name.chars().all(|c| is_word(c) || matches!(c, '-' | '_' | '.'))
}

/// The files in a folder, sorted, or the file itself. Links in a folder are not followed.
fn files_in(path: &Path, left: &mut usize) -> Result<Vec<PathBuf>, Error> {
    let read = |path: &Path| fs::symlink_metadata(path).map_err(Error::io("read", path));
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut folders, mut files) = (vec![path.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in crate::cache::entries(&folder)? {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| refused(path, format!("it has more than {MOST_FILES} files")))?;
            let kind = read(&entry)?.file_type();
            if kind.is_dir() {
                folders.push(entry);
            } else if kind.is_file() {
                files.push(entry);
            }
        }
    }
    files.sort();
    Ok(files)
}
