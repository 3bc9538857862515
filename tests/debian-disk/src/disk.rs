//! The disk, put together.

use crate::tree::Tree;
use crate::{Error, Flaw, System, boot_loader, partitions, tool};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Size of the root file system in bytes: a sixth of it is used.
const ROOT_SIZE: u64 = 2000 << 20;
/// What a full root file system has left, in bytes: enough for what the system writes when it boots.
const LEFT: u64 = 16 << 20;
/// Size of a block of the root file system in bytes, which is mke2fs' default for this size.
const BLOCK: u64 = 4096;
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
        let root = work.join("root");
        tree.write_file_system(&root, ROOT_SIZE)?;
        if flaw == Some(Flaw::FullFileSystem) {
            shrink(&root)?;
        }
        let size = fs::metadata(&root).map_err(Error::io("read", &root))?.len();
        let disk = work.join("disk");
        let partition = partitions::root(size);
        partitions::write_table(&disk, partition)?;
        partitions::fill(&disk, partition, &root)?;
        if flaw != Some(Flaw::NoBootLoader) {
            boot_loader::install_bios(tree.folder(), &disk)?;
            boot_loader::install_uefi(tree.folder(), &disk, work)?;
        }
        if flaw == Some(Flaw::ForeignBackingFile) {
            let mut command = tool::command("qemu-img");
            command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b", FOREIGN]);
            tool::run(command.arg("-u").arg(path).arg((size + ROOT_SIZE).to_string()))?;
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

/// Makes a file system so small that it is almost full.
fn shrink(image: &Path) -> Result<(), Error> {
    tool::run(tool::command("resize2fs").args(["-f", "-M"]).arg(image))?;
    let smallest = fs::metadata(image).map_err(Error::io("read", image))?.len();
    let size = (smallest + LEFT) / BLOCK * BLOCK;
    let file = File::options().write(true).open(image).map_err(Error::io("open", image))?;
    file.set_len(size).map_err(Error::io("write", image))?;
    tool::run(tool::command("resize2fs").arg("-f").arg(image)).map(drop)
}
