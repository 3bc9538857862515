//! The sources of RPM packages that the user added: an installation image, addresses of repositories, or this machine's own
//! repositories. This program contains no address.
//!
//! ```text
//! SYSTEM-VERSION-ARCHITECTURE.toml    where the packages are
//! SYSTEM-VERSION-ARCHITECTURE.key     the public keys that verify them
//! ```

use crate::cache::{entries, remove};
use crate::config::{self, NO_FOLDER, file_stem, split};
use crate::rpm::Dvd;
use crate::source::{SourceText, architecture_of, check_version};
use crate::{Error, Origin, Source, replace_file};
use nestmatrix_model::Isa;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the keys are that RHEL, Fedora and their rebuilds trust.
const HOST_KEYS: &str = "/etc/pki/rpm-gpg";

/// The beginning of a public key. rpmkeys reads no others.
const PUBLIC_KEY: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----";

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

impl Sources {
    /// Reads all sources of a folder. Default: `sources` in `NESTMATRIX_CONFIG`, `XDG_CONFIG_HOME/nestmatrix` or
    /// `HOME/.config/nestmatrix`, whichever is set first. A folder that does not exist has none.
    ///
    /// # Errors
    /// [`Error::Source`] if a file in it is wrong, [`Error::Io`] if it cannot be read.
    pub fn open(folder: Option<PathBuf>) -> Result<Self, Error> {
        let Some(folder) = folder.or_else(|| config::folder("sources")) else {
            return Ok(Self::none());
        };
        let files = config::files(&folder)?;
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
            return Err(refused(NO_FOLDER.to_owned()));
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
        let is_meant = |source: &Source| source.name() == name && isa.is_none_or(|isa| source.isa() == isa);
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
}
