//! The files of the system in a folder, where they are changed before the root file system is made of them.

use crate::partitions::{Partition, SECTOR};
use crate::{Error, Flaw, System, boot_loader, tool};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the guest agent reads its settings.
const AGENT_FILE: &str = "etc/qemu/qemu-ga.conf";

/// The settings of the guest agent. RHEL 9 forbids the same commands, by an option of the agent's service.
pub const AGENT_SETTINGS: &str = "\
[general]
block-rpcs=guest-exec,guest-exec-status,guest-file-open,guest-file-close,guest-file-read,guest-file-write,guest-file-seek,\
guest-file-flush
";

/// Package sources that can't be reached, as those of a vendor can't be from a level without a network.
const SOURCES: &str = "deb http://archive.example/debian trixie main\n";

/// Size of a block of the root file system in bytes.
pub(crate) const BLOCK: u64 = 4096;

/// The files, in a folder.
#[derive(Debug)]
pub(crate) struct Tree {
    folder: PathBuf,
    /// What fakeroot knows of owners.
    owners: PathBuf,
}

impl Tree {
    /// Unpacks a system into a folder, and configures it.
    pub(crate) fn unpack(system: &System, flaw: Option<Flaw>, work: &Path) -> Result<Self, Error> {
        let tree = Self { folder: work.join("tree"), owners: work.join("owners") };
        fs::create_dir(&tree.folder).map_err(Error::io("create folder", &tree.folder))?;
        let mut command = tool::command("fakeroot");
        command.arg("-s").arg(&tree.owners).args(["--", "tar", "--extract", "--exclude=./dev/*"]);
        command.arg("--directory").arg(&tree.folder).arg("--file").arg(system.archive());
        tool::run(&mut command)?;
        // An ordinary user can't read every file otherwise. fakeroot remembers the modes that the system has.
        tool::run(tool::command("chmod").args(["--recursive", "u+rwX"]).arg(&tree.folder))?;
        tree.write("etc/apt/sources.list", SOURCES)?;
        tree.write("etc/fstab", "LABEL=root / ext4 errors=remount-ro 0 1\n")?;
        if flaw != Some(Flaw::AgentAllowed) {
            tree.write(AGENT_FILE, AGENT_SETTINGS)?;
        }
        match flaw {
            Some(Flaw::NoAgent) => tree.remove_package("qemu-guest-agent")?,
            Some(Flaw::NoCloudInit) => tree.remove_package("cloud-init")?,
            _ => {}
        }
        let timeout = if flaw == Some(Flaw::BootLoaderWaits) { -1 } else { 0 };
        boot_loader::write_menu(&tree.folder, system.loaders(), timeout)?;
        Ok(tree)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn write(&self, path: &str, text: &str) -> Result<(), Error> {
        let path = self.folder.join(path);
        fs::write(&path, text).map_err(Error::io("write", &path))
    }

    fn read(&self, path: &str) -> Result<String, Error> {
        let path = self.folder.join(path);
        fs::read_to_string(&path).map_err(Error::io("read", &path))
    }

    /// Removes the files of a package, and dpkg's entry for it. dpkg itself would need root.
    fn remove_package(&self, name: &str) -> Result<(), Error> {
        for path in self.read(&format!("var/lib/dpkg/info/{name}.list"))?.lines() {
            let path = self.folder.join(path.trim_start_matches('/'));
            // Its folders may be those of other packages, too. Excluded files are not there.
            if path.symlink_metadata().is_ok_and(|found| !found.is_dir()) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        let status = self.read("var/lib/dpkg/status")?;
        let first = format!("Package: {name}");
        let kept: Vec<&str> =
            status.split("\n\n").filter(|entry| entry.lines().next() != Some(&first)).collect();
        self.write("var/lib/dpkg/status", &kept.join("\n\n"))
    }

    /// The release of the kernel that the menu starts.
    pub(crate) fn kernel_release(&self) -> Result<String, Error> {
        let link = self.folder.join("vmlinuz");
        let target = fs::read_link(&link).map_err(Error::io("read link", &link))?;
        let release = target.to_string_lossy().rsplit_once("vmlinuz-").map(|(_, release)| release.to_owned());
        release.ok_or_else(|| Error::Unexpected(format!("/vmlinuz leads to {}", target.display())))
    }

    /// Makes the root file system in its partition of a disk.
    pub(crate) fn write_file_system(&self, disk: &Path, partition: Partition) -> Result<(), Error> {
        let mut command = tool::command("fakeroot");
        command.arg("-i").arg(&self.owners).arg("--").arg(tool::command("mke2fs").get_program());
        command.args(["-F", "-q", "-t", "ext4", "-b", &BLOCK.to_string(), "-L", "root"]);
        command.args(["-E", &format!("offset={}", partition.start * SECTOR), "-d"]).arg(&self.folder);
        command.arg(disk).arg((partition.size * SECTOR / BLOCK).to_string());
        tool::run(&mut command).map(drop)
    }
}
