//! A medium: the record of a disk image that the user added.

use super::format::inspect;
use super::user_file::UserFile;
use super::{DiskFormat, MediumError, MediumProblem};
use crate::config::file_stem;
use crate::digest::Hasher;
use crate::progress::{Reporter, Silent, Step};
use crate::{Digest, Error, Os, replace_file};
use nestmatrix_model::Isa;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A disk image that the user added, of one system in one version for one instruction set. Its file stays where it is and is never
/// written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    os: Os,
    isa: Isa,
    image: ImageText,
    drivers: Option<UserFile>,
    files: BTreeMap<String, UserFile>,
    /// The file of this record.
    record: PathBuf,
}

/// The contents of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct MediumText {
    pub(crate) system: String,
    pub(crate) version: String,
    pub(crate) architecture: Isa,
    pub(crate) image: ImageText,
    /// The image with its system's drivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) drivers: Option<UserFile>,
    /// Other files that its preparation needs, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) files: BTreeMap<String, UserFile>,
}

/// What the sizes and the times of a medium's files show about it. Nothing is read.
#[derive(Debug)]
pub enum MediumState {
    /// They are those that the files had when it was added.
    Unchanged,
    /// A file has another time, so the next use compares its contents.
    Touched,
    /// It can't be used.
    Unusable(MediumError),
}

impl MediumState {
    /// That of a file with this size and time in its record.
    pub(super) fn of(path: &Path, expected: u64, time: i64) -> Self {
        match open(path) {
            Err(error) => Self::Unusable(error),
            Ok((_, data)) if data.len() != expected => {
                Self::Unusable(MediumProblem::OtherSize { found: data.len(), expected }.of(path))
            }
            Ok((_, data)) if modified(&data) != time => Self::Touched,
            Ok(_) => Self::Unchanged,
        }
    }

    /// That of two files: the first one's, unless the second one's is worse.
    fn worse(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Unusable(_), _) | (_, Self::Unchanged) | (Self::Touched, Self::Touched) => self,
            _ => other,
        }
    }
}

/// What is recorded of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ImageText {
    /// Its absolute path.
    pub(crate) file: PathBuf,
    pub(crate) format: DiskFormat,
    pub(crate) sha256: Digest,
    /// In bytes.
    pub(crate) size: u64,
    /// When it was last modified, in nanoseconds since 1970.
    pub(crate) modified: i64,
    /// The size of the disk in it, in bytes.
    pub(crate) virtual_size: u64,
}

impl Medium {
    /// The system and its version, as a user names the medium: `rhel-9.4`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.os.id, self.os.version)
    }

    /// The system and its version.
    pub fn os(&self) -> &Os {
        &self.os
    }

    /// Instruction set of the programs on the disk.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The absolute path of the image.
    pub fn file(&self) -> &Path {
        &self.image.file
    }

    /// The format of the image.
    pub fn format(&self) -> DiskFormat {
        self.image.format
    }

    /// SHA-256 of the image.
    pub fn sha256(&self) -> &Digest {
        &self.image.sha256
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.image.size
    }

    /// The size of the disk in bytes.
    pub fn virtual_size(&self) -> u64 {
        self.image.virtual_size
    }

    /// The image with its system's drivers, if the user gave one.
    pub fn drivers(&self) -> Option<&Path> {
        self.drivers.as_ref().map(|drivers| drivers.file.as_path())
    }

    /// Other files that the user gave for its preparation, by their names.
    pub fn user_files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.files.iter().map(|(name, file)| (name.as_str(), file.file.as_path()))
    }

    /// Its files beside the image itself: what each is, its path, and its SHA-256.
    pub fn files_beside(&self) -> impl Iterator<Item = (&str, &Path, &Digest)> {
        let drivers = self.drivers.iter().map(|drivers| ("drivers", drivers));
        let others = self.files.iter().map(|(name, file)| (name.as_str(), file));
        drivers.chain(others).map(|(name, file)| (name, file.file.as_path(), &file.sha256))
    }

    /// The file of its record.
    pub fn record(&self) -> &Path {
        &self.record
    }

    pub(crate) fn file_stem(&self) -> String {
        file_stem(&self.name(), self.isa)
    }

    pub(crate) fn load(record: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(record).map_err(Error::io("read", record))?;
        let wrong = |message: String| Error::Source { path: record.to_owned(), message };
        let text: MediumText = toml::from_str(&text).map_err(|e| wrong(e.message().to_owned()))?;
        let MediumText { system, version, architecture, image, drivers, files } = text;
        let others = drivers.iter().chain(files.values()).map(|other| &other.file);
        if others.chain([&image.file]).any(|file| !file.is_absolute()) {
            return Err(wrong("the path of its file is not absolute".to_owned()));
        }
        let os = Os { id: system, version, variant: None };
        let medium = Self { os, isa: architecture, image, drivers, files, record: record.to_owned() };
        if record.file_stem().is_none_or(|stem| stem != medium.file_stem().as_str()) {
            let (name, stem) = (medium.name(), medium.file_stem());
            return Err(wrong(format!("it is about {name}, so its file must be {stem}.toml")));
        }
        Ok(medium)
    }

    fn text(&self) -> MediumText {
        let Os { id, version, .. } = self.os.clone();
        MediumText {
            system: id,
            version,
            architecture: self.isa,
            image: self.image.clone(),
            drivers: self.drivers.clone(),
            files: self.files.clone(),
        }
    }

    /// SHA-256 of what its images depend on: the file's contents, and its path, since overlays name that.
    pub(crate) fn digest(&self) -> Digest {
        let ImageText { file, format, sha256, .. } = &self.image;
        let mut hasher = Hasher::new()
            .field(self.name())
            .field(file.as_os_str().as_encoded_bytes())
            .field(format.to_string())
            .field(sha256.as_str());
        if let Some(drivers) = &self.drivers {
            hasher = hasher.field("drivers").field(drivers.sha256.as_str());
        }
        for (name, file) in &self.files {
            hasher = hasher.field(name).field(file.sha256.as_str());
        }
        hasher.finish()
    }

    /// What an image's record has of it.
    pub(crate) fn to_record(&self) -> MediumRecord {
        MediumRecord { name: self.name(), image: self.image.clone() }
    }

    /// What the sizes and the times of its files show.
    pub fn state(&self) -> MediumState {
        let beside = self.drivers.iter().chain(self.files.values());
        beside.map(UserFile::state).fold(self.image.state(), MediumState::worse)
    }

    /// Makes sure that the files are those that were added. Contents are read only if a size or time has changed; if they are the same,
    /// the new time is recorded.
    ///
    /// # Errors
    /// [`Error::Medium`] if one has changed or cannot be read, [`Error::Io`] if the record cannot be written.
    pub fn ensure_unchanged(&self, progress: &dyn crate::Progress) -> Result<(), Error> {
        let name = self.name();
        let reporter = Reporter { recipe: &name, to: progress };
        let recorded = self.text();
        let mut text = recorded.clone();
        for other in text.drivers.iter_mut().chain(text.files.values_mut()) {
            other.ensure_unchanged(reporter)?;
        }
        text.image.ensure_unchanged(reporter)?;
        if text != recorded && self.record.exists() {
            write(&self.record, &text)?;
        }
        Ok(())
    }

    /// Compares the digests of the whole files with the record.
    ///
    /// # Errors
    /// [`Error::Medium`] if one differs or cannot be read.
    pub fn verify(&self, progress: &dyn crate::Progress) -> Result<(), Error> {
        let name = self.name();
        let reporter = Reporter { recipe: &name, to: progress };
        for other in self.drivers.iter().chain(self.files.values()) {
            other.check(reporter)?;
        }
        self.image.check(reporter)?;
        Ok(())
    }
}

/// The part of an image's record that is about its medium.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct MediumRecord {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) image: ImageText,
}

impl MediumRecord {
    /// Makes sure that the file is the one that the image was made from.
    pub(crate) fn ensure_unchanged(&self) -> Result<(), Error> {
        Ok(self.image.clone().ensure_unchanged(Reporter { recipe: &self.name, to: &Silent })?)
    }
}

impl ImageText {
    /// What the size and the time of the file show.
    fn state(&self) -> MediumState {
        MediumState::of(&self.file, self.size, self.modified)
    }

    /// Makes sure that the file is the recorded one. It is read only if its size or time has changed; if its contents are the same, this
    /// takes the new time.
    fn ensure_unchanged(&mut self, reporter: Reporter<'_>) -> Result<(), MediumError> {
        if !matches!(self.state(), MediumState::Unchanged) {
            self.modified = self.check(reporter)?;
        }
        Ok(())
    }

    /// Compares the digest of the whole file with the record, and inspects its metadata. Returns when it was modified.
    fn check(&self, reporter: Reporter<'_>) -> Result<i64, MediumError> {
        let read = Inspected::read(&self.file, reporter)?;
        if read.sha256 != self.sha256 {
            let (found, expected) = (read.sha256, self.sha256.clone());
            return Err(MediumProblem::Changed { found, expected }.of(&self.file));
        }
        Ok(read.modified)
    }
}

/// Writes a record.
pub(crate) fn write(record: &Path, text: &MediumText) -> Result<(), Error> {
    let written = toml::to_string(text).map_err(io::Error::other);
    written.and_then(|text| replace_file(record, &text)).map_err(Error::io("write", record))
}

/// What a file is, as it was read.
pub(crate) struct Inspected {
    /// Opened once, so that another file at its path is not taken for it.
    pub(crate) file: File,
    pub(crate) format: DiskFormat,
    pub(crate) sha256: Digest,
    pub(crate) size: u64,
    pub(crate) modified: i64,
}

impl Inspected {
    /// Inspects a file, and computes its digest.
    pub(crate) fn read(path: &Path, reporter: Reporter<'_>) -> Result<Self, MediumError> {
        let (file, data) = open(path)?;
        let format = inspect(&file, data.len()).map_err(|problem| problem.of(path))?;
        let sha256 = digest_of_unchanging(&file, &data, reporter).map_err(|problem| problem.of(path))?;
        Ok(Self { format, sha256, size: data.len(), modified: modified(&data), file })
    }
}

/// Opens the file of a medium.
pub(super) fn open(path: &Path) -> Result<(File, Metadata), MediumError> {
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => MediumProblem::Missing.of(path),
        _ => MediumProblem::Unreadable(e).of(path),
    };
    // Before it is opened, since that may wait for a pipe's other end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(MediumProblem::NotAFile.of(path));
    }
    let file = File::open(path).map_err(unreadable)?;
    let data = file.metadata().map_err(unreadable)?;
    if data.is_file() { Ok((file, data)) } else { Err(MediumProblem::NotAFile.of(path)) }
}

/// When a file was modified, in nanoseconds since 1970.
pub(super) fn modified(data: &Metadata) -> i64 {
    data.mtime().saturating_mul(1_000_000_000).saturating_add(data.mtime_nsec())
}

/// The digest of an open file, with progress. Its size and time must be the same before and after.
pub(super) fn digest_of_unchanging(
    file: &File,
    before: &Metadata,
    reporter: Reporter<'_>,
) -> Result<Digest, MediumProblem> {
    let sha256 = digest_of(file, before.len(), reporter).map_err(MediumProblem::Unreadable)?;
    let after = file.metadata().map_err(MediumProblem::Unreadable)?;
    if (after.len(), modified(&after)) != (before.len(), modified(before)) {
        return Err(MediumProblem::Changing);
    }
    Ok(sha256)
}

/// The digest of a file of `length` bytes, with progress.
fn digest_of(mut file: &File, length: u64, reporter: Reporter<'_>) -> io::Result<Digest> {
    /// How many bytes are read between two reports.
    const PIECE: u64 = 16 << 20;
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    let (mut done, mut reported) = (0, 0);
    reporter.step(Step::Hashing { done, of: length });
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                done += n as u64;
                if done - reported >= PIECE {
                    reported = done;
                    reporter.step(Step::Hashing { done, of: length });
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
