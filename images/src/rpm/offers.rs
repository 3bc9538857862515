//! Other versions of a kernel or QEMU in sources of RPM packages: in all that the user added for the same architecture.

use super::{RpmIndex, RpmPackages, RpmText};
use crate::package_source::{self, Host, PackageIndex as _};
use crate::progress::{Reporter, Step};
use crate::recipe_text::Packages;
use crate::replacement::{Component, OfferSource, Offered};
use crate::{Catalog, Error, Offers, Package, Recipe, Source, Store, offer};
use std::sync::Arc;

impl Store {
    /// Adds every version of a package in the sources of alike recipes.
    pub(crate) fn offers_of_sources(
        &self,
        recipe: &Recipe,
        package: &str,
        catalog: &Catalog,
        offers: &mut Offers,
        reporter: Reporter<'_>,
    ) -> Result<(), Error> {
        reporter.step(Step::Resolving);
        let (cache, options) = self.parts();
        let lock = cache.lock_of_packages()?;
        lock.lock().map_err(Error::io("lock", cache.root()))?;
        for alike in catalog.recipes().filter(|other| offer::is_alike(recipe, other)) {
            let Packages::Rpm(RpmPackages { text, source: Some(source) }) = &alike.text.packages else {
                continue;
            };
            let host =
                Host { cache, isa: recipe.isa(), archive: None, keyring: None, wrapper: &options.wrapper };
            let versions = RpmIndex::open(&host, source, text).and_then(|index| {
                let versions = index.update(reporter).and_then(|()| index.versions(package));
                index.tidy()?;
                versions
            });
            match versions {
                Ok(versions) => {
                    offers.suites.push(source.name());
                    let known: Vec<String> =
                        offers.offered.iter().map(|known| known.version.clone()).collect();
                    let new = versions.into_iter().filter(|version| !known.contains(version));
                    offers.offered.extend(new.map(|version| Offered {
                        package: package.to_owned(),
                        version,
                        source: OfferSource::Rpm { source: Arc::clone(source) },
                    }));
                }
                // The sources that are available are enough.
                Err(Error::PackageTool { output: said, .. } | Error::SourceFailed { tried: said, .. }) => {
                    offers.unreachable.push((source.name(), complaint(&said).to_owned()));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
}

/// dnf's error, which is after its attempts; otherwise the first line.
fn complaint(said: &str) -> &str {
    let error = said.lines().find_map(|line| line.strip_prefix("Error: "));
    error.or(said.lines().next()).unwrap_or_default()
}

/// Downloads one version of a component from a source.
pub(crate) fn fetch(
    host: &Host<'_>,
    source: &Source,
    text: &RpmText,
    (component, version): (Component, &str),
    reporter: Reporter<'_>,
) -> Result<Vec<Package>, Error> {
    let index = RpmIndex::open(host, source, text)?;
    let fetched = index.update(reporter).and_then(|()| {
        let has = |name: &str| index.versions(name).is_ok_and(|all| all.iter().any(|one| one == version));
        let exact = text.only(component, version, has);
        let index = RpmIndex::open(host, source, &exact)?;
        let resolved = index.resolve(reporter)?;
        package_source::fetch(&index, host.cache, &resolved, reporter).map(|_| resolved)
    });
    index.tidy()?;
    Ok(fetched?.into_iter().map(|one| one.package).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_dnf_is_found() {
        let said = "Errors during downloading metadata for repository 'source-0':\n  - Curl error (7): no server\n\
            Error: Failed to download metadata for repo 'source-0': All mirrors were tried";
        assert!(complaint(said).starts_with("Failed to download metadata"), "{}", complaint(said));
        assert_eq!(complaint("cannot open /a.iso\n"), "cannot open /a.iso");
    }
}
