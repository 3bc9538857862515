//! The disk, put together.

use crate::partitions::{Partition, SECTOR};
use crate::tree::{BLOCK, Tree};
use crate::{Error, Flaw, System, boot_loader, partitions, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Size of the root file system in bytes: a sixth of it is used.
const ROOT_SIZE: u64 = 2000 << 20;
/// What a full root file system has left, in bytes: enough for what the system writes when it boots.
const LEFT: u64 = 16 << 20;
/// A file that every host has and that is not a secret.
const FOREIGN: &str = "/proc/version";

/// A disk in a file, in the format qcow2.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    kernel_release: String,
}

impl Disk {
    pub(crate) fn of(path: PathBuf, kernel_release: String) -> Self {
        Self { path, kernel_release }
    }

    /// Makes a disk of a system, as it should be or with a flaw. It takes about 5 s and, until it is finished, 2 GB beside the file.
    ///
    /// # Errors
    /// Why it failed.
    pub fn make(system: &System, flaw: Option<Flaw>, path: &Path) -> Result<Self, Error> {
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let work = tempfile::tempdir_in(folder).map_err(Error::io("create a folder in", folder))?;
        let work = work.path();
        let tree = Tree::unpack(system, flaw, work)?;
        let kernel_release = tree.kernel_release()?;
        let disk = work.join("disk");
        let root = partitions::root(ROOT_SIZE);
        partitions::write_table(&disk, root)?;
        tree.write_file_system(&disk, root)?;
        if flaw == Some(Flaw::FullFileSystem) {
            // A smaller one, so that it is not filled with gigabytes. What describes free blocks is smaller, too, so the files fit.
            let root = partitions::root(ROOT_SIZE - free(&disk, root)? + LEFT);
            partitions::write_table(&disk, root)?;
            tree.write_file_system(&disk, root)?;
            fill_up(&disk, root, work)?;
        }
        if flaw != Some(Flaw::NoBootLoader) {
            let loaders = system.loaders();
            if loaders.bios {
                boot_loader::install_bios(tree.folder(), &disk)?;
            }
            boot_loader::install_uefi(loaders, tree.folder(), &disk, work)?;
        }
        if flaw == Some(Flaw::ForeignBackingFile) {
            let mut command = tool::command("qemu-img");
            command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", FOREIGN]);
            tool::run(command.arg("-u").arg(path).arg(ROOT_SIZE.to_string()))?;
        } else {
            let mut command = tool::command("qemu-img");
            tool::run(command.args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&disk).arg(path))?;
        }
        Ok(Self::of(path.to_owned(), kernel_release))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The release of the kernel that its boot loader starts, as `uname -r` prints it.
    pub fn kernel_release(&self) -> &str {
        &self.kernel_release
    }
}

/// The free space of the root file system in bytes.
fn free(disk: &Path, root: Partition) -> Result<u64, Error> {
    let statistics = tool::run(debugfs(disk, root).args(["-R", "show_super_stats -h"]))?;
    let blocks = statistics.lines().find_map(|line| line.strip_prefix("Free blocks:"));
    let blocks: Option<u64> = blocks.and_then(|blocks| blocks.trim().parse().ok());
    blocks
        .map(|blocks| blocks * BLOCK)
        .ok_or_else(|| Error::Unexpected("debugfs counts no free blocks".to_owned()))
}

/// Writes a file that leaves only [`LEFT`] of the root file system.
fn fill_up(disk: &Path, root: Partition, work: &Path) -> Result<(), Error> {
    let free = free(disk, root)?.saturating_sub(LEFT);
    let file = work.join("filler");
    // Blocks of zeros would become holes.
    let bytes = vec![0xff; usize::try_from(free).unwrap_or(usize::MAX)];
    fs::write(&file, bytes).map_err(Error::io("write", &file))?;
    tool::run(debugfs(disk, root).args(["-w", "-R"]).arg(format!("write {} filler", file.display())))
        .map(drop)
}

/// debugfs on the root file system.
fn debugfs(disk: &Path, root: Partition) -> Command {
    let mut command = tool::command("debugfs");
    command.arg(format!("{}?offset={}", disk.display(), root.start * SECTOR));
    command
}
