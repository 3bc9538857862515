//! The candidates of a search: versions of the archive and the cache in their packages' order, or the user's own kernels in the given
//! order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use nestmatrix_images::{Component, LocalKernel, Offers, Recipe, Replacement};

use super::output;
use super::search::Search;
use crate::exit::Failure;
use crate::kernels;

/// A version to test.
#[derive(Debug)]
pub(super) struct Candidate {
    /// A unique name: its version, or the release of an own kernel, with the file if several kernels have that release.
    pub(super) name: String,
    pub(super) replacement: Replacement,
}

impl Search<'_> {
    /// All candidates: the lowest version first, or own kernels in the given order.
    pub(super) async fn candidates(
        &self,
        base: &Recipe,
        component: Component,
    ) -> Result<Vec<Candidate>, Failure> {
        if !self.arguments.kernel.is_empty() {
            return self.own_kernels(base);
        }
        let arguments = self.arguments;
        let order = base.clone();
        let (store, catalog, base) = (Arc::clone(&self.store), self.catalog.clone(), base.clone());
        let builds = Arc::clone(&self.builds);
        let offers = tokio::task::spawn_blocking(move || {
            let offers = store.offers(&base, component, &catalog, &*builds);
            builds.finish();
            offers.map_err(|e| kernels::with_cause(&e))
        });
        let offers: Offers = offers.await.map_err(Failure::error)?.map_err(Failure::error)?;
        output::print_offers(&offers);
        let at_least = |version: &str, bound: &String| order.compare_versions(version, bound).is_ge();
        let at_most = |version: &str, bound: &String| order.compare_versions(version, bound).is_le();
        let wanted = offers.offered.into_iter().filter(|offered| {
            let version = offered.version.as_str();
            (arguments.suite.is_empty() || arguments.suite.contains(&offered.place()))
                && arguments.from.as_ref().is_none_or(|bound| at_least(version, bound))
                && arguments.to.as_ref().is_none_or(|bound| at_most(version, bound))
        });
        let candidate = |offered| {
            let replacement = match component {
                Component::Kernel => Replacement::Kernel(offered),
                Component::Qemu => Replacement::Qemu(offered),
            };
            Candidate { name: replacement.version().to_owned(), replacement }
        };
        let mut candidates: Vec<Candidate> = wanted.map(candidate).collect();
        candidates.sort_by(|a, b| order.compare_versions(&a.name, &b.name));
        Ok(candidates)
    }

    fn own_kernels(&self, base: &Recipe) -> Result<Vec<Candidate>, Failure> {
        let files = &self.arguments.kernel;
        let read = |file: &PathBuf| {
            let kernel = LocalKernel::read(std::slice::from_ref(file), &self.catalog)?;
            kernel.check_fits(base).map(|()| kernel)
        };
        let kernels: Result<Vec<LocalKernel>, _> = files.iter().map(read).collect();
        let kernels = kernels.map_err(|e| bad_input(kernels::with_cause(&e)))?;
        let releases: Vec<&str> = kernels.iter().map(LocalKernel::release).collect();
        let (from, to) = (self.arguments.from.as_deref(), self.arguments.to.as_deref());
        let (first, end) = between(&releases, from, to).map_err(bad_input)?;
        let names = names(&releases, files).map_err(bad_input)?;
        let chosen = names.into_iter().zip(kernels).take(end).skip(first);
        Ok(chosen
            .map(|(name, kernel)| Candidate { name, replacement: Replacement::LocalKernel(kernel) })
            .collect())
    }
}

fn bad_input(why: String) -> Failure {
    Failure::bad_input(miette::miette!("{why}"))
}

/// Unique names of kernels. Kernels built from commits can share a release, and then have the file in the name.
fn names(releases: &[&str], files: &[PathBuf]) -> Result<Vec<String>, String> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for release in releases {
        *count.entry(*release).or_default() += 1;
    }
    if let Some((at, file)) = files.iter().enumerate().find(|(at, file)| files[..*at].contains(file)) {
        return Err(kernels::escaped(&format!(
            "--kernel {} ({}) is given twice",
            file.display(),
            releases[at]
        )));
    }
    let name = |(release, file): (&&str, &PathBuf)| match count[release] {
        1 => (*release).to_owned(),
        _ => format!("{release} ({})", file.display()),
    };
    Ok(releases.iter().zip(files).map(name).collect())
}

/// The index of the first kernel and that after the last one. `--from` and `--to` must name releases of given kernels, since the
/// order of other releases is unknown: `6.12.0-rc1` comes before `6.12.0`, but after it in Debian's order.
fn between(releases: &[&str], from: Option<&str>, to: Option<&str>) -> Result<(usize, usize), String> {
    let none = |option: &str, bound: &str| {
        let given = releases.join(", ");
        kernels::escaped(&format!(
            "{option} {bound}: with --kernel, name the release of a given kernel: {given}"
        ))
    };
    let first = match from {
        Some(bound) => releases.iter().position(|release| *release == bound),
        None => Some(0),
    };
    let last = match to {
        Some(bound) => releases.iter().rposition(|release| *release == bound),
        None => releases.len().checked_sub(1),
    };
    let first = first.ok_or_else(|| none("--from", from.unwrap_or_default()))?;
    let last = last.ok_or_else(|| none("--to", to.unwrap_or_default()))?;
    Ok((first, last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASES: [&str; 4] = ["6.12.0-rc3", "6.12.0-rc4", "6.12.0", "6.12.0"];

    #[test]
    fn kernels_of_one_release_have_their_files_in_their_names() {
        let files = ["a", "b", "c/bzImage", "d/bzImage"].map(PathBuf::from);
        let names_of = |files: &[PathBuf]| names(&RELEASES, files);
        let unique = names_of(&files).unwrap();
        assert_eq!(unique, ["6.12.0-rc3", "6.12.0-rc4", "6.12.0 (c/bzImage)", "6.12.0 (d/bzImage)"]);
        let twice = ["a", "b", "c", "c"].map(PathBuf::from);
        assert_eq!(names_of(&twice).unwrap_err(), "--kernel c (6.12.0) is given twice");
    }

    #[test]
    fn bounds_are_releases_that_were_given() {
        assert_eq!(between(&RELEASES, None, None), Ok((0, 4)));
        assert_eq!(between(&RELEASES, Some("6.12.0-rc4"), None), Ok((1, 4)));
        assert_eq!(between(&RELEASES, Some("6.12.0"), Some("6.12.0")), Ok((2, 4)));
        assert_eq!(between(&RELEASES, None, Some("6.12.0-rc4")), Ok((0, 2)));
        let unknown = between(&RELEASES, Some("6.12"), None).unwrap_err();
        assert!(unknown.starts_with("--from 6.12: with --kernel, name the release"), "{unknown}");
        assert!(unknown.ends_with("6.12.0-rc3, 6.12.0-rc4, 6.12.0, 6.12.0"), "{unknown}");
    }
}
