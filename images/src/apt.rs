//! Runs the host's `apt-get` on private folders. It resolves, downloads and verifies packages of any Debian suite and
//! architecture as an ordinary user. It installs nothing and does not change the host's lists.

use crate::cache::Cache;
use crate::digest::Hasher;
use crate::new_file::replace_private_file;
use crate::package_source::{PackageIndex, Resolved};
use crate::progress::{Reporter, Step};
use crate::tool::{self, Ended, command};
use crate::{Digest, Error, Package, Undelivered};
use nestmatrix_model::Isa;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The host's apt settings that are needed to reach an archive. All others are ignored: hooks that run programs, sources, pins.
const HOST_SETTINGS: [&str; 8] = [
    "Acquire::http",
    "Acquire::https",
    "Acquire::Retries",
    "Acquire::ForceIPv4",
    "Acquire::ForceIPv6",
    "Acquire::Check-Date",
    "Acquire::Check-Valid-Until",
    "Acquire::Max-ValidTime",
];

/// The line before apt's list of unmet dependencies.
const UNMET: &str = "The following packages have unmet dependencies";

/// The archives that apt takes packages from.
#[derive(Debug, Clone)]
pub(crate) struct Archives<'a> {
    /// Suites, each after the address of its archive.
    pub(crate) suites: &'a [(String, String)],
    pub(crate) components: &'a [String],
    pub(crate) keyring: &'a Path,
    pub(crate) isa: Isa,
}

/// The packages that apt shall resolve.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// As `NAME` or `NAME=VERSION`.
    pub(crate) install: Vec<String>,
    /// The suite whose versions are preferred, instead of the archive's current ones.
    pub(crate) target: Option<String>,
    /// Packages that count as installed, as `NAME` or `NAME=VERSION`.
    pub(crate) assumed: Vec<String>,
}

impl Archives<'_> {
    /// Names what apt keeps for these suites.
    fn key(&self) -> Digest {
        let mut hasher = Hasher::new();
        for (archive, suite) in self.suites {
            hasher = hasher.field(archive).field(suite);
        }
        let hasher = self.components.iter().fold(hasher, Hasher::field);
        hasher.field(self.isa.info().debian).finish()
    }
}

/// apt with a state of its own.
pub(crate) struct Apt<'a> {
    config: PathBuf,
    wrapper: &'a [OsString],
    suites: Vec<String>,
    wanted: Wanted,
}

impl<'a> Apt<'a> {
    /// Writes a private configuration into the cache.
    pub(crate) fn new(
        cache: &Cache,
        wrapper: &'a [OsString],
        source: &Archives<'_>,
        wanted: Wanted,
    ) -> Result<Self, Error> {
        let (state, downloads) = (cache.apt(&source.key()), cache.packages());
        for folder in [state.join("lists/partial"), state.join("nothing/partial"), downloads.join("partial")]
        {
            fs::create_dir_all(&folder).map_err(Error::io("create folder", &folder))?;
        }
        // The host's settings of a proxy, and an address, may contain a password.
        let write = |name: &str, text: String| {
            let path = state.join(name);
            replace_private_file(&path, &text).map_err(Error::io("write", &path)).map(|()| path)
        };
        let architecture = source.isa.info().debian;
        let keyring = keyring_text(source.keyring)?;
        let sources = source.suites.iter().fold(String::new(), |mut text, (archive, suite)| {
            let components = source.components.join(" ");
            let _ = writeln!(text, "deb [signed-by={keyring}] {archive} {suite} {components}"); // a String takes all
            text
        });
        write("sources.list", sources)?;
        let status = wanted.assumed.iter().fold(String::new(), |mut text, name| {
            // Without a version, one that satisfies any lower bound.
            let (name, version) = name.split_once('=').unwrap_or((name, "9999:0"));
            let _ = write!(text, "Package: {name}\nStatus: install ok installed\n");
            let _ = write!(text, "Architecture: {architecture}\nVersion: {version}\n\n");
            text
        });
        write("status", status)?;
        let (state_text, downloads_text) = (config_text(&state)?, config_text(&downloads)?);
        let config = format!(
            r#"Dir::State "{state_text}";
Dir::State::lists "{state_text}/lists";
Dir::State::status "{state_text}/status";
Dir::Cache "{state_text}";
Dir::Cache::archives "{downloads_text}";
Dir::Etc::sourcelist "{state_text}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Status-Fd "1";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
{}"#,
            host_settings(wrapper)?
        );
        let suites = source.suites.iter().map(|(_, suite)| suite.clone()).collect();
        Ok(Self { config: write("apt.conf", config)?, wrapper, suites, wanted })
    }

    /// The error of a failed download: the archive's fault, or another one.
    fn undelivered(&self, error: Error) -> Error {
        let Error::PackageTool { output, .. } = &error else { return error };
        match Undelivered::read(&self.suites, output) {
            Some(undelivered) => Error::Undelivered(Box::new(undelivered)),
            None => error,
        }
    }

    /// Runs `apt-get`.
    fn get(&self, action: &str, arguments: &[&str], reporter: Reporter<'_>) -> Result<String, Error> {
        self.run("apt-get", action, arguments, reporter)
    }

    /// Runs one of apt's programs. Reports its progress lines, and returns the rest of its standard output.
    fn run(
        &self,
        program: &'static str,
        action: &str,
        arguments: &[&str],
        reporter: Reporter<'_>,
    ) -> Result<String, Error> {
        let mut command = command(self.wrapper, program);
        command.env("APT_CONFIG", &self.config).args(arguments);
        let ended = tool::run(&mut command, |line| {
            let status = line.and_then(download_status);
            if let Some((percent, detail)) = status {
                reporter.step(Step::Downloading { percent, detail });
            }
            status.is_some()
        });
        let Ended { status, output, complaints } = ended.map_err(not_started(program))?;
        if status.success() {
            return Ok(output);
        }
        // apt prints unmet dependencies on standard output.
        let unmet = output.find(UNMET).map_or("", |at| &output[at..]);
        let output = format!("{unmet}{complaints}");
        let (tool, action) = ("apt-get", action.to_owned());
        Err(Error::PackageTool { tool, action, status, output: output.trim_end().to_owned() })
    }

    /// Names of the suites that are available.
    pub(crate) fn suites(&self, reporter: Reporter<'_>) -> Result<Vec<String>, Error> {
        let format = "$(CREATED_BY)\t$(RELEASE)";
        let targets = self.get("list its indexes", &["indextargets", "--format", format], reporter)?;
        let packages = targets.lines().filter_map(|line| line.strip_prefix("Packages\t"));
        Ok(packages.map(str::to_owned).collect())
    }

    /// Names of packages that begin with `start`.
    pub(crate) fn names(&self, start: &str, reporter: Reporter<'_>) -> Result<Vec<String>, Error> {
        let names = self.run("apt-cache", "list packages", &["pkgnames", start], reporter)?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Every version of these packages: name, version, suite.
    pub(crate) fn versions(
        &self,
        names: &[String],
        reporter: Reporter<'_>,
    ) -> Result<Vec<(String, String, String)>, Error> {
        let mut arguments = vec!["madison"];
        arguments.extend(names.iter().map(String::as_str));
        let output = self.run("apt-cache", "list versions of packages", &arguments, reporter)?;
        output.lines().map(parse_version).collect()
    }
}

impl Wanted {
    fn arguments(&self) -> impl Iterator<Item = &str> {
        let target = self.target.iter().flat_map(|target| ["--target-release", target]);
        target.chain(self.install.iter().map(String::as_str))
    }
}

impl PackageIndex for Apt<'_> {
    fn update(&self, reporter: Reporter<'_>) -> Result<(), Error> {
        // A suite that moved from stable to oldstable since the last time is no reason to stop.
        self.get("read the archive's index", &["update", "--allow-releaseinfo-change"], reporter).map(drop)
    }

    fn resolve(&self, reporter: Reporter<'_>) -> Result<Vec<Resolved>, Error> {
        // apt leaves out what is downloaded already, so it is shown an empty folder.
        let nothing = self.config.with_file_name("nothing");
        let nothing = format!("Dir::Cache::archives={}", nothing.display());
        let mut arguments = vec!["install", "--yes", "-q", "--print-uris", "-o", &nothing];
        arguments.extend(self.wanted.arguments());
        let output = self.get("resolve the packages", &arguments, reporter)?;
        let mut resolved = output
            .lines()
            .filter(|line| line.starts_with('\''))
            .map(parse_uri)
            .collect::<Result<Vec<_>, _>>()?;
        resolved.sort_by(|a, b| a.package.name.cmp(&b.package.name));
        Ok(resolved)
    }

    fn download(&self, _missing: &[&Resolved], reporter: Reporter<'_>) -> Result<(), Error> {
        let mut arguments = vec!["install", "--yes", "-qq", "--download-only"];
        arguments.extend(self.wanted.arguments());
        let downloaded = self.get("download the packages", &arguments, reporter);
        downloaded.map(drop).map_err(|error| self.undelivered(error))
    }

    /// apt has verified the index, which names the digest of each file.
    fn verify(&self, _files: &[PathBuf], _reporter: Reporter<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Removes what apt makes anew whenever the index changed: twice the size of the index itself.
    fn tidy(&self) -> Result<(), Error> {
        for name in ["pkgcache.bin", "srcpkgcache.bin"] {
            let path = self.config.with_file_name(name);
            if path.exists() {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// The error of a command that could not be started.
pub(crate) fn not_started(program: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::NoApt { program, source }
}

/// The lines of the host's apt configuration for `HOST_SETTINGS`.
fn host_settings(wrapper: &[OsString]) -> Result<String, Error> {
    let program = "apt-config";
    let ended = tool::run(command(wrapper, program).arg("dump"), |_| false).map_err(not_started(program))?;
    let wanted = |line: &&str| {
        HOST_SETTINGS.iter().any(|setting| {
            line.strip_prefix(setting).is_some_and(|rest| rest.starts_with("::") || rest.starts_with(' '))
        })
    };
    Ok(ended.output.lines().filter(wanted).fold(String::new(), |text, line| text + line + "\n"))
}

/// The path, if it can be quoted in apt's configuration.
fn config_text(path: &Path) -> Result<&str, Error> {
    match path.to_str() {
        Some(text) if !text.contains(['"', '\n']) => Ok(text),
        _ => Err(Error::AptPath(path.to_owned())),
    }
}

/// The path of a keyring, if `sources.list` can name it: blanks separate its options (sources.list(5)).
fn keyring_text(path: &Path) -> Result<&str, Error> {
    match path.to_str() {
        Some(text) if !text.contains([' ', '\t', '\n', ']', ',']) => Ok(text),
        _ => Err(Error::KeyringPath(path.to_owned())),
    }
}

/// `dlstatus:NUMBER:PERCENT:WORDS`, from `APT::Status-Fd` (apt: README.progress-reporting).
fn download_status(line: &str) -> Option<(f32, &str)> {
    let mut fields = line.strip_prefix("dlstatus:")?.splitn(3, ':');
    let percent = fields.nth(1)?.parse().ok()?;
    Some((percent, fields.next()?))
}

/// ` NAME | VERSION | ADDRESS SUITE/COMPONENT ARCHITECTURE Packages`.
fn parse_version(line: &str) -> Result<(String, String, String), Error> {
    let parse = || {
        let mut fields = line.split('|').map(str::trim);
        let (name, version, place) = (fields.next()?, fields.next()?, fields.next()?);
        let (suite, _) = place.split(' ').nth(1)?.rsplit_once('/')?;
        Some((name.to_owned(), version.to_owned(), suite.to_owned()))
    };
    parse().ok_or_else(|| Error::AptAnswer {
        line: line.to_owned(),
        expected: "name | version | address suite/component architecture Packages",
    })
}

/// `'ADDRESS' NAME_VERSION_ARCHITECTURE.deb SIZE SHA256:DIGEST`.
fn parse_uri(line: &str) -> Result<Resolved, Error> {
    let parse = || {
        let mut words = line.split_ascii_whitespace().skip(1);
        let file = words.next()?;
        let sha256 = words.nth(1)?.strip_prefix("SHA256:").filter(|digest| digest.len() == 64)?;
        let mut parts = file.strip_suffix(".deb")?.split('_');
        let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
        let version = version.replace("%3a", ":");
        let package = Package {
            name: name.to_owned(),
            version,
            architecture: architecture.to_owned(),
            sha256: Digest::from_hex(sha256),
        };
        Some(Resolved { package, file: file.to_owned() })
    };
    parse().ok_or_else(|| Error::AptAnswer {
        line: line.to_owned(),
        expected: "'address' name_version_architecture.deb size SHA256:digest",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::Deb;
    use crate::package_source::PackageFormat as _;

    #[test]
    fn the_path_of_a_keyring_must_be_one_word() {
        assert_eq!(keyring_text(Path::new("/keys/debian.gpg")).unwrap(), "/keys/debian.gpg");
        let error = keyring_text(Path::new("/my keys/debian.gpg")).unwrap_err().to_string();
        assert!(error.contains("/my keys/debian.gpg: its path contains a blank"), "{error}");
    }

    #[test]
    fn a_line_of_print_uris_names_a_package() {
        let digest = "598a3fd92bdafc34cd81196b2952ad36e910e47a4ecf162f8ce5e8e262598e53";
        let line = format!(
            "'http://a.example/b%2bb9_amd64.deb' busybox-static_1%3a1.37.0-6+b9_amd64.deb 955316 SHA256:{digest}"
        );
        let resolved = parse_uri(&line).unwrap();
        assert_eq!(resolved.file, "busybox-static_1%3a1.37.0-6+b9_amd64.deb");
        assert_eq!(Deb.file_name(&resolved.package), resolved.file);
        assert_eq!(resolved.package.name, "busybox-static");
        assert_eq!(resolved.package.version, "1:1.37.0-6+b9");
        assert_eq!(resolved.package.architecture, "amd64");
        assert_eq!(resolved.package.sha256.as_str(), digest);
        let weak = "'http://a.example/x' x_1_all.deb 1 MD5Sum:608bc9dedd07ab4017e384be25d6edc6";
        assert!(matches!(parse_uri(weak), Err(Error::AptAnswer { .. })));
    }

    #[test]
    fn a_line_of_madison_names_a_version_and_its_suite() {
        let line = "linux-image-6.16.3+deb13-amd64 | 6.16.3-1~bpo13+1 | http://a.example/debian trixie-backports/main amd64 Packages";
        let (name, version, suite) = parse_version(line).unwrap();
        assert_eq!((name.as_str(), version.as_str()), ("linux-image-6.16.3+deb13-amd64", "6.16.3-1~bpo13+1"));
        assert_eq!(suite, "trixie-backports");
        assert!(matches!(parse_version("N: no packages found"), Err(Error::AptAnswer { .. })));
    }

    #[test]
    fn progress_lines_are_separated_from_the_rest() {
        let line = "dlstatus:3:12.5:Retrieving file 3 of 70 (1s remaining)";
        assert_eq!(download_status(line), Some((12.5, "Retrieving file 3 of 70 (1s remaining)")));
        assert_eq!(download_status("'http://a.example/x' x 1 SHA256:0"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_answer_of_apt_is_read_or_refused(line in "(' |\\||'|_|\\.deb|SHA256:|[0-9a-f]{64}|dlstatus:|:|\\PC){0,30}") {
            let _ = (parse_uri(&line), parse_version(&line), download_status(&line));
        }
    }
}
