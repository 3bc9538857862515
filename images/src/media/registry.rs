//! The media that the user added. A record is `SYSTEM-VERSION-ARCHITECTURE.toml` in a folder of the user's configuration.

use super::format::INSTALLATION_IMAGE;
use super::medium::{ImageText, Inspected, MediumText, write};
use super::user_file::UserFile;
use super::{DiskFormat, Medium, MediumProblem, QemuImg, iso};
use crate::cache::remove;
use crate::config::{self, NO_FOLDER, file_stem, split};
use crate::progress::Reporter;
use crate::{Digest, Error, Progress};
use nestmatrix_model::Isa;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A medium to add.
#[derive(Debug, Clone, Default)]
pub struct NewMedium {
    /// The system and its version: `rhel-9.4`.
    pub name: String,
    /// The disk image.
    pub file: PathBuf,
    /// SHA-256 that it must have, as hexadecimal digits.
    pub sha256: Option<String>,
    /// The instruction set of its programs. Default: this machine's.
    pub isa: Option<Isa>,
    /// Whether a recipe installs such a system, so that an installation image is accepted, and drivers are needed.
    pub installs: bool,
    /// The CD image with the system's drivers.
    pub drivers: Option<PathBuf>,
    /// Other files that preparation may need, by their names.
    pub files: Vec<(String, PathBuf)>,
}

/// All media of this user.
#[derive(Debug, Clone)]
pub struct Media {
    folder: PathBuf,
    all: Vec<Arc<Medium>>,
}

impl Media {
    /// Reads all records of a folder. Default: `media` in `NESTMATRIX_CONFIG`, `XDG_CONFIG_HOME/nestmatrix` or
    /// `HOME/.config/nestmatrix`, whichever is set first. A folder that does not exist has none. No image is read.
    ///
    /// # Errors
    /// [`Error::Source`] if a file in it is wrong, [`Error::Io`] if it cannot be read.
    pub fn open(folder: Option<PathBuf>) -> Result<Self, Error> {
        let Some(folder) = folder.or_else(|| config::folder("media")) else {
            return Ok(Self::none());
        };
        let files = config::files(&folder)?;
        let all = files.iter().map(|path| Medium::load(path).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Self { folder, all })
    }

    /// No media, and no folder to add one to.
    pub fn none() -> Self {
        Self { folder: PathBuf::new(), all: Vec::new() }
    }

    /// Every medium, by name and instruction set.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Medium>> {
        self.all.iter()
    }

    /// The folder of the records.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds a medium, or replaces the one of the same name and instruction set. The image is read, and stays where it is.
    ///
    /// # Errors
    /// [`Error::NewMedium`] if the request is wrong, [`Error::Medium`] if the image cannot be a medium, or [`Error::NoTool`].
    pub fn add(
        &mut self,
        new: &NewMedium,
        tool: &QemuImg,
        progress: &dyn Progress,
    ) -> Result<Arc<Medium>, Error> {
        let NewMedium { name, file, sha256, isa, installs, drivers, files } = new;
        let refused = |reason: &str| Error::NewMedium { name: name.clone(), reason: reason.to_owned() };
        if self.folder.as_os_str().is_empty() {
            return Err(refused(NO_FOLDER));
        }
        let (system, version) = split(name)
            .ok_or_else(|| refused("a medium is named by a system and its version, such as rhel-9.4"))?;
        let isa = isa.or_else(Isa::of_this_machine);
        let architecture = isa.ok_or_else(|| refused("name its architecture, with --architecture"))?;
        let expected = match sha256 {
            Some(digits) => {
                Some(digest(digits).ok_or_else(|| refused("--sha256 takes 64 hexadecimal digits"))?)
            }
            None => None,
        };
        if !installs && (drivers.is_some() || !files.is_empty()) {
            return Err(refused("no recipe installs such a system, so it takes no --drivers and no --file"));
        }
        if *installs && drivers.is_none() {
            return Err(refused(
                "its preparation needs drivers; name the CD image with them: --drivers virtio-win.iso",
            ));
        }
        let path = absolute(file)?;
        let reporter = Reporter { recipe: name, to: progress };
        let Inspected { file: opened, format, sha256, size, modified } = Inspected::read(&path, reporter)?;
        if let Some(expected) = expected.filter(|expected| *expected != sha256) {
            return Err(MediumProblem::OtherDigest { found: sha256, expected }.of(&path).into());
        }
        if format == DiskFormat::Iso {
            if !installs {
                return Err(MediumProblem::Format(INSTALLATION_IMAGE).of(&path).into());
            }
            iso::check_uefi(&opened, size).map_err(|problem| problem.of(&path))?;
        }
        let drivers = match drivers {
            Some(file) => Some(UserFile::read_cd(&absolute(file)?, reporter)?),
            None => None,
        };
        let mut beside = BTreeMap::new();
        for (name, file) in files {
            if !is_file_name(name) {
                return Err(refused(
                    "the name in --file NAME=PATH has letters, digits, dots and dashes alone",
                ));
            }
            beside.insert(name.clone(), UserFile::read(&absolute(file)?, reporter)?);
        }
        let virtual_size = tool.virtual_size(&path, format)?;
        tool.check(&path, format, reporter)?;
        let image = ImageText { file: path, format, sha256, size, modified, virtual_size };
        let (system, version) = (system.to_owned(), version.to_owned());
        let text = MediumText { system, version, architecture, image, drivers, files: beside };
        fs::create_dir_all(&self.folder).map_err(Error::io("create folder", &self.folder))?;
        // Not with_extension, since a version has a dot.
        let record = self.folder.join(format!("{}.toml", file_stem(name, architecture)));
        write(&record, &text)?;
        let medium = Arc::new(Medium::load(&record)?);
        self.all.retain(|other| other.file_stem() != medium.file_stem());
        self.all.push(Arc::clone(&medium));
        self.all.sort_by_key(|medium| medium.file_stem());
        Ok(medium)
    }

    /// The media of this name, of every instruction set.
    pub fn named<'m>(&'m self, name: &'m str) -> impl Iterator<Item = &'m Arc<Medium>> {
        self.all.iter().filter(move |medium| medium.name() == name)
    }

    /// Removes the records of this name, for one instruction set or for all. Returns how many. The images stay.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be removed.
    pub fn remove(&mut self, name: &str, isa: Option<Isa>) -> Result<usize, Error> {
        let is_meant = |medium: &Medium| medium.name() == name && isa.is_none_or(|isa| medium.isa() == isa);
        let (meant, others): (Vec<_>, Vec<_>) = self.all.drain(..).partition(|medium| is_meant(medium));
        self.all = others;
        for medium in &meant {
            remove(medium.record())?;
        }
        Ok(meant.len())
    }
}

/// The absolute path of a file that is to be recorded.
fn absolute(file: &Path) -> Result<PathBuf, Error> {
    let missing = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => MediumProblem::Missing.of(file),
        _ => MediumProblem::Unreadable(e).of(file),
    };
    let path = file.canonicalize().map_err(missing)?;
    if path.to_str().is_none_or(|path| path.contains(char::is_control)) {
        return Err(MediumProblem::Path.of(&path).into());
    }
    Ok(path)
}

/// Whether a name can be that of a file on any file system.
fn is_file_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() < 100 && name.chars().all(is_part)
}

/// The digest with these digits.
fn digest(digits: &str) -> Option<Digest> {
    let digits = digits.trim();
    let is_digest = digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit());
    is_digest.then(|| Digest::from_hex(digits))
}
