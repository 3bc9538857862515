//! Reads an installation image (ISO 9660) without mounting it: the host's bsdtar extracts single files.

use crate::Error;
use crate::cache::entries;
use crate::tool::Tool;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const BSDTAR: Tool = Tool {
    program: "bsdtar",
    does: "reads installation images",
    install: "libarchive-tools (Debian) or bsdtar (Fedora and RHEL)",
};

/// The file that describes an installation image, in its root folder.
const TREE_INFO: &str = ".treeinfo";

/// Beginning of the names of public keys in the root folder.
const KEYS: &str = "RPM-GPG-KEY-";

/// What bsdtar says of a pattern that fits nothing.
const NOT_THERE: &str = "Not found in archive";

/// An installation image of RHEL or a similar system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dvd {
    file: PathBuf,
    /// The system in words: "Red Hat Enterprise Linux 9.4.0".
    pub(crate) title: String,
    pub(crate) version: String,
    /// The architecture by its name in RPM.
    pub(crate) architecture: String,
    /// Folders of the repositories on it.
    pub(crate) repositories: Vec<String>,
}

impl Dvd {
    /// Reads the description of an image.
    ///
    /// # Errors
    /// [`Error::NotADvd`] if the file is something else, [`Error::NoTool`] if bsdtar is missing.
    pub(crate) fn open(file: &Path, wrapper: &[OsString]) -> Result<Self, Error> {
        // bsdtar takes a relative path with a colon for another machine's.
        let file = file.canonicalize().map_err(Error::io("open", file))?;
        let no_dvd = |reason: String| Error::NotADvd { path: file.clone(), reason };
        let mut command = BSDTAR.command(wrapper);
        command.arg("-xOf").arg(&file).arg(TREE_INFO);
        let info = match BSDTAR.run(&mut command, "read the image", || {}) {
            Ok(info) => info,
            Err(Error::PackageTool { output, .. }) => {
                let said = output.lines().next().unwrap_or_default().to_owned();
                return Err(no_dvd(format!("it has no {TREE_INFO} ({said})")));
            }
            Err(other) => return Err(other),
        };
        parse(&file, &info).map_err(no_dvd)
    }

    /// Extracts files and folders into `folder`, under their paths in the image.
    pub(crate) fn extract(
        &self,
        wrapper: &[OsString],
        paths: &[String],
        folder: &Path,
        meanwhile: impl FnMut(),
    ) -> Result<(), Error> {
        let mut command = BSDTAR.command(wrapper);
        command.arg("-xf").arg(&self.file).arg("-C").arg(folder).arg("--");
        command.args(paths.iter().map(|path| escaped(path)));
        BSDTAR.run(&mut command, "extract from the image", meanwhile)?;
        only_files(folder, &self.file)
    }

    /// The public keys in the root folder of the image, one after the other; nothing if there are none.
    pub(crate) fn keys(&self, wrapper: &[OsString]) -> Result<String, Error> {
        let mut command = BSDTAR.command(wrapper);
        command.arg("-xOf").arg(&self.file).arg(format!("{KEYS}*"));
        match BSDTAR.run(&mut command, "read the keys on the image", || {}) {
            Err(Error::PackageTool { output, .. }) if output.contains(NOT_THERE) => Ok(String::new()),
            keys => keys,
        }
    }
}

/// Makes sure that there are only files and folders below a folder: a link would lead out of it, and reading a pipe waits forever.
fn only_files(folder: &Path, image: &Path) -> Result<(), Error> {
    for path in entries(folder)? {
        let kind = path.symlink_metadata().map_err(Error::io("read", &path))?.file_type();
        if kind.is_dir() {
            only_files(&path, image)?;
        } else if !kind.is_file() {
            let name = path.file_name().unwrap_or_default();
            let reason = format!("{name:?} on it is neither a file nor a folder");
            return Err(Error::NotADvd { path: image.to_owned(), reason });
        }
    }
    Ok(())
}

/// bsdtar takes these arguments for patterns.
fn escaped(path: &str) -> String {
    path.chars().flat_map(|c| "\\*?[]".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Reads a `.treeinfo` (productmd's format): `key = value` in sections.
fn parse(file: &Path, text: &str) -> Result<Dvd, String> {
    let mut section = "";
    let mut entries = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once('=') {
            entries.push((section, key.trim(), value.trim()));
        }
    }
    let general = |wanted: &str| {
        let found = entries.iter().find(|(section, key, _)| *section == "general" && *key == wanted);
        found.map(|(_, _, value)| (*value).to_owned())
    };
    let missing = |key: &str| format!("its {TREE_INFO} has no {key} in [general]");
    let version = general("version").ok_or_else(|| missing("version"))?;
    let architecture = general("arch").ok_or_else(|| missing("arch"))?;
    let family = general("family").unwrap_or_default();
    let mut repositories: Vec<String> = entries
        .iter()
        .filter(|(section, key, value)| {
            section.starts_with("variant-") && *key == "repository" && is_inside(value)
        })
        .map(|(_, _, value)| repository(value))
        .collect();
    repositories.sort();
    repositories.dedup();
    if repositories.is_empty() {
        // The images of RHEL 7 and CentOS 7 have one repository, in the root folder.
        repositories.push(".".to_owned());
    }
    let title = format!("{family} {version}").trim().to_owned();
    Ok(Dvd { file: file.to_owned(), title, version, architecture, repositories })
}

/// The folder of a repository. Old images name its `repodata`, or have nothing for the root folder.
fn repository(value: &str) -> String {
    let folder = value.trim_end_matches('/');
    match folder.strip_suffix("/repodata").unwrap_or(folder) {
        "" | "repodata" => ".".to_owned(),
        folder => folder.to_owned(),
    }
}

/// Whether a path leads to a place below the folder that it is relative to.
fn is_inside(path: &str) -> bool {
    !path.starts_with('/') && path.split('/').all(|part| part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const RHEL: &str = "[checksums]\nimages/boot.iso = sha256:1234\n\n[general]\narch = x86_64\n\
        family = Red Hat Enterprise Linux\nname = Red Hat Enterprise Linux 9.4.0\nversion = 9.4\nvariants = AppStream,BaseOS\n\
        \n[variant-AppStream]\nid = AppStream\npackages = AppStream/Packages\nrepository = AppStream\n\
        \n[variant-BaseOS]\nid = BaseOS\npackages = BaseOS/Packages\nrepository = BaseOS\n";

    #[test]
    fn a_tree_info_names_the_system_and_its_repositories() {
        let dvd = parse(Path::new("a.iso"), RHEL).unwrap();
        assert_eq!(dvd.title, "Red Hat Enterprise Linux 9.4");
        assert_eq!((dvd.version.as_str(), dvd.architecture.as_str()), ("9.4", "x86_64"));
        assert_eq!(dvd.repositories, ["AppStream", "BaseOS"]);
        let centos =
            parse(Path::new("a.iso"), "[general]\nfamily = CentOS\nversion = 7\narch = x86_64\n").unwrap();
        assert_eq!(centos.repositories, ["."]);
    }

    #[test]
    fn a_repository_is_named_in_several_ways() {
        for (value, folder) in [
            ("AppStream", "AppStream"),
            ("Server/repodata", "Server"),
            ("addons/HighAvailability/", "addons/HighAvailability"),
            ("repodata", "."),
            (".", "."),
            ("", "."),
        ] {
            assert_eq!(repository(value), folder, "{value:?}");
        }
    }

    #[test]
    fn links_on_an_image_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("file"), "").unwrap();
        assert!(only_files(folder.path(), Path::new("a.iso")).is_ok());
        symlink("/", inner.join("link")).unwrap();
        let error = only_files(folder.path(), Path::new("a.iso")).unwrap_err().to_string();
        assert_eq!(
            error,
            "a.iso is not an installation image: \"link\" on it is neither a file nor a folder"
        );
    }

    #[test]
    fn a_tree_info_that_says_too_little_or_leads_elsewhere_is_refused() {
        let error = parse(Path::new("a.iso"), "[general]\narch = x86_64\n").unwrap_err();
        assert_eq!(error, "its .treeinfo has no version in [general]");
        let outside = RHEL.replace("repository = BaseOS", "repository = ../BaseOS");
        assert_eq!(parse(Path::new("a.iso"), &outside).unwrap().repositories, ["AppStream"]);
    }

    #[test]
    fn names_are_no_patterns() {
        assert_eq!(escaped("Packages/a-1.0~2+b[3]*.rpm"), "Packages/a-1.0~2+b\\[3\\]\\*.rpm");
    }
}
