//! Which archive to ask: a setting, or else what the host's own apt configuration names. None is written in this program.

use crate::Error;
use crate::apt::{command, not_started};
use std::ffi::OsString;
use std::process::Stdio;

/// Suites that hold only a part of a distribution, by the end of their name.
const PARTIAL: [&str; 4] = ["-security", "-updates", "-proposed-updates", "-backports"];

/// Addresses of archives of this origin, the likeliest first. If the host's apt has no lists (a fresh container), it
/// cannot tell origins, and every source that could be meant is returned: a wrong one fails by its signature.
pub(crate) fn candidates(
    origin: &str,
    suites: &[String],
    wrapper: &[OsString],
) -> Result<Vec<String>, Error> {
    // Both work on what is there: no network, no root, no `apt-get update` before.
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

/// The end of the names of suites that lie in an archive of their own.
const ELSEWHERE: &str = "-security";

/// Address of the archive that holds a suite which is not in the main archive; of whichever release the host's apt has such
/// a suite.
pub(crate) fn beside(origin: &str, suite: &str, wrapper: &[OsString]) -> Result<Option<String>, Error> {
    let Some(end) = suite.ends_with(ELSEWHERE).then_some(ELSEWHERE) else { return Ok(None) };
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

/// The suite that a suite of only a part of a distribution belongs to; the same for any other.
pub(crate) fn whole(suite: &str) -> &str {
    PARTIAL.iter().find_map(|end| suite.strip_suffix(end)).unwrap_or(suite)
}

fn ask(wrapper: &[OsString], arguments: &[&str]) -> Result<String, Error> {
    let mut command = command(wrapper, "apt-get");
    let output = command.args(arguments).stdin(Stdio::null()).output().map_err(not_started(&command))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// From `apt-get indextargets`: one line each index. Those of a suite that the recipe wants go first.
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

/// From `apt-get update --print-uris`: `'ADDRESS/dists/SUITE/InRelease' ...`.
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
    fn a_suite_of_a_part_is_looked_for_where_the_host_has_its_like() {
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
