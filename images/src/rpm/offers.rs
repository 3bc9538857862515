//! Other versions of a kernel or QEMU in sources of RPM packages: those of the recipe's template, such as all minor versions of
//! RHEL 9 that the user added.

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
                index.update(reporter)?;
                let versions = index.versions(package)?;
                index.tidy().map(|()| versions)
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
                Err(Error::PackageTool { output, .. }) => {
                    let said = output.lines().next().unwrap_or_default().to_owned();
                    offers.unreachable.push((source.name(), said));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }
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
    index.update(reporter)?;
    let has = |name: &str| index.versions(name).is_ok_and(|all| all.iter().any(|one| one == version));
    let exact = text.only(component, version, has);
    let index = RpmIndex::open(host, source, &exact)?;
    let resolved = index.resolve(reporter)?;
    package_source::fetch(&index, host.cache, &resolved, reporter)?;
    index.tidy()?;
    Ok(resolved.into_iter().map(|one| one.package).collect())
}
