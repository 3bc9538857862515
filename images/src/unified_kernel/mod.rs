//! Unified kernel images (UAPI.5): a kernel, its initramfs and its command line as one program that UEFI starts from a disk.
//!
//! A hypervisor that loads no kernel itself, such as Hyper-V with a virtual machine of generation 2, boots such a disk.

mod program;
mod vhd;

use crate::disk::fat::Contents;
use crate::disk::partitioned::{self, Purpose};
use crate::{Digest, Error};
use std::fs;
use std::path::Path;

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
        self.write(path).map(drop)
    }

    /// Writes the same disk as a fixed VHD: the bytes of the raw disk, and a footer. Its virtual size is whole MiB.
    ///
    /// # Errors
    /// Those of [`UnifiedKernel::write_disk`].
    pub fn write_vhd(&self, path: &Path) -> Result<(), Error> {
        let digest = self.write(path)?;
        vhd::append_footer(path, partitioned::identifier(&digest, "vhd")).map_err(Error::io("write", path))
    }

    /// Writes the raw disk, and returns the digest of the program on it.
    fn write(&self, path: &Path) -> Result<Digest, Error> {
        let refused = |why| Error::UnifiedKernel { stub: self.stub.to_owned(), why };
        let program = self.program()?;
        let name = program::default_path(&program).map_err(refused)?.to_owned();
        let digest = Digest::of_bytes(&program);
        let files = [(name, Contents::Bytes(program))];
        partitioned::write(path, Purpose::Boot, b"NESTBOOT   ", &digest, &files)?;
        Ok(digest)
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

#[cfg(test)]
mod tests;
