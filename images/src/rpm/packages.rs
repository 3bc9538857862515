//! A recipe's `[rpm]`: packages from a source that the user added.

use crate::package_source::{Host, PackageFormat, PackageSource, Place};
use crate::recipe_text::{Table, optional_list};
use crate::sources::Source;
use crate::{Error, Os, rpm::Rpm, rpm::RpmIndex};
use nestmatrix_input::Keys;
use std::sync::Arc;

/// The packages of a recipe's template.
#[derive(Debug, Clone)]
pub(crate) struct RpmText {
    /// Packages that are downloaded with everything that they need.
    pub(crate) install: Vec<String>,
    /// Packages that are downloaded alone, since an image needs nothing of what they need.
    pub(crate) without_dependencies: Vec<String>,
    /// The same, of packages that only some minor versions have.
    pub(crate) if_available: Vec<String>,
    /// Dependencies that no image needs.
    pub(crate) leave_out: Vec<String>,
}

impl RpmText {
    pub(crate) const KEYS: Keys = &["install", "without-dependencies", "if-available", "leave-out"];

    pub(crate) fn read(table: &Table<'_>) -> Self {
        let [install, without_dependencies, if_available, leave_out] =
            ["install", "without-dependencies", "if-available", "leave-out"]
                .map(|key| optional_list(table, key));
        Self { install, without_dependencies, if_available, leave_out }
    }
}

/// The packages of one system in one version.
#[derive(Debug, Clone)]
pub(crate) struct RpmPackages {
    pub(crate) text: RpmText,
    /// None in a template.
    pub(crate) source: Option<Arc<Source>>,
}

impl PackageSource for RpmPackages {
    fn format(&self) -> &'static dyn PackageFormat {
        &Rpm
    }

    fn places<'a>(&'a self, host: &Host<'a>) -> Result<Vec<Place<'a>>, Error> {
        let Some(source) = &self.source else { return Ok(Vec::new()) };
        let index = RpmIndex::open(host, source, &self.text)?;
        Ok(vec![Place {
            archive: source.origin().to_string(),
            suites: vec![source.name()],
            index: Box::new(index),
        }])
    }

    fn unavailable(&self, tried: String) -> Error {
        let name = self.source.as_ref().map_or_else(String::new, |source| source.name());
        Error::SourceFailed { name, tried }
    }
}

/// What dnf calls the platform of a system, which decides on the default streams of modules.
pub(super) fn platform(os: &Os) -> String {
    let major = os.version.split('.').next().unwrap_or(&os.version);
    let prefix = if os.id == "fedora" { "f" } else { "el" };
    format!("platform:{prefix}{major}")
}
