//! Chooses the archive: the setting, or one from the host's apt configuration. This program contains no archive address.

use crate::Error;
use crate::apt::not_started;
use crate::tool::{self, command};
use std::ffi::OsString;

/// Suffixes of suites that hold only a part of a distribution.
const PARTIAL: [&str; 4] = ["-security", "-updates", "-proposed-updates", "-backports"];

/// Addresses of the archives from which images of this origin and these suites are made, the most likely first: the one that
/// `NESTMATRIX_ARCHIVE` names, or those of the host's apt configuration.
///
/// # Errors
/// [`Error::NoArchive`] if apt's sources name none; apt is missing.
pub fn archives(origin: &str, suites: &[String]) -> Result<Vec<String>, Error> {
    match std::env::var("NESTMATRIX_ARCHIVE") {
        Ok(archive) if !archive.is_empty() => Ok(vec![archive]),
        _ => candidates(origin, suites, &[]),
    }
}

/// Addresses of archives of this origin, the most likely first. If the host's apt has no lists (a fresh container), origins are
/// unknown, and all main sources are returned. The signature check rejects a wrong one.
pub(crate) fn candidates(
    origin: &str,
    suites: &[String],
    wrapper: &[OsString],
) -> Result<Vec<String>, Error> {
    // Both commands work without network, root and an earlier `apt-get update`.
    let format = "$(CREATED_BY)\t$(REPO_URI)\t$(RELEASE)\t$(ORIGIN)";
    let targets = ask(wrapper, &["indextargets", "--format", format])?;
    let mut found = from_targets(&targets, origin, suites);
    if found.is_empty() {
        found = from_releases(&ask(wrapper, &["update", "--print-uris"])?);
    }
    if found.is_empty() {
        return Err(Error::NoArchive { origin: origin.to_owned(), suites: suites.join(", ") });
    }
    Ok(found)
}

/// Suffix of suites that are in a separate archive.
const SEPARATE: &str = "-security";

/// Address of the archive of a suite that is not in the main archive. The host's apt may have that suite for another release.
pub(crate) fn separate(origin: &str, suite: &str, wrapper: &[OsString]) -> Result<Option<String>, Error> {
    let Some(end) = suite.ends_with(SEPARATE).then_some(SEPARATE) else { return Ok(None) };
    let format = "$(CREATED_BY)\t$(REPO_URI)\t$(RELEASE)\t$(ORIGIN)";
    let targets = ask(wrapper, &["indextargets", "--format", format])?;
    let found = partial_from_targets(&targets, origin, end);
    if found.is_some() {
        return Ok(found);
    }
    Ok(partial_from_releases(&ask(wrapper, &["update", "--print-uris"])?, end))
}

fn partial_from_targets(targets: &str, origin: &str, end: &str) -> Option<String> {
    targets.lines().find_map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
        ["Packages", uri, release, found] if found == origin && release.ends_with(end) => {
            Some(uri.trim_end_matches('/').to_owned())
        }
        _ => None,
    })
}

fn partial_from_releases(uris: &str, end: &str) -> Option<String> {
    uris.lines().find_map(|line| {
        let uri = line.strip_prefix('\'')?.split_once('\'')?.0.strip_suffix("/InRelease")?;
        let (archive, suite) = uri.rsplit_once("/dists/")?;
        suite.ends_with(end).then(|| archive.to_owned())
    })
}

/// The full suite that a partial suite belongs to; any other suite is returned unchanged.
pub(crate) fn whole(suite: &str) -> &str {
    PARTIAL.iter().find_map(|end| suite.strip_suffix(end)).unwrap_or(suite)
}

fn ask(wrapper: &[OsString], arguments: &[&str]) -> Result<String, Error> {
    let program = "apt-get";
    let ended = tool::run(command(wrapper, program).args(arguments), |_| false);
    Ok(ended.map_err(not_started(program))?.output)
}

/// Parses `apt-get indextargets`: one line per index. Archives with the recipe's suites come first.
fn from_targets(targets: &str, origin: &str, suites: &[String]) -> Vec<String> {
    let mut found: Vec<(bool, String)> = Vec::new();
    for line in targets.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        if let ["Packages", uri, release, found_origin] = fields[..]
            && found_origin == origin
            && is_main(release)
        {
            found.push((!suites.iter().any(|suite| suite == release), uri.trim_end_matches('/').to_owned()));
        }
    }
    found.sort_by_key(|(other_suite, _)| *other_suite);
    unique(found.into_iter().map(|(_, uri)| uri))
}

/// Parses `apt-get update --print-uris`: `'ADDRESS/dists/SUITE/InRelease' ...`.
fn from_releases(uris: &str) -> Vec<String> {
    unique(uris.lines().filter_map(|line| {
        let (uri, suite) = line
            .strip_prefix('\'')?
            .split_once('\'')?
            .0
            .strip_suffix("/InRelease")?
            .rsplit_once("/dists/")?;
        is_main(suite).then(|| uri.to_owned())
    }))
}

fn is_main(suite: &str) -> bool {
    !PARTIAL.iter().any(|end| suite.ends_with(end)) && !suite.contains('/')
}

fn unique(uris: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = Vec::new();
    for uri in uris.filter(|uri| !uri.starts_with("cdrom:")) {
        if !all.contains(&uri) {
            all.push(uri);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_of_the_origin_is_chosen_and_that_of_the_suite_first() {
        let targets = "DEP-11\thttp://x.example/debian/\tbookworm\tDebian\n\
            Packages\thttp://s.example/debian-security/\tbookworm-security\tDebian\n\
            Packages\thttp://old.example/debian/\tbullseye\tDebian\n\
            Packages\thttp://a.example/debian/\tbookworm\tDebian\n\
            Packages\thttp://a.example/debian/\tbookworm-updates\tDebian\n\
            Packages\thttp://vendor.example/apt/\tbookworm\tVendor\n";
        let suites = ["bookworm".to_owned()];
        assert_eq!(
            from_targets(targets, "Debian", &suites),
            ["http://a.example/debian", "http://old.example/debian"]
        );
        assert!(from_targets(targets, "Ubuntu", &suites).is_empty());
    }

    #[test]
    fn a_partial_suite_is_in_the_archive_where_the_host_has_such_a_suite() {
        let targets = "Packages\thttp://a.example/debian/\tbookworm\tDebian\n\
            Packages\thttp://s.example/debian-security/\tbookworm-security\tDebian\n";
        let found = |end| partial_from_targets(targets, "Debian", end);
        assert_eq!(found("-security").as_deref(), Some("http://s.example/debian-security"));
        assert_eq!(found("-backports"), None);
        let uris = "'http://a.example/debian/dists/trixie/InRelease' a_InRelease 0 \n\
            'http://s.example/debian-security/dists/trixie-security/InRelease' c_InRelease 0 \n";
        let found = partial_from_releases(uris, "-security");
        assert_eq!(found.as_deref(), Some("http://s.example/debian-security"));
        assert_eq!((whole("trixie-backports"), whole("sid")), ("trixie", "sid"));
    }

    #[test]
    fn without_lists_every_main_source_is_a_candidate() {
        let uris = "'http://a.example/debian/dists/trixie/InRelease' a_InRelease 0 \n\
            'http://a.example/debian/dists/trixie-updates/InRelease' b_InRelease 0 \n\
            'http://s.example/debian-security/dists/trixie-security/InRelease' c_InRelease 0 \n\
            'http://a.example/debian/dists/trixie/main/binary-amd64/Packages.xz' d_Packages 0 \n";
        assert_eq!(from_releases(uris), ["http://a.example/debian"]);
    }
}
