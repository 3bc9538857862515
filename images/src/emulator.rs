//! Emulators on this machine: the programs of an image, which are independent of the machine's libraries, and installed ones.

use crate::assemble::{DATA, LIBRARIES, LOADER, MODULES, PROGRAMS};
use crate::image::TREE;
use crate::{Catalog, Image, Product, Recipe};
use nestmatrix_model::Isa;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;

/// The environment variable that names the folder of QEMU's modules.
const QEMU_MODULES: &str = "QEMU_MODULE_DIR";

/// An emulator that is installed on this machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstalledEmulator {
    /// Its program.
    pub path: PathBuf,
    /// Its version as it prints it: `9.2.3 (qemu-9.2.3-1.fc42)`.
    pub version: String,
}

impl InstalledEmulator {
    /// Its version without the distribution's: `9.2.3`.
    pub fn upstream(&self) -> &str {
        self.version.split(' ').next().unwrap_or_default()
    }
}

impl Catalog {
    /// The recipe of the emulator `program` that levels of this instruction set can run, too.
    pub fn packed_emulator(&self, program: &str, isa: Isa) -> Option<&Recipe> {
        let is_packed = |recipe: &&Recipe| recipe.text.emulator.as_ref().is_some_and(|part| part.packed);
        let runs = |recipe: &&Recipe| recipe.isa() == isa && recipe.emulator() == Some(program);
        self.recipes().filter(is_packed).find(runs)
    }
}

/// An emulator with its own loader, libraries and firmware.
#[derive(Debug, Clone)]
pub struct Emulator(Image);

impl Emulator {
    /// Makes an emulator of an image; none if its product is not [`Product::Emulator`].
    pub fn new(image: Image) -> Option<Self> {
        (image.product() == Product::Emulator).then_some(Self(image))
    }

    /// The image.
    pub fn image(&self) -> &Image {
        &self.0
    }

    /// The command that starts the image's `program`: what to execute, and the arguments before the program's own.
    ///
    /// It executes the image's dynamic loader (ld.so(8)), so that the program gets the image's libraries.
    pub fn command(&self, program: &str) -> (PathBuf, Vec<OsString>) {
        let tree = self.0.folder().join(TREE);
        let mut libraries = tree.join(LIBRARIES).into_os_string();
        // Some emulators load modules by name, through the loader's search path.
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

    /// The environment that its programs need: where QEMU finds its modules. Its other settings are on the command line.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        self.modules().map(|modules| (QEMU_MODULES.into(), modules.into())).into_iter().collect()
    }

    /// The folder of its firmware and other data.
    pub fn data(&self) -> PathBuf {
        self.0.folder().join(TREE).join(DATA)
    }

    /// The folder of the modules that it loads at run time, if it has any.
    pub fn modules(&self) -> Option<PathBuf> {
        let modules = self.0.folder().join(TREE).join(MODULES);
        modules.is_dir().then_some(modules)
    }
}
