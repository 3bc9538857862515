//! Runs the host's dnf, version 4 or 5, on private folders. It resolves and downloads packages as an ordinary user.

use crate::Error;
use crate::new_file::replace_private_file;
use crate::tool::Tool;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const DNF: Tool = Tool {
    program: "dnf",
    does: "resolves and downloads RPM packages",
    install: "dnf and dnf-plugins-core, or dnf5",
};

/// A folder that no machine has.
const NO_FOLDER: &str = "/nonexistent";

/// Folders in which this host keeps values for its repositories' addresses.
const HOST_VARIABLES: &str = "/etc/dnf/vars,/etc/yum/vars";

/// The repositories that dnf uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Repositories {
    /// These addresses.
    Urls(Vec<String>),
    /// The enabled ones of a folder of `.repo` files.
    Folder(PathBuf),
}

/// dnf with a state of its own.
#[derive(Debug)]
pub(super) struct Dnf<'a> {
    wrapper: &'a [OsString],
    folder: PathBuf,
    /// Options that all its commands have.
    options: Vec<OsString>,
}

impl<'a> Dnf<'a> {
    /// Writes a private configuration into `folder`. `release` is the value of `$releasever`, `platform` that of
    /// `module_platform_id`, which decides which module streams are the default.
    pub(super) fn new(
        wrapper: &'a [OsString],
        folder: &Path,
        repositories: &Repositories,
        release: &str,
        platform: &str,
        architecture: &str,
    ) -> Result<Self, Error> {
        let root = folder.join("root");
        for folder in [&root, &folder.join("log")] {
            fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        }
        // dnf takes reposdir for a list, separated by white space. A cache's path may have some, so the repositories of this state
        // are in its main file.
        let mut text = "[main]\ninstall_weak_deps=0\n\n".to_owned();
        let repositories = match repositories {
            Repositories::Urls(urls) => {
                text.push_str(&sections(urls));
                Path::new(NO_FOLDER)
            }
            Repositories::Folder(folder) => folder,
        };
        let config = folder.join("dnf.conf");
        // An address may contain a password.
        replace_private_file(&config, &text).map_err(Error::io("write", &config))?;
        let option = |name: &str, path: &Path| {
            let mut option = OsString::from(name);
            option.push(path);
            option
        };
        let mut options = vec![
            option("--config=", &config),
            option("--installroot=", &root),
            option("--setopt=reposdir=", repositories),
            format!("--releasever={release}").into(),
            format!("--forcearch={architecture}").into(),
            format!("--setopt=module_platform_id={platform}").into(),
            format!("--setopt=varsdir={HOST_VARIABLES}").into(),
        ];
        for (name, part) in
            [("cachedir", "cache"), ("logdir", "log"), ("persistdir", "lib"), ("pluginconfpath", "nothing")]
        {
            options.push(option(&format!("--setopt={name}="), &folder.join(part)));
        }
        options.extend(plugins(wrapper)?);
        Ok(Self { wrapper, folder: folder.to_owned(), options })
    }

    /// The folders of this state that hold repositories' metadata.
    pub(super) fn metadata(&self) -> Result<Vec<PathBuf>, Error> {
        let cache = self.folder.join("cache");
        // dnf succeeds without any enabled repository.
        if !cache.exists() {
            return Ok(Vec::new());
        }
        let mut found: Vec<PathBuf> = crate::cache::entries(&cache)?
            .into_iter()
            .filter(|path| path.join("repodata/repomd.xml").exists())
            .collect();
        found.sort();
        Ok(found)
    }

    /// Brings the metadata up to date.
    pub(super) fn refresh(&self) -> Result<(), Error> {
        // Folders of repositories that are no longer used would be read, too.
        let cache = self.folder.join("cache");
        if cache.exists() {
            crate::cache::remove(&cache)?;
        }
        let mut command = self.command();
        command.args(["--refresh", "makecache"]);
        DNF.run(&mut command, "read the repositories", || {}).map(drop)
    }

    /// The addresses of packages, with everything that they need if `resolve`.
    pub(super) fn urls(&self, packages: &[String], resolve: bool) -> Result<Vec<String>, Error> {
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = self.command();
        command.args(["--quiet", "download", "--url"]);
        if resolve {
            command.args(["--resolve", "--alldeps"]);
        }
        command.args(packages);
        let output = DNF.run(&mut command, "resolve the packages", || {})?;
        Ok(output.lines().filter(|line| line.ends_with(".rpm")).map(str::to_owned).collect())
    }

    /// Downloads packages into a folder, without what they need.
    pub(super) fn download(
        &self,
        packages: impl Iterator<Item = String>,
        to: &Path,
        meanwhile: impl FnMut(),
    ) -> Result<(), Error> {
        let mut command = self.command();
        command.args(["--quiet", "download", "--destdir"]).arg(to).args(packages);
        DNF.run(&mut command, "download the packages", meanwhile).map(drop)
    }

    fn command(&self) -> Command {
        let mut command = DNF.command(self.wrapper);
        command.args(&self.options);
        command
    }
}

/// The options that select plugins. dnf 4's others write to the machine's own cache. dnf 5 downloads without a plugin.
fn plugins(wrapper: &[OsString]) -> Result<Vec<OsString>, Error> {
    let version = DNF.run(DNF.command(wrapper).arg("--version"), "print its version", || {})?;
    let of_dnf_4 = ["--disableplugin=*", "--enableplugin=download"].map(OsString::from);
    Ok(if version.contains("dnf5") { Vec::new() } else { of_dnf_4.to_vec() })
}

/// Whether dnf has its command `download`, which is in a package of its own.
pub(crate) fn has_download(wrapper: &[OsString]) -> bool {
    let help = |plugins: Vec<OsString>| {
        let mut command = DNF.command(wrapper);
        command.args(plugins).args(["download", "--help"]);
        DNF.run(&mut command, "print a help text", || {})
    };
    plugins(wrapper).and_then(help).is_ok()
}

/// Sections of a configuration (dnf.conf(5)). Each package's signature is checked later, with a private database.
fn sections(urls: &[String]) -> String {
    urls.iter().enumerate().fold(String::new(), |mut text, (number, url)| {
        let id = format!("source-{number}");
        // Writing to a String cannot fail.
        let _ = write!(text, "[{id}]\nname={id}\nbaseurl={url}\nenabled=1\ngpgcheck=0\n\n");
        text
    })
}

/// The address of a folder. dnf separates addresses by spaces and commas, so other characters than these are encoded.
pub(super) fn file_url(folder: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let mut url = "file://".to_owned();
    for byte in folder.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(byte) {
            url.push(char::from(*byte));
        } else {
            let _ = write!(url, "%{byte:02X}"); // a String takes all
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_no_separators() {
        assert_eq!(file_url(Path::new("/a b/c,d/%e")), "file:///a%20b/c%2Cd/%25e");
    }
}
