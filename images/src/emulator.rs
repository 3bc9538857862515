//! How to start the QEMU of an emulator image on this machine, whatever libraries the machine has.

use crate::assemble::{FIRMWARE, LIBRARIES, LOADER, QEMU, QEMU_MODULES};
use crate::image::TREE;
use crate::{Image, Product};
use std::ffi::OsString;
use std::path::PathBuf;

/// QEMU with its own loader, libraries and firmware.
#[derive(Debug, Clone)]
pub struct Emulator(Image);

impl Emulator {
    /// Takes an image of the product [`Product::Emulator`]; none if it is another product.
    pub fn new(image: Image) -> Option<Self> {
        (image.product() == Product::Emulator).then_some(Self(image))
    }

    /// The image.
    pub fn image(&self) -> &Image {
        &self.0
    }

    /// The program to start, the arguments that go before QEMU's own, and variables to add to the environment.
    ///
    /// The program is the image's dynamic loader (ld.so(8)), so QEMU's libraries are those of the image.
    pub fn command(&self) -> (PathBuf, Vec<OsString>, Vec<(OsString, OsString)>) {
        let tree = self.0.folder().join(TREE);
        let arguments = vec![
            "--library-path".into(),
            tree.join(LIBRARIES).into(),
            "--argv0".into(),
            QEMU.into(),
            tree.join(QEMU).into(),
            "-L".into(),
            tree.join(FIRMWARE).into(),
        ];
        let modules = tree.join(QEMU_MODULES);
        let variables =
            if modules.is_dir() { vec![("QEMU_MODULE_DIR".into(), modules.into())] } else { Vec::new() };
        (tree.join(LOADER), arguments, variables)
    }
}
