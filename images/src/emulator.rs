//! How to start the programs of an emulator image on this machine, whatever libraries the machine has.

use crate::assemble::{DATA, LIBRARIES, LOADER, MODULES, PROGRAMS};
use crate::image::TREE;
use crate::{Image, Product};
use std::ffi::OsString;
use std::path::PathBuf;

/// An emulator with its own loader, libraries and firmware.
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

    /// What to start for `program`, one of the image's, and the arguments that go before the program's own.
    ///
    /// What is started is the image's dynamic loader (ld.so(8)), so the program's libraries are those of the image.
    pub fn command(&self, program: &str) -> (PathBuf, Vec<OsString>) {
        let tree = self.0.folder().join(TREE);
        let mut libraries = tree.join(LIBRARIES).into_os_string();
        // Some emulators have the loader find what they load by its name alone.
        if let Some(modules) = self.modules() {
            libraries.push(":");
            libraries.push(modules);
        }
        let arguments = vec![
            "--library-path".into(),
            libraries,
            "--argv0".into(),
            program.into(),
            tree.join(PROGRAMS).join(program).into(),
        ];
        (tree.join(LOADER), arguments)
    }

    /// The folder of its firmware and other files that it reads.
    pub fn data(&self) -> PathBuf {
        self.0.folder().join(TREE).join(DATA)
    }

    /// The folder of what it loads while it runs, if it does.
    pub fn modules(&self) -> Option<PathBuf> {
        let modules = self.0.folder().join(TREE).join(MODULES);
        modules.is_dir().then_some(modules)
    }
}
