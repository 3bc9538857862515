//! Unified kernel images (UAPI.5): a kernel, its initramfs and its command line as one program that UEFI starts from a disk.
//!
//! A hypervisor that loads no kernel itself, such as Hyper-V with a virtual machine of generation 2, boots such a disk.

mod disk;
mod program;

use crate::Error;
use crate::disk::fat::{self, Contents};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What a unified kernel image is made of.
#[derive(Debug, Clone)]
pub struct UnifiedKernel<'a> {
    /// The UEFI program that starts the kernel.
    pub stub: &'a Path,
    /// The kernel.
    pub kernel: &'a Path,
    /// Its initramfs.
    pub initramfs: &'a Path,
    /// Its command line.
    pub parameters: String,
}

impl UnifiedKernel<'_> {
    /// Writes a raw disk at `path` from which UEFI starts it: a GPT with one EFI system partition.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::UnifiedKernel`] if the stub is no UEFI program that can take the kernel.
    pub fn write_disk(&self, path: &Path) -> Result<(), Error> {
        let volume = Volume::beside(path);
        let refused = |why| Error::UnifiedKernel { stub: self.stub.to_owned(), why };
        let program = self.program()?;
        let name = program::default_path(&program).map_err(refused)?.to_owned();
        fat::write(&volume.0, b"NESTBOOT   ", &[(name, Contents::Bytes(program))])?;
        let written = || -> io::Result<()> {
            let mut from = File::open(&volume.0)?;
            let mut to = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
            let start = disk::write_table(&mut to, from.metadata()?.len())?;
            to.seek(SeekFrom::Start(start))?;
            io::copy(&mut from, &mut to).map(drop)
        };
        written().map_err(Error::io("write", path))
    }

    /// The program: the stub, with the kernel and all that it needs as sections.
    fn program(&self) -> Result<Vec<u8>, Error> {
        let read = |path: &Path| fs::read(path).map_err(Error::io("read", path));
        let sections = [
            (".cmdline", self.parameters.as_bytes().to_vec()),
            (".initrd", read(self.initramfs)?),
            // The kernel may use memory after its end while it is started, so it is the last one.
            (".linux", read(self.kernel)?),
        ];
        program::with_sections(&read(self.stub)?, &sections)
            .map_err(|why| Error::UnifiedKernel { stub: self.stub.to_owned(), why })
    }
}

/// A file system that is removed once it is on the disk.
struct Volume(PathBuf);

impl Volume {
    fn beside(disk: &Path) -> Self {
        let mut name = disk.as_os_str().to_owned();
        name.push(".volume");
        Self(name.into())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // If it is still there, it is removed with the folder of the boot.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
