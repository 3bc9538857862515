//! The installed system, as an archive of files.

use crate::loaders::{self, Loaders};
use crate::{Error, tool};
use nestmatrix_images::Undelivered;
use nestmatrix_model::Isa;
use std::path::{Path, PathBuf};

const ORIGIN: &str = "Debian";

/// Packages that the system has besides those that every Debian system has, and its kernel and boot loaders.
const PACKAGES: &[&str] = &[
    "cloud-init",
    "dbus",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "qemu-guest-agent",
    "systemd",
    "systemd-sysv",
    "udev",
];

/// Files of packages that are not installed: they only take time and space.
const EXCLUDED: [&str; 4] =
    ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"];

/// Runs after the packages are installed, with the folder of the system as `$1`. What mmdebstrap copied from the host is replaced.
const AFTERWARDS: &str = r#"set -e
rm -f "$1/etc/resolv.conf"
echo debian > "$1/etc/hostname"
: > "$1/etc/machine-id"
"#;

/// Runs before the packages are installed, with the folder of the system as `$1`, if their programs are emulated: compiling Python's
/// modules would take most of the time. The system compiles those that it uses when it boots.
const BEFORE_IF_EMULATED: &str = r#"set -e
chroot "$1" dpkg-divert --quiet --local --rename --add /usr/bin/py3compile
ln -s true "$1/usr/bin/py3compile"
"#;

/// Undoes [`BEFORE_IF_EMULATED`].
const AFTERWARDS_IF_EMULATED: &str = r#"set -e
rm "$1/usr/bin/py3compile"
chroot "$1" dpkg-divert --quiet --local --rename --remove /usr/bin/py3compile
"#;

/// What is installed.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// amd64 or arm64.
    pub isa: Isa,
    /// Debian's release by its code name.
    pub suite: &'a str,
    /// Packages besides those that every such system has.
    pub packages: &'a [&'a str],
    /// A shell script that runs when all packages are installed, with the folder of the system as `$1`.
    pub afterwards: Option<&'a str>,
}

impl Default for Contents<'_> {
    /// Debian 13 for amd64, with nothing more. Its kernel is signed for secure boot, also the one for clouds.
    fn default() -> Self {
        Self { isa: Isa::Amd64, suite: "trixie", packages: &[], afterwards: None }
    }
}

/// An installed system, as a tar archive.
#[derive(Debug)]
pub struct System {
    archive: PathBuf,
    loaders: &'static Loaders,
}

impl System {
    /// The system that an archive from before holds.
    pub(crate) fn of(archive: PathBuf, loaders: &'static Loaders) -> Self {
        Self { archive, loaders }
    }

    /// Installs the system for amd64 from the archive that the host's apt configuration names, or that `NESTMATRIX_ARCHIVE` names.
    /// Writes it as a tar archive of about 300 MB. It takes about 35 s.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if a program is missing; [`Error::Undelivered`] if packages that the archive lists are missing there;
    /// [`Error::Tool`] if mmdebstrap fails for another reason.
    pub fn install(archive: &Path) -> Result<Self, Error> {
        Self::install_with(Contents::default(), archive)
    }

    /// As [`System::install`], with other contents. If this machine emulates the system's programs, it takes more than 10 minutes.
    ///
    /// # Errors
    /// As [`System::install`]; [`Error::Unavailable`] also for other instruction sets, and if this machine can't run its programs.
    pub fn install_with(contents: Contents<'_>, archive: &Path) -> Result<Self, Error> {
        let Contents { isa, suite, .. } = contents;
        let loaders = loaders::of(isa)?;
        if let Some(reason) = tool::unavailable_for(isa) {
            return Err(Error::Unavailable(reason));
        }
        let addresses = nestmatrix_images::archives(ORIGIN, &[suite.to_owned()])?;
        let mut failed = Error::Unexpected(format!("apt knows no archive of {suite}"));
        for address in addresses {
            match install(contents, &address, loaders, archive) {
                Ok(()) => return Ok(Self { archive: archive.to_owned(), loaders }),
                Err(Error::Tool { program, status, output }) => {
                    let undelivered = Undelivered::read(&[suite.to_owned()], &downloads(&output));
                    failed = undelivered.map_or(Error::Tool { program, status, output }, Error::Undelivered);
                }
                Err(other) => return Err(other),
            }
        }
        Err(failed)
    }

    /// Where the archive is.
    pub fn archive(&self) -> &Path {
        &self.archive
    }

    pub(crate) fn loaders(&self) -> &'static Loaders {
        self.loaders
    }
}

fn install(contents: Contents<'_>, address: &str, loaders: &Loaders, archive: &Path) -> Result<(), Error> {
    let mode = if tool::is_root() { "root" } else { "unshare" };
    let mut command = tool::command("mmdebstrap");
    command.arg(format!("--mode={mode}")).args(["--variant=minbase", "--format=tar"]);
    command.arg("--aptopt=Acquire::Languages \"none\"");
    command.args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(format!("--architectures={}", loaders.isa));
    command.arg(format!("--include={}", [PACKAGES, loaders.packages, contents.packages].concat().join(",")));
    if Isa::of_this_machine() != Some(loaders.isa) {
        command.arg(format!("--essential-hook={BEFORE_IF_EMULATED}"));
        command.arg(format!("--customize-hook={AFTERWARDS_IF_EMULATED}"));
    }
    command.args(loaders.afterwards.map(|script| format!("--customize-hook={script}")));
    command.arg(format!("--customize-hook={AFTERWARDS}"));
    command.args(contents.afterwards.map(|script| format!("--customize-hook={script}")));
    command.arg(contents.suite).arg(archive).arg(address);
    tool::run(&mut command).map(drop)
}

/// The lines of apt about downloads that failed. The others are those of mmdebstrap, which fails as well then.
fn downloads(output: &str) -> String {
    output.lines().filter(|line| line.starts_with("E: Failed to fetch ")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_file_is_the_archives_fault() {
        let fault = |reason: &str| {
            let output = format!(
                "I: downloading packages with apt...\n\
                 E: Failed to fetch http://a.example/debian/pool/main/d/dbus/dbus_1.16.2-2_amd64.deb  {reason}\n\
                 E: apt-get -o Dir::Bin::dpkg=env failed: E: setup failed\n\
                 E: mmdebstrap failed to run\n"
            );
            Undelivered::read(&["trixie".to_owned()], &downloads(&output))
        };
        assert_eq!(fault("404  Not Found [IP: 192.0.2.1 80]").unwrap().packages, ["dbus 1.16.2-2"]);
        assert_eq!(fault("Connection timed out"), None);
        let hook = "I: running --customize-hook directly: : /tmp/x\nE: setup failed: E: command failed: :\n";
        assert_eq!(Undelivered::read(&["trixie".to_owned()], &downloads(hook)), None);
    }
}
