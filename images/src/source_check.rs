//! Checks a source of RPM packages before anything is built from it.

use crate::package_source::Host;
use crate::progress::Reporter;
use crate::recipe_text::Packages;
use crate::rpm::{RpmIndex, RpmPackages, SourceCheck, has_download};
use crate::{Error, HostTool, HostTools, Origin, Progress, Recipe, Store};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// What keeps images from being built from a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceProblem {
    /// A tool is missing.
    NoTool(HostTool),
    /// dnf is installed without its command `download`.
    NoDownload,
    /// Its file or folder does not exist.
    Gone(PathBuf),
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTool(tool) => write!(f, "no {tool}"),
            Self::NoDownload => f.write_str("dnf has no command download"),
            Self::Gone(path) => write!(f, "{} does not exist", path.display()),
        }
    }
}

impl Recipe {
    /// What keeps the images of this recipe from being built from its source, as far as this machine shows: no package is read and
    /// no address is asked.
    pub fn source_problems(&self, tools: &HostTools, wrapper: &[OsString]) -> Vec<SourceProblem> {
        let Some(source) = self.source() else { return Vec::new() };
        let missing = self.unbuildable(tools).map(|why| why.missing().to_vec()).unwrap_or_default();
        let has_download = !tools.has(HostTool::Dnf) || has_download(wrapper);
        let place = match source.origin() {
            Origin::Dvd(path) | Origin::HostRepositories(path) => Some(path),
            Origin::Urls(_) => None,
        };
        let gone = place.filter(|path| !path.exists());
        let tools = missing.into_iter().map(SourceProblem::NoTool);
        let download = (!has_download).then_some(SourceProblem::NoDownload);
        tools.chain(download).chain(gone.cloned().map(SourceProblem::Gone)).collect()
    }
}

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
