//! The installed system, as an archive of files.

use crate::{Error, tool};
use std::path::{Path, PathBuf};

/// Debian 13. Its kernel is signed for secure boot, also the one for clouds.
const SUITE: &str = "trixie";
const ORIGIN: &str = "Debian";

/// Packages that the system has besides those that every Debian system has.
const PACKAGES: &[&str] = &[
    "cloud-init",
    "dbus",
    "grub-common",
    "grub-efi-amd64-signed",
    "grub-pc-bin",
    "grub2-common",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "linux-image-cloud-amd64",
    "qemu-guest-agent",
    "shim-signed",
    "systemd",
    "systemd-sysv",
    "udev",
];

/// Files of packages that are not installed: they only take time and space.
const EXCLUDED: [&str; 4] =
    ["/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"];

/// Runs after the packages are installed, with the folder of the system as `$1`. grub-install would need the disk's device, so GRUB's
/// image is made with `grub-mkimage`. What mmdebstrap copied from the host is replaced.
const AFTERWARDS: &str = r#"set -e
mkdir -p "$1/boot/grub/i386-pc"
printf '%s\n' 'search --no-floppy --label root --set=root' 'set prefix=($root)/boot/grub' > "$1/early.cfg"
chroot "$1" grub-mkimage --format=i386-pc --output=/boot/grub/i386-pc/core.img --prefix=/boot/grub --config=/early.cfg \
    biosdisk configfile echo ext2 linux minicmd normal part_gpt search search_label serial terminal test
rm -f "$1/early.cfg" "$1/etc/resolv.conf"
echo debian > "$1/etc/hostname"
: > "$1/etc/machine-id"
"#;

/// An installed system, as a tar archive.
#[derive(Debug)]
pub struct System {
    archive: PathBuf,
}

impl System {
    /// Installs the system from the archive that the host's apt configuration names, or that `NESTMATRIX_ARCHIVE` names. Writes it as
    /// a tar archive of about 300 MB. It takes about 35 s.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if a program is missing; [`Error::Undelivered`] if mmdebstrap fails.
    pub fn install(archive: &Path) -> Result<Self, Error> {
        if let Some(reason) = tool::unavailable() {
            return Err(Error::Unavailable(reason));
        }
        let addresses = nestmatrix_images::archives(ORIGIN, &[SUITE.to_owned()])?;
        let mut said = String::new();
        for address in addresses {
            match install(&address, archive) {
                Ok(()) => return Ok(Self { archive: archive.to_owned() }),
                Err(Error::Tool { output, .. }) => said = last_lines(&output),
                Err(other) => return Err(other),
            }
        }
        Err(Error::Undelivered(said))
    }

    /// Where the archive is.
    pub fn archive(&self) -> &Path {
        &self.archive
    }
}

fn install(address: &str, archive: &Path) -> Result<(), Error> {
    let mode = if tool::is_root() { "root" } else { "unshare" };
    let mut command = tool::command("mmdebstrap");
    command.arg(format!("--mode={mode}")).args(["--variant=minbase", "--format=tar"]);
    command.arg("--aptopt=Acquire::Languages \"none\"");
    command.args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(format!("--include={}", PACKAGES.join(",")));
    command.arg(format!("--customize-hook={AFTERWARDS}"));
    command.arg(SUITE).arg(archive).arg(address);
    tool::run(&mut command).map(drop)
}

/// The lines that say why apt or dpkg failed.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> =
        output.lines().filter(|line| line.starts_with("E:") || line.starts_with("W:")).collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}
