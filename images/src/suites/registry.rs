//! The suites, programs and guests that the user added. A record is `NAME.toml` in a folder of the user's configuration.

use super::guest::AddedGuest;
use super::program::{AddedFile, AddedProgram, check_name};
use super::selftests;
use super::unit_tests::{self, UnitTest};
use crate::cache::remove;
use crate::config::{self, NO_FOLDER};
use crate::digest::Hasher;
use crate::{Digest, Error, replace_file};
use nestmatrix_model::{SuiteKind, Word as _};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A suite that the user built, and its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BuiltSuite {
    suite: SuiteKind,
    folder: PathBuf,
    sha256: Digest,
}

impl BuiltSuite {
    /// Which suite it is.
    pub fn kind(&self) -> SuiteKind {
        self.suite
    }

    /// The folder in which it was built.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The digest that its list of tests, if it has one, and their files had when it was added.
    pub fn sha256(&self) -> &Digest {
        &self.sha256
    }

    /// All its tests, whether they are built or not.
    ///
    /// # Errors
    /// [`Error::Io`] if its list of tests or its folder can't be read.
    pub fn tests(&self) -> Result<Vec<UnitTest>, Error> {
        match self.list() {
            Some(list) => {
                let text = fs::read_to_string(&list).map_err(Error::io("read", &list))?;
                Ok(unit_tests::parse(&text, &self.folder))
            }
            None => selftests::tests(&self.folder),
        }
    }

    /// Its list of tests, if it has one.
    fn list(&self) -> Option<PathBuf> {
        match self.suite {
            SuiteKind::KvmUnitTests => Some(unit_tests::list(&self.folder)),
            SuiteKind::KvmSelftests => None,
        }
    }

    /// The digest of its list of tests and of the files that are built now.
    ///
    /// # Errors
    /// [`Error::Io`] if a file can't be read.
    pub fn digest_now(&self) -> Result<Digest, Error> {
        self.digest_of(&self.tests()?)
    }

    /// The digest of its list of tests and of the files of these tests, as they are now.
    ///
    /// # Errors
    /// [`Error::Io`] if a file can't be read.
    pub fn digest_of(&self, tests: &[UnitTest]) -> Result<Digest, Error> {
        let mut files: Vec<&Path> =
            tests.iter().map(|test| test.file.as_path()).filter(|file| file.is_file()).collect();
        files.sort();
        files.dedup();
        let mut hasher = Hasher::new();
        if let Some(list) = self.list() {
            hasher = hasher.field(Digest::of_file(&list)?.as_str());
        }
        for file in files {
            let name = file.file_name().unwrap_or_default();
            hasher = hasher.field(name.as_encoded_bytes()).field(Digest::of_file(file)?.as_str());
        }
        Ok(hasher.finish())
    }
}

/// All suites, programs and guests of this user.
#[derive(Debug, Clone)]
pub struct Suites {
    folder: PathBuf,
    all: Vec<Arc<BuiltSuite>>,
    programs: Vec<Arc<AddedProgram>>,
    guests: Vec<Arc<AddedGuest>>,
}

impl Suites {
    /// Reads all records of a folder. Default: `payloads` in `NESTMATRIX_CONFIG`, `XDG_CONFIG_HOME/nestmatrix` or
    /// `HOME/.config/nestmatrix`, whichever is set first. A folder that does not exist has none. No test is read.
    ///
    /// # Errors
    /// [`Error::Suite`] if a record is wrong, [`Error::Io`] if it can't be read.
    pub fn open(folder: Option<PathBuf>) -> Result<Self, Error> {
        let Some(folder) = folder.or_else(|| config::folder("payloads")) else {
            let (programs, guests) = (Vec::new(), Vec::new());
            return Ok(Self { folder: PathBuf::new(), all: Vec::new(), programs, guests });
        };
        let (mut all, mut programs, mut guests) = (Vec::new(), Vec::new(), Vec::new());
        for path in config::files(&folder)? {
            let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
            let wrong = |e: toml::de::Error| refused(&path, e.message().to_owned());
            let table: toml::Table = toml::from_str(&text).map_err(wrong)?;
            let name = || {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                check_name(&name).map_err(|reason| refused(&path, reason)).map(|()| name)
            };
            if table.contains_key("kernel") || table.contains_key("initramfs") {
                let name = name()?;
                guests.push(Arc::new(AddedGuest { name, ..toml::from_str(&text).map_err(wrong)? }));
            } else if table.contains_key("program") {
                let name = name()?;
                programs.push(Arc::new(AddedProgram { name, ..toml::from_str(&text).map_err(wrong)? }));
            } else {
                all.push(Arc::new(toml::from_str(&text).map_err(wrong)?));
            }
        }
        Ok(Self { folder, all, programs, guests })
    }

    /// Every suite, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<BuiltSuite>> {
        self.all.iter()
    }

    /// Every program, by name.
    pub fn programs(&self) -> impl Iterator<Item = &Arc<AddedProgram>> {
        self.programs.iter()
    }

    /// Every guest, by name.
    pub fn guests(&self) -> impl Iterator<Item = &Arc<AddedGuest>> {
        self.guests.iter()
    }

    /// Adds a guest, or replaces the program or the guest of this name. Its files are read, and stay where they are.
    ///
    /// # Errors
    /// [`Error::Suite`] if the name or a file can't be used, or [`Error::Io`].
    pub fn add_guest(
        &mut self,
        name: &str,
        kernel: Option<&Path>,
        initramfs: Option<&Path>,
    ) -> Result<Arc<AddedGuest>, Error> {
        if self.folder.as_os_str().is_empty() {
            return Err(refused(Path::new(name), NO_FOLDER.to_owned()));
        }
        let added = Arc::new(AddedGuest::new(name, kernel, initramfs)?);
        self.write(name, &*added)?;
        self.forget(name);
        self.guests.push(Arc::clone(&added));
        self.guests.sort_by(|one, other| one.name().cmp(other.name()));
        Ok(added)
    }

    /// Forgets the program or the guest of this name. Returns whether there was one.
    fn forget(&mut self, name: &str) -> bool {
        let before = self.programs.len() + self.guests.len();
        self.programs.retain(|program| program.name() != name);
        self.guests.retain(|guest| guest.name() != name);
        self.programs.len() + self.guests.len() < before
    }

    /// Adds a program and the files that it needs, or replaces the program or the guest of this name. All of them are read, and stay where they are.
    ///
    /// # Errors
    /// [`Error::Suite`] if the name or a file can't be used, or [`Error::Io`].
    pub fn add_program(
        &mut self,
        name: &str,
        program: &Path,
        files: Vec<AddedFile>,
    ) -> Result<Arc<AddedProgram>, Error> {
        if self.folder.as_os_str().is_empty() {
            return Err(refused(program, NO_FOLDER.to_owned()));
        }
        let added = Arc::new(AddedProgram::new(name, program, files)?);
        self.write(name, &*added)?;
        self.forget(name);
        self.programs.push(Arc::clone(&added));
        self.programs.sort_by(|one, other| one.name().cmp(other.name()));
        Ok(added)
    }

    /// Removes the record of a program or a guest. Returns whether there was one. Its files stay.
    ///
    /// # Errors
    /// [`Error::Io`] if the record can't be removed.
    pub fn remove_program(&mut self, name: &str) -> Result<bool, Error> {
        if !self.forget(name) {
            return Ok(false);
        }
        remove(&self.record(name)).map(|()| true)
    }

    /// Adds a suite, or replaces the one of the same kind. Its files are read, and stay where they are.
    ///
    /// # Errors
    /// [`Error::Suite`] if the folder has no built tests of the suite, or [`Error::Io`].
    pub fn add(&mut self, kind: SuiteKind, folder: &Path) -> Result<Arc<BuiltSuite>, Error> {
        let given = folder;
        let refused = |reason: String| refused(given, reason);
        if self.folder.as_os_str().is_empty() {
            return Err(refused(NO_FOLDER.to_owned()));
        }
        let folder = folder.canonicalize().map_err(Error::io("open", folder))?;
        if folder.to_str().is_none_or(|path| path.contains(char::is_control)) {
            return Err(refused("its path is not UTF-8, or has control characters".to_owned()));
        }
        let missing = match kind {
            SuiteKind::KvmUnitTests => {
                (!unit_tests::list(&folder).is_file()).then(|| unit_tests::LIST.to_owned())
            }
            SuiteKind::KvmSelftests => {
                (!selftests::is_suite(&folder)).then(|| format!("folder {}", selftests::OF_X86.join(" or ")))
            }
        };
        if let Some(missing) = missing {
            return Err(refused(format!("there is no {missing}; name the folder in which {kind} was built")));
        }
        let mut suite = BuiltSuite { suite: kind, folder, sha256: Digest::of_bytes(b"") };
        let tests = suite.tests()?;
        if !tests.iter().any(|test| test.file.is_file()) {
            return Err(refused(format!("none of its {} tests is built; build {kind} first", tests.len())));
        }
        suite.sha256 = suite.digest_of(&tests)?;
        self.write(kind.word(), &suite)?;
        let suite = Arc::new(suite);
        self.all.retain(|other| other.suite != kind);
        self.all.push(Arc::clone(&suite));
        self.all.sort_by_key(|suite| suite.suite.to_string());
        Ok(suite)
    }

    /// Removes the record of a suite. Returns whether there was one. Its files stay.
    ///
    /// # Errors
    /// [`Error::Io`] if the record can't be removed.
    pub fn remove(&mut self, kind: SuiteKind) -> Result<bool, Error> {
        let before = self.all.len();
        self.all.retain(|suite| suite.suite != kind);
        if self.all.len() == before {
            return Ok(false);
        }
        remove(&self.record(kind.word())).map(|()| true)
    }

    fn record(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.toml"))
    }

    fn write(&self, name: &str, added: &impl Serialize) -> Result<(), Error> {
        fs::create_dir_all(&self.folder).map_err(Error::io("create folder", &self.folder))?;
        let record = self.record(name);
        let text = toml::to_string(added).map_err(io::Error::other);
        text.and_then(|text| replace_file(&record, &text)).map_err(Error::io("write", &record))
    }
}

/// The whole path of a file that the user names.
pub(super) fn whole_path(path: &Path) -> Result<PathBuf, Error> {
    let path = path.canonicalize().map_err(Error::io("open", path))?;
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => Ok(path),
        _ => Err(refused(&path, "its path is not UTF-8, or has control characters".to_owned())),
    }
}

/// Why something can't be added.
pub(super) fn refused(path: &Path, reason: String) -> Error {
    Error::Suite { path: path.to_owned(), reason }
}
