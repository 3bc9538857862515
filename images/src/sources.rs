//! The sources of RPM packages that the user added: an installation image, addresses of repositories, or this machine's own
//! repositories. This program contains no address.
//!
//! ```text
//! SYSTEM-VERSION-ARCHITECTURE.toml    where the packages are
//! SYSTEM-VERSION-ARCHITECTURE.key     the public keys that verify them
//! ```

use crate::cache::{entries, remove};
use crate::digest::Hasher;
use crate::rpm::{Dvd, fingerprints};
use crate::{Digest, Error, Os, replace_file};
use nestmatrix_model::Isa;
use serde::{Deserialize, Serialize};
use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the keys are that RHEL, Fedora and their rebuilds trust.
const HOST_KEYS: &str = "/etc/pki/rpm-gpg";

/// The beginning of a public key. rpmkeys reads no others.
const PUBLIC_KEY: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----";

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
struct SourceText {
    system: String,
    version: String,
    architecture: Isa,
    packages: Origin,
}

/// A source to add.
#[derive(Debug, Clone)]
pub struct NewSource {
    /// The system and its version: `rhel-9.4`.
    pub name: String,
    /// The instruction set. Default: the image's, or this machine's.
    pub isa: Option<Isa>,
    /// Where the packages are.
    pub origin: Origin,
    /// The file with the public keys that verify the packages. Default: those on the image, or those that this machine trusts.
    pub key: Option<PathBuf>,
}

/// All sources of this user.
#[derive(Debug, Clone)]
pub struct Sources {
    folder: PathBuf,
    all: Vec<Arc<Source>>,
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

    fn load(path: &Path) -> Result<Self, Error> {
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

    fn file_stem(&self) -> String {
        file_stem(&self.name(), self.isa)
    }

    /// The same source on an installation image.
    #[cfg(test)]
    pub(crate) fn on_dvd(&self, file: &str) -> Self {
        Self { origin: Origin::Dvd(file.into()), ..self.clone() }
    }
}

fn file_stem(name: &str, isa: Isa) -> String {
    format!("{name}-{isa}")
}

impl Sources {
    /// Reads all sources of a folder. Default: `sources` in `NESTMATRIX_CONFIG`, `XDG_CONFIG_HOME/nestmatrix` or
    /// `HOME/.config/nestmatrix`, whichever is set first. A folder that does not exist has none.
    ///
    /// # Errors
    /// [`Error::Source`] if a file in it is wrong, [`Error::Io`] if it cannot be read.
    pub fn open(folder: Option<PathBuf>) -> Result<Self, Error> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = || {
            variable("NESTMATRIX_CONFIG")
                .or_else(|| variable("XDG_CONFIG_HOME").map(|folder| folder.join("nestmatrix")))
                .or_else(|| variable("HOME").map(|folder| folder.join(".config/nestmatrix")))
        };
        let Some(folder) = folder.or_else(|| Some(config()?.join("sources"))) else {
            return Ok(Self::none());
        };
        if !folder.exists() {
            return Ok(Self { folder, all: Vec::new() });
        }
        let mut files = entries(&folder)?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        let all = files.iter().map(|path| Source::load(path).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Self { folder, all })
    }

    /// No sources, and no folder to add one to.
    pub fn none() -> Self {
        Self { folder: PathBuf::new(), all: Vec::new() }
    }

    /// Every source, by name and instruction set.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.all.iter()
    }

    /// The folder of their files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds a source, or replaces the one of the same name and instruction set. Nothing is downloaded.
    ///
    /// # Errors
    /// [`Error::NewSource`] if it is wrong, [`Error::NotADvd`], [`Error::NoTool`], or [`Error::Io`].
    pub fn add(&mut self, new: &NewSource, wrapper: &[OsString]) -> Result<Arc<Source>, Error> {
        let refused = |reason: String| Error::NewSource { name: new.name.clone(), reason };
        if self.folder.as_os_str().is_empty() {
            let reason = "none of NESTMATRIX_CONFIG, XDG_CONFIG_HOME and HOME is set; set NESTMATRIX_CONFIG to a folder";
            return Err(refused(reason.to_owned()));
        }
        let (system, version) = split(&new.name).ok_or_else(|| {
            refused("a source is named by a system and its version, such as rhel-9.4".to_owned())
        })?;
        let mut isa = new.isa;
        let mut packages = new.origin.clone();
        let mut keys = match &new.key {
            Some(key) => Some(fs::read(key).map_err(Error::io("read", key))?),
            None => None,
        };
        match &mut packages {
            Origin::Dvd(file) => {
                let dvd = Dvd::open(file, wrapper)?;
                isa = Some(architecture_of(&dvd, isa).map_err(refused)?);
                check_version(&dvd, version).map_err(refused)?;
                *file = file.canonicalize().map_err(Error::io("open", file))?;
                if keys.is_none() {
                    keys = Some(dvd.keys(wrapper)?.into_bytes());
                }
            }
            Origin::Urls(urls) => {
                if let Some(url) = urls.iter().find(|url| !is_address(url)) {
                    return Err(refused(format!("{url:?} is no address of a repository")));
                }
                if keys.is_none() {
                    let reason = "name the public key that verifies its packages, with --key FILE";
                    return Err(refused(reason.to_owned()));
                }
            }
            Origin::HostRepositories(folder) => {
                *folder = folder.canonicalize().map_err(Error::io("open", folder))?;
                // dnf would take it for several folders.
                if folder.to_string_lossy().contains(|c: char| c.is_whitespace() || c == ',') {
                    return Err(refused("the folder's path has white space or a comma".to_owned()));
                }
                if keys.is_none() {
                    keys = Some(host_keys()?);
                }
            }
        }
        let isa = isa.or_else(Isa::of_this_machine);
        let architecture =
            isa.ok_or_else(|| refused("name its architecture, with --architecture".to_owned()))?;
        let is_key = |keys: &Vec<u8>| keys.windows(PUBLIC_KEY.len()).any(|part| part == PUBLIC_KEY);
        let keys = keys.filter(is_key).ok_or_else(|| {
            refused("there is no public key in ASCII armor; name a file with one: --key FILE".to_owned())
        })?;
        let text =
            SourceText { system: system.to_owned(), version: version.to_owned(), architecture, packages };
        self.write(text, &keys)
    }

    fn write(&mut self, text: SourceText, keys: &[u8]) -> Result<Arc<Source>, Error> {
        fs::create_dir_all(&self.folder).map_err(Error::io("create folder", &self.folder))?;
        let stem = file_stem(&format!("{}-{}", text.system, text.version), text.architecture);
        // Not with_extension, since a version has a dot.
        let path = self.folder.join(format!("{stem}.toml"));
        let key = self.folder.join(format!("{stem}.key"));
        let written = toml::to_string(&text).map_err(io::Error::other);
        let keys_text = String::from_utf8_lossy(keys);
        replace_file(&key, &keys_text).map_err(Error::io("write", &key))?;
        written.and_then(|text| replace_file(&path, &text)).map_err(Error::io("write", &path))?;
        let source = Arc::new(Source::load(&path)?);
        self.all.retain(|other| other.file_stem() != source.file_stem());
        self.all.push(Arc::clone(&source));
        self.all.sort_by_key(|source| source.file_stem());
        Ok(source)
    }

    /// Removes the sources of this name, for one instruction set or for all. Returns how many.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be removed.
    pub fn remove(&mut self, name: &str, isa: Option<Isa>) -> Result<usize, Error> {
        let is_meant = |source: &Source| source.name() == name && isa.is_none_or(|isa| source.isa == isa);
        let (meant, others): (Vec<_>, Vec<_>) = self.all.drain(..).partition(|source| is_meant(source));
        self.all = others;
        for source in &meant {
            for extension in ["toml", "key"] {
                remove(&self.folder.join(format!("{}.{extension}", source.file_stem())))?;
            }
        }
        Ok(meant.len())
    }
}

/// The architecture of an image, if it is the wanted one.
fn architecture_of(dvd: &Dvd, wanted: Option<Isa>) -> Result<Isa, String> {
    let isa = Isa::of_machine(&dvd.architecture)
        .ok_or_else(|| format!("the image is for {}, which no recipe is for", dvd.architecture))?;
    match wanted {
        Some(wanted) if wanted != isa => Err(format!("the image is for {isa}, not for {wanted}")),
        _ => Ok(isa),
    }
}

/// Whether an image holds this version.
fn check_version(dvd: &Dvd, version: &str) -> Result<(), String> {
    if is_part(&dvd.version, version) || is_part(version, &dvd.version) {
        return Ok(());
    }
    Err(format!("the image holds {}, not version {version}", dvd.title))
}

/// `rhel` and `9.4` of `rhel-9.4`. Both become parts of paths.
fn split(name: &str) -> Option<(&str, &str)> {
    let (system, version) = name.rsplit_once('-')?;
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let mut parts = version.split('.');
    let is_version = parts.clone().count() <= 2 && parts.all(digits);
    let is_system = system.starts_with(|c: char| c.is_ascii_lowercase()) && system.chars().all(word);
    (is_version && is_system).then_some((system, version))
}

/// Whether a version is the other one, or a more exact form of it: an image may only say `7`, or even `9.4.0`.
fn is_part(exact: &str, version: &str) -> bool {
    exact.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether text can be the address of one repository in dnf's configuration.
fn is_address(text: &str) -> bool {
    let known = ["https://", "http://", "file://", "ftp://"].iter().any(|scheme| text.starts_with(scheme));
    known && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',')
}

/// The keys that this machine trusts.
fn host_keys() -> Result<Vec<u8>, Error> {
    let folder = Path::new(HOST_KEYS);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = entries(folder)?;
    files.sort();
    let mut keys = Vec::new();
    for file in files.into_iter().filter(|file| file.is_file()) {
        keys.extend(fs::read(&file).map_err(Error::io("read", &file))?);
        keys.push(b'\n');
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n";

    fn new(name: &str, origin: Origin, key: Option<&Path>) -> NewSource {
        NewSource { name: name.to_owned(), isa: Some(Isa::Amd64), origin, key: key.map(Path::to_owned) }
    }

    fn urls(text: &str) -> Origin {
        Origin::Urls(text.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn a_source_is_named_by_a_system_and_a_version() {
        for (name, parts) in [
            ("rhel-9.4", Some(("rhel", "9.4"))),
            ("centos-stream-9", Some(("centos-stream", "9"))),
            ("fedora-42", Some(("fedora", "42"))),
            ("rhel", None),
            ("rhel-", None),
            ("rhel-9.4.1", None),
            ("rhel-9.", None),
            ("../x-9", None),
            ("-9.4", None),
            ("RHEL-9.4", None),
        ] {
            assert_eq!(split(name), parts, "{name}");
        }
    }

    #[test]
    fn sources_are_kept_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("a-key");
        fs::write(&key, KEY).unwrap();
        let place = folder.path().join("config/sources");
        let mut sources = Sources::open(Some(place.clone())).unwrap();
        assert_eq!(sources.iter().count(), 0);
        let first = sources.add(&new("rhel-9.4", urls("http://a.example/1"), Some(&key)), &[]).unwrap();
        sources
            .add(&new("rhel-8.10", urls("http://a.example/2 http://a.example/3"), Some(&key)), &[])
            .unwrap();
        let reopened = Sources::open(Some(place.clone())).unwrap();
        let names: Vec<String> = reopened.iter().map(|source| source.name()).collect();
        assert_eq!(names, ["rhel-8.10", "rhel-9.4"]);
        let again = reopened.iter().last().unwrap();
        assert_eq!((again.digest(), again.origin()), (first.digest(), first.origin()));
        fs::write(&key, format!("{KEY}2")).unwrap();
        let other = sources.add(&new("rhel-9.4", urls("http://a.example/1"), Some(&key)), &[]).unwrap();
        assert_ne!(other.digest(), first.digest(), "another key is another source");
        assert_eq!(sources.iter().count(), 2);
        assert_eq!(sources.remove("rhel-9.4", Some(Isa::Arm64)).unwrap(), 0);
        assert_eq!(sources.remove("rhel-9.4", None).unwrap(), 1);
        assert_eq!(Sources::open(Some(place)).unwrap().iter().count(), 1);
    }

    #[test]
    fn a_wrong_source_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        let (empty, binary) = (folder.path().join("empty"), folder.path().join("binary"));
        fs::write(&key, KEY).unwrap();
        fs::write(&empty, "").unwrap();
        fs::write(&binary, b"\x99\x02\x0d\x04").unwrap();
        let mut sources = Sources::open(Some(folder.path().join("sources"))).unwrap();
        for (new, reason) in [
            (new("rhel", urls("http://a.example"), Some(&key)), "named by a system and its version"),
            (new("rhel-9.4", urls("http://a.example"), None), "with --key FILE"),
            (new("rhel-9.4", urls("a.example"), Some(&key)), "no address of a repository"),
            (new("rhel-9.4", urls("http://a.example\ngpgcheck=0"), Some(&key)), "no address of a repository"),
            (new("rhel-9.4", urls("http://a.example"), Some(&empty)), "there is no public key"),
            (new("rhel-9.4", urls("http://a.example"), Some(&binary)), "no public key in ASCII armor"),
        ] {
            let error = sources.add(&new, &[]).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(!folder.path().join("sources").exists(), "nothing is written");
        let right = new("rhel-9.4", urls("http://a.example"), Some(&key));
        let error = Sources::none().add(&right, &[]).unwrap_err().to_string();
        assert!(error.contains("set NESTMATRIX_CONFIG"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rhel-9.4-amd64.toml");
        let good = "system = \"rhel\"\nversion = \"9.4\"\narchitecture = \"amd64\"\n\n[packages]\nurls = [\"http://a.example\"]\n";
        fs::write(folder.path().join("rhel-9.4-amd64.key"), "key").unwrap();
        let open = || Sources::open(Some(folder.path().to_owned()));
        fs::write(&file, good).unwrap();
        assert_eq!(open().unwrap().iter().count(), 1);
        for (there, instead, words) in
            [("9.4", "9.5", "must be rhel-9.5-amd64.toml"), ("urls", "ftp", "unknown variant `ftp`")]
        {
            fs::write(&file, good.replace(there, instead)).unwrap();
            let error = open().unwrap_err().to_string();
            assert!(error.contains("rhel-9.4-amd64.toml: ") && error.contains(words), "{error}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let origin = urls("https://me:secret@a.example/x@y http://b.example");
        assert_eq!(origin.to_string(), "https://a.example/x@y http://b.example");
    }

    #[test]
    fn versions_of_an_image_may_be_more_or_less_exact() {
        assert!(is_part("9.4", "9.4") && is_part("9.4.0", "9.4") && is_part("7.9", "7"));
        assert!(!is_part("9.40", "9.4") && !is_part("9.4", "9.5"));
    }
}
