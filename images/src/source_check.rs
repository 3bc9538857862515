//! Checks a source of RPM packages before anything is built from it.

use crate::package_source::Host;
use crate::progress::Reporter;
use crate::recipe_text::Packages;
use crate::rpm::{RpmIndex, RpmPackages, SourceCheck};
use crate::{Error, Progress, Recipe, Store};

impl Store {
    /// Reads the source of a recipe as a build would, and verifies one of its packages. Returns nothing if the recipe needs no source
    /// of the user's.
    ///
    /// # Errors
    /// [`Error::Offline`] for an offline store, or why a build would fail.
    pub fn check_source(
        &self,
        recipe: &Recipe,
        progress: &dyn Progress,
    ) -> Result<Option<SourceCheck>, Error> {
        let Packages::Rpm(RpmPackages { text, source: Some(source) }) = &recipe.text.packages else {
            return Ok(None);
        };
        let (cache, options) = self.parts();
        if options.offline {
            return Err(Error::Offline { missing: vec![format!("source {}", source.name())] });
        }
        let lock = cache.lock_of_packages()?;
        lock.lock().map_err(Error::io("lock", cache.root()))?;
        let host = Host { cache, isa: recipe.isa(), archive: None, keyring: None, wrapper: &options.wrapper };
        let index = RpmIndex::open(&host, source, text)?;
        index.check(Reporter { recipe: recipe.name(), to: progress }).map(Some)
    }
}
