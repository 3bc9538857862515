//! Emulators on this machine: the programs of an image, which are independent of the machine's libraries, and installed ones.

use crate::assemble::{DATA, LIBRARIES, LOADER, MODULES, PROGRAMS};
use crate::image::TREE;
use crate::{Catalog, Image, Product, Recipe};
use nestmatrix_model::Isa;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

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

    /// Adds emulators that are installed on this machine, by the name of the program that they replace, or why an installed one can't
    /// replace it.
    #[must_use]
    pub fn with_installed(mut self, installed: BTreeMap<String, Result<InstalledEmulator, String>>) -> Self {
        self.installed = installed;
        self
    }

    /// The emulator that is installed on this machine and replaces `program`, or why the installed one can't; none if none is.
    pub fn installed(&self, program: &str) -> Option<Result<&InstalledEmulator, &str>> {
        self.installed.get(program).map(|found| found.as_ref().map_err(String::as_str))
    }

    /// Adds the user's builds of emulators' programs, by the name of the program that each replaces in its image.
    #[must_use]
    pub fn with_own(mut self, own: BTreeMap<String, InstalledEmulator>) -> Self {
        self.own = own;
        self
    }

    /// The user's build that replaces `program` in its image, if there is one.
    pub fn own(&self, program: &str) -> Option<&InstalledEmulator> {
        self.own.get(program)
    }
}

/// An emulator with its own loader, libraries and firmware.
#[derive(Debug, Clone)]
pub struct Emulator {
    image: Image,
    /// The user's build of one of its programs, by the program's name.
    own: Option<(String, PathBuf)>,
}

impl Emulator {
    /// Makes an emulator of an image; none if its product is not [`Product::Emulator`].
    pub fn new(image: Image) -> Option<Self> {
        (image.product() == Product::Emulator).then_some(Self { image, own: None })
    }

    /// The same with the user's build of the image's `program`. The image's firmware and other programs stay.
    #[must_use]
    pub fn with_own(self, program: &str, path: &Path) -> Self {
        Self { own: Some((program.to_owned(), path.to_owned())), ..self }
    }

    /// The user's build of the image's `program`, if there is one.
    pub fn own(&self, program: &str) -> Option<&Path> {
        self.own.as_ref().filter(|(name, _)| name == program).map(|(_, path)| path.as_path())
    }

    /// The user's build of one of its programs, if there is one.
    pub fn own_program(&self) -> Option<&Path> {
        self.own.as_ref().map(|(_, path)| path.as_path())
    }

    /// The image.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The command that starts the image's `program`: what to execute, and the arguments before the program's own.
    ///
    /// It executes the image's dynamic loader (ld.so(8)), so that the program gets the image's libraries.
    pub fn command(&self, program: &str) -> (PathBuf, Vec<OsString>) {
        if let Some(own) = self.own(program) {
            return (own.to_owned(), Vec::new());
        }
        let tree = self.image.folder().join(TREE);
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
        self.image.folder().join(TREE).join(DATA)
    }

    /// The folder of the modules that it loads at run time, if it has any.
    pub fn modules(&self) -> Option<PathBuf> {
        let modules = self.image.folder().join(TREE).join(MODULES);
        modules.is_dir().then_some(modules)
    }
}
