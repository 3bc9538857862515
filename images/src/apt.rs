//! Runs the host's `apt-get` on private folders. It resolves, downloads and verifies packages of any Debian suite and
//! architecture as an ordinary user. It installs nothing and does not change the host's lists.

use crate::cache::Cache;
use crate::package_source::{Archives, PackageIndex, PackageSource, Resolved};
use crate::progress::{Reporter, Step};
use crate::tree::Tree;
use crate::{Digest, Error, Package, Undelivered, archive, deb};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

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

/// Debian packages, by the host's apt.
#[derive(Debug)]
pub(crate) struct AptSource;

impl PackageSource for AptSource {
    fn name(&self) -> &'static str {
        "apt"
    }

    fn keyrings(&self) -> &'static Path {
        Path::new("/usr/share/keyrings")
    }

    fn archives(&self, origin: &str, suites: &[String], wrapper: &[OsString]) -> Result<Vec<String>, Error> {
        archive::candidates(origin, suites, wrapper)
    }

    fn archive_of_suite(
        &self,
        origin: &str,
        suite: &str,
        wrapper: &[OsString],
    ) -> Result<Option<String>, Error> {
        archive::separate(origin, suite, wrapper)
    }

    fn open<'a>(
        &self,
        cache: &Cache,
        wrapper: &'a [OsString],
        archives: &Archives<'_>,
        assumed: &[String],
    ) -> Result<Box<dyn PackageIndex + 'a>, Error> {
        let state = cache.apt(&archives.key());
        Ok(Box::new(Apt::new(&state, &cache.packages(), wrapper, archives, assumed)?))
    }

    /// As apt names it: of all characters that a version may hold, it escapes the epoch's colon.
    fn file_name(&self, package: &Package) -> String {
        format!("{}_{}_{}.deb", package.name, package.version.replace(':', "%3a"), package.architecture)
    }

    fn is_package(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "deb")
    }

    fn read(&self, path: &Path, number: usize) -> Result<Tree, Error> {
        deb::read(path, number)
    }
}

/// apt with a state of its own.
struct Apt<'a> {
    config: PathBuf,
    wrapper: &'a [OsString],
    suites: Vec<String>,
}

impl<'a> Apt<'a> {
    /// Writes the private configuration into `state`. Packages are downloaded into `downloads`.
    /// `assumed` are packages that apt shall take for installed, as `NAME` or `NAME=VERSION`.
    fn new(
        state: &Path,
        downloads: &Path,
        wrapper: &'a [OsString],
        source: &Archives<'_>,
        assumed: &[String],
    ) -> Result<Self, Error> {
        for folder in [state.join("lists/partial"), state.join("nothing/partial"), downloads.join("partial")]
        {
            fs::create_dir_all(&folder).map_err(Error::io("create folder", &folder))?;
        }
        let write = |name: &str, text: String| {
            let path = state.join(name);
            fs::write(&path, text).map_err(Error::io("write", &path)).map(|()| path)
        };
        let architecture = source.isa.info().debian;
        let sources = source.suites.iter().fold(String::new(), |mut text, (archive, suite)| {
            let (keyring, components) = (source.keyring.display(), source.components.join(" "));
            let _ = writeln!(text, "deb [signed-by={keyring}] {archive} {suite} {components}"); // a String takes all
            text
        });
        write("sources.list", sources)?;
        let status = assumed.iter().fold(String::new(), |mut text, name| {
            // Without a version, one that satisfies any lower bound.
            let (name, version) = name.split_once('=').unwrap_or((name, "9999:0"));
            let _ = write!(text, "Package: {name}\nStatus: install ok installed\n");
            let _ = write!(text, "Architecture: {architecture}\nVersion: {version}\n\n");
            text
        });
        write("status", status)?;
        let (state_text, downloads_text) = (config_text(state)?, config_text(downloads)?);
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
        Ok(Self { config: write("apt.conf", config)?, wrapper, suites })
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
        program: &str,
        action: &str,
        arguments: &[&str],
        reporter: Reporter<'_>,
    ) -> Result<String, Error> {
        let mut command = command(self.wrapper, program);
        command.env("APT_CONFIG", &self.config).args(arguments);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(not_started(&command))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (output, complaints) = thread::scope(|scope| {
            let complaints = scope.spawn(|| {
                let mut text = Vec::new();
                stderr.map(|mut stderr| stderr.read_to_end(&mut text));
                String::from_utf8_lossy(&text).into_owned()
            });
            let mut output = String::new();
            for line in stdout
                .into_iter()
                .flat_map(|stdout| BufReader::new(stdout).split(b'\n'))
                .map_while(Result::ok)
            {
                let line = String::from_utf8_lossy(&line);
                if let Some((percent, detail)) = download_status(&line) {
                    reporter.step(Step::Downloading { percent, detail });
                } else {
                    output.push_str(&line);
                    output.push('\n');
                }
            }
            (output, complaints.join().unwrap_or_default())
        });
        let status = child.wait().map_err(Error::io("wait for apt-get in", &self.config))?;
        if status.success() {
            return Ok(output);
        }
        // apt prints unmet dependencies on standard output.
        let unmet = output.find(UNMET).map_or("", |at| &output[at..]);
        let output = format!("{unmet}{complaints}");
        let (tool, action) = ("apt-get", action.to_owned());
        Err(Error::PackageTool { tool, action, status, output: output.trim_end().to_owned() })
    }
}

impl PackageIndex for Apt<'_> {
    fn update(&self, reporter: Reporter<'_>) -> Result<(), Error> {
        // A suite that moved from stable to oldstable since the last time is no reason to stop.
        self.get("read the archive's index", &["update", "--allow-releaseinfo-change"], reporter).map(drop)
    }

    fn suites(&self, reporter: Reporter<'_>) -> Result<Vec<String>, Error> {
        let format = "$(CREATED_BY)\t$(RELEASE)";
        let targets = self.get("list its indexes", &["indextargets", "--format", format], reporter)?;
        let packages = targets.lines().filter_map(|line| line.strip_prefix("Packages\t"));
        Ok(packages.map(str::to_owned).collect())
    }

    fn names(&self, start: &str, reporter: Reporter<'_>) -> Result<Vec<String>, Error> {
        let names = self.run("apt-cache", "list packages", &["pkgnames", start], reporter)?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    fn versions(
        &self,
        names: &[String],
        reporter: Reporter<'_>,
    ) -> Result<Vec<(String, String, String)>, Error> {
        let mut arguments = vec!["madison"];
        arguments.extend(names.iter().map(String::as_str));
        let output = self.run("apt-cache", "list versions of packages", &arguments, reporter)?;
        output.lines().map(parse_version).collect()
    }

    fn resolve(
        &self,
        install: &[String],
        target: Option<&str>,
        reporter: Reporter<'_>,
    ) -> Result<Vec<Resolved>, Error> {
        // apt leaves out what is downloaded already, so it is shown an empty folder.
        let nothing = self.config.with_file_name("nothing");
        let nothing = format!("Dir::Cache::archives={}", nothing.display());
        let mut arguments = vec!["install", "--yes", "-q", "--print-uris", "-o", &nothing];
        arguments.extend(target.into_iter().flat_map(|target| ["--target-release", target]));
        arguments.extend(install.iter().map(String::as_str));
        let output = self.get("resolve the packages", &arguments, reporter)?;
        let mut resolved = output
            .lines()
            .filter(|line| line.starts_with('\''))
            .map(parse_uri)
            .collect::<Result<Vec<_>, _>>()?;
        resolved.sort_by(|a, b| a.package.name.cmp(&b.package.name));
        Ok(resolved)
    }

    fn download(
        &self,
        install: &[String],
        target: Option<&str>,
        reporter: Reporter<'_>,
    ) -> Result<(), Error> {
        let mut arguments = vec!["install", "--yes", "-qq", "--download-only"];
        arguments.extend(target.into_iter().flat_map(|target| ["--target-release", target]));
        arguments.extend(install.iter().map(String::as_str));
        let downloaded = self.get("download the packages", &arguments, reporter);
        downloaded.map(drop).map_err(|error| self.undelivered(error))
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

/// A command with English messages, started by the wrapper.
pub(crate) fn command(wrapper: &[OsString], program: &str) -> Command {
    let mut words = wrapper.iter().map(OsString::as_os_str).chain([OsStr::new(program)]);
    // There is always a first word, since the chain ends with the program.
    let mut command = Command::new(words.next().unwrap_or(OsStr::new(program)));
    command.args(words).env("LC_ALL", "C");
    command
}

/// The error of a command that could not be started.
pub(crate) fn not_started(command: &Command) -> impl FnOnce(std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy().into_owned();
    move |source| Error::NoApt { program, source }
}

/// The lines of the host's apt configuration for `HOST_SETTINGS`.
fn host_settings(wrapper: &[OsString]) -> Result<String, Error> {
    let mut command = command(wrapper, "apt-config");
    let output = command.arg("dump").stdin(Stdio::null()).output().map_err(not_started(&command))?;
    let dump = String::from_utf8_lossy(&output.stdout);
    let wanted = |line: &&str| {
        HOST_SETTINGS.iter().any(|setting| {
            line.strip_prefix(setting).is_some_and(|rest| rest.starts_with("::") || rest.starts_with(' '))
        })
    };
    Ok(dump.lines().filter(wanted).fold(String::new(), |text, line| text + line + "\n"))
}

/// The path, if it can be quoted in apt's configuration.
fn config_text(path: &Path) -> Result<&str, Error> {
    match path.to_str() {
        Some(text) if !text.contains(['"', '\n']) => Ok(text),
        _ => Err(Error::AptPath(path.to_owned())),
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

    #[test]
    fn a_line_of_print_uris_names_a_package() {
        let digest = "598a3fd92bdafc34cd81196b2952ad36e910e47a4ecf162f8ce5e8e262598e53";
        let line = format!(
            "'http://a.example/b%2bb9_amd64.deb' busybox-static_1%3a1.37.0-6+b9_amd64.deb 955316 SHA256:{digest}"
        );
        let resolved = parse_uri(&line).unwrap();
        assert_eq!(resolved.file, "busybox-static_1%3a1.37.0-6+b9_amd64.deb");
        assert_eq!(AptSource.file_name(&resolved.package), resolved.file);
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
}
