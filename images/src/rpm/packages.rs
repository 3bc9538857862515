//! A recipe's `[rpm]`: packages from a source that the user added.

use crate::package_source::{Host, PackageFormat, PackageSource, Place};
use crate::recipe_text::{Table, optional_list};
use crate::replacement::{Component, is_of_kernel};
use crate::{Error, Os, Source, rpm::Rpm, rpm::RpmIndex};
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

impl RpmText {
    /// The package that has the kernel's image, or QEMU.
    pub(crate) fn package_of(&self, component: Component) -> Option<&str> {
        let of_kernel = |name: &&String| is_of_kernel(name);
        match component {
            Component::Kernel => self.without_dependencies.iter().find(of_kernel),
            Component::Qemu => self.install.iter().find(|name| name.starts_with("qemu-kvm")),
        }
        .map(String::as_str)
    }

    /// What is wanted for one version of a component alone. `has` says whether the source has a package in that version.
    pub(crate) fn only(&self, component: Component, version: &str, has: impl Fn(&str) -> bool) -> Self {
        let exact = |name: &String| format!("{name}-{version}");
        let (mut install, mut without_dependencies) = (Vec::new(), Vec::new());
        match component {
            Component::Kernel => {
                let optional = self.if_available.iter().filter(|name| has(name));
                let all = self.without_dependencies.iter().chain(optional);
                without_dependencies.extend(all.filter(|name| is_of_kernel(name)).map(exact));
            }
            Component::Qemu => {
                let package = self.package_of(component).map(str::to_owned);
                install.extend(package.iter().map(exact));
            }
        }
        Self { install, without_dependencies, if_available: Vec::new(), leave_out: self.leave_out.clone() }
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
