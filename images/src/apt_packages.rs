//! A recipe's `[packages]`: Debian packages, from an archive that the host's apt knows.

use crate::apt::{Apt, Archives, Wanted, not_started};
use crate::deb::Deb;
use crate::package_source::{Host, PackageFormat, PackageSource, Place};
use crate::programs::find_program;
use crate::recipe_text::{Table, optional_list, owned};
use crate::{Error, archive};
use nestmatrix_input::Keys;
use std::io;
use std::path::{Path, PathBuf};

const APT_GET: &str = "apt-get";

/// The folder in which hosts with apt keep keyrings.
const KEYRINGS: &str = "/usr/share/keyrings";

#[derive(Debug, Clone)]
pub(crate) struct AptPackages {
    /// The archive's `Origin`.
    pub(crate) origin: String,
    /// File name of the keyring that verifies it.
    pub(crate) keyring: String,
    pub(crate) suites: Vec<String>,
    pub(crate) components: Vec<String>,
    pub(crate) install: Vec<String>,
    /// Dependencies that no image needs.
    pub(crate) assume_installed: Vec<String>,
}

impl AptPackages {
    pub(crate) const KEYS: Keys =
        &["origin", "keyring", "suites", "components", "install", "assume-installed"];

    pub(crate) fn read(table: &Table<'_>) -> Option<Self> {
        let [origin, keyring] = ["origin", "keyring"].map(|key| table.prose(key));
        let [suites, components, install] =
            ["suites", "components", "install"].map(|key| table.strings(key).map(owned));
        let assume_installed = optional_list(table, "assume-installed");
        Some(Self {
            origin: origin?,
            keyring: keyring?,
            suites: suites?,
            components: components?,
            install: install?,
            assume_installed,
        })
    }

    /// The keyring that verifies the packages.
    ///
    /// # Errors
    /// [`Error::NoKeyring`] if this host has none.
    pub(crate) fn keyring(&self, chosen: Option<&Path>) -> Result<PathBuf, Error> {
        let keyring = match chosen {
            Some(keyring) => keyring.to_owned(),
            None => Path::new(KEYRINGS).join(&self.keyring),
        };
        keyring.canonicalize().map_err(|_| Error::NoKeyring(keyring))
    }
}

impl PackageSource for AptPackages {
    fn format(&self) -> &'static dyn PackageFormat {
        &Deb
    }

    fn places<'a>(&'a self, host: &Host<'a>) -> Result<Vec<Place<'a>>, Error> {
        let keyring = self.keyring(host.keyring).map_err(|error| match find_program(APT_GET) {
            Some(_) => error,
            // Without apt, a keyring would not help.
            None => not_started(APT_GET)(io::ErrorKind::NotFound.into()),
        })?;
        let archives = match host.archive {
            Some(archive) => vec![archive.trim_end_matches('/').to_owned()],
            None => archive::candidates(&self.origin, &self.suites, host.wrapper)?,
        };
        let place = |archive: String| {
            let suites: Vec<(String, String)> =
                self.suites.iter().map(|suite| (archive.clone(), suite.clone())).collect();
            let source =
                Archives { suites: &suites, components: &self.components, keyring: &keyring, isa: host.isa };
            let wanted = Wanted {
                install: self.install.clone(),
                target: None,
                assumed: self.assume_installed.clone(),
            };
            let index = Box::new(Apt::new(host.cache, host.wrapper, &source, wanted)?);
            Ok(Place { archive, suites: self.suites.clone(), index })
        };
        archives.into_iter().map(place).collect()
    }

    fn unavailable(&self, tried: String) -> Error {
        Error::ArchiveFailed { suites: self.suites.join(", "), tried }
    }
}
