//! A source of RPM packages, and its file.

use crate::config::{file_stem, is_part};
use crate::digest::Hasher;
use crate::rpm::{Dvd, fingerprints};
use crate::{Digest, Error, Os};
use nestmatrix_model::Isa;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the packages of a source are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// An installation image (ISO 9660).
    Dvd(PathBuf),
    /// Addresses of repositories.
    Urls(Vec<String>),
    /// The enabled repositories of this folder on this machine.
    HostRepositories(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dvd(file) => write!(f, "{}", file.display()),
            Self::Urls(urls) => {
                let urls: Vec<String> = urls.iter().map(|url| without_user(url)).collect();
                f.write_str(&urls.join(" "))
            }
            Self::HostRepositories(folder) => write!(f, "the repositories in {}", folder.display()),
        }
    }
}

/// An address without its user and password, since it becomes a part of records.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

/// A source of the packages of one system, in one version, for one instruction set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    os: Os,
    isa: Isa,
    origin: Origin,
    key: PathBuf,
    digest: Digest,
}

/// The contents of a source's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct SourceText {
    pub(crate) system: String,
    pub(crate) version: String,
    pub(crate) architecture: Isa,
    pub(crate) packages: Origin,
}
impl Source {
    /// The system and its version, as a user names the source: `rhel-9.4`.
    pub fn name(&self) -> String {
        format!("{}-{}", self.os.id, self.os.version)
    }

    /// The system and its version.
    pub fn os(&self) -> &Os {
        &self.os
    }

    /// Instruction set of the packages.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Where the packages are.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The file with the public keys.
    pub fn key(&self) -> &Path {
        &self.key
    }

    /// SHA-256 of all settings and the keys.
    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The fingerprints of its keys.
    ///
    /// # Errors
    /// [`Error::NoTool`] if gpg is missing, [`Error::PackageTool`] if the file holds no key.
    pub fn fingerprints(&self, wrapper: &[OsString]) -> Result<Vec<String>, Error> {
        fingerprints(wrapper, &self.key)
    }

    /// Makes sure that an installation image is the right one.
    pub(crate) fn check_dvd(&self, dvd: &Dvd) -> Result<(), String> {
        architecture_of(dvd, Some(self.isa))?;
        check_version(dvd, &self.os.version)
    }

    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let wrong = |message: String| Error::Source { path: path.to_owned(), message };
        let text: SourceText = toml::from_str(&text).map_err(|e| wrong(e.message().to_owned()))?;
        let key = path.with_extension("key");
        let keys = fs::read(&key).map_err(Error::io("read", &key))?;
        let source = Self::new(text, key, &keys);
        if path.file_stem().is_none_or(|stem| stem != source.file_stem().as_str()) {
            return Err(wrong(format!(
                "it is about {}, so its file must be {}.toml",
                source.name(),
                source.file_stem()
            )));
        }
        Ok(source)
    }

    fn new(text: SourceText, key: PathBuf, keys: &[u8]) -> Self {
        let SourceText { system, version, architecture, packages } = text;
        let mut hasher = Hasher::new().field(&system).field(&version).field(architecture.to_string());
        match &packages {
            Origin::Dvd(file) => hasher = hasher.field("dvd").field(file.as_os_str().as_encoded_bytes()),
            Origin::Urls(urls) => {
                hasher = urls.iter().fold(hasher.field("urls"), Hasher::field);
            }
            Origin::HostRepositories(folder) => {
                hasher = hasher.field("host").field(folder.as_os_str().as_encoded_bytes());
            }
        }
        let digest = hasher.field(keys).finish();
        let os = Os { id: system, version, variant: None };
        Self { os, isa: architecture, origin: packages, key, digest }
    }

    pub(crate) fn file_stem(&self) -> String {
        file_stem(&self.name(), self.isa)
    }

    /// The same source on an installation image.
    #[cfg(test)]
    pub(crate) fn on_dvd(&self, file: &str) -> Self {
        Self { origin: Origin::Dvd(file.into()), ..self.clone() }
    }
}
/// The architecture of an image, if it is the wanted one.
pub(crate) fn architecture_of(dvd: &Dvd, wanted: Option<Isa>) -> Result<Isa, String> {
    let isa = Isa::of_machine(&dvd.architecture)
        .ok_or_else(|| format!("the image is for {}, which no recipe is for", dvd.architecture))?;
    match wanted {
        Some(wanted) if wanted != isa => Err(format!("the image is for {isa}, not for {wanted}")),
        _ => Ok(isa),
    }
}

/// Whether an image holds this version.
pub(crate) fn check_version(dvd: &Dvd, version: &str) -> Result<(), String> {
    if is_part(&dvd.version, version) || is_part(version, &dvd.version) {
        return Ok(());
    }
    Err(format!("the image holds {}, not version {version}", dvd.title))
}
