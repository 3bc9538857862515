//! The image of a DVD.

use crate::{Error, Repository, tool};
use nestmatrix_images::{Emulator, Product, Recipe, Silent, Store};
use std::path::Path;
use std::process::Command;

/// What writes the image, from Debian's packages, so that it need not be installed.
const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/xorriso-amd64.toml");

/// The name of RHEL 9.4's DVD.
const VOLUME: &str = "RHEL-9-4-0-BaseOS-x86_64";

impl Repository {
    /// Writes the tree as the image of a DVD: ISO 9660 with Rock Ridge and Joliet, as RHEL's. It is not bootable.
    ///
    /// # Errors
    /// Why it failed; [`Error::Image`] if the archive does not deliver xorriso.
    pub fn write_iso(&self, store: &Store, path: &Path) -> Result<(), Error> {
        let recipe = Recipe::load(Path::new(RECIPE))?;
        let image = store.ensure(&recipe, Product::Emulator, &Silent)?;
        let emulator =
            Emulator::new(image).ok_or_else(|| Error::unexpected("xorriso", "it is not a program"))?;
        let (program, arguments) = emulator.command("xorriso");
        let mut command = Command::new(program);
        command.args(arguments).args([
            "-no_rc",
            "-as",
            "mkisofs",
            "-quiet",
            "-rock",
            "-joliet",
            "-joliet-long",
        ]);
        command.args(["-volid", VOLUME]).arg("-output").arg(path).arg(self.folder());
        tool::run(&mut command).map(drop)
    }
}
