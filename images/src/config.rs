//! The folders in which a user's sources and media are configured, one file for each, and the names of those files.

use crate::Error;
use crate::cache::entries;
use nestmatrix_model::Isa;
use std::env;
use std::path::{Path, PathBuf};

/// Why nothing can be added if no setting names the folder.
pub(crate) const NO_FOLDER: &str =
    "none of NESTMATRIX_CONFIG, XDG_CONFIG_HOME and HOME is set; set NESTMATRIX_CONFIG to a folder";

/// A folder in `NESTMATRIX_CONFIG`, `XDG_CONFIG_HOME/nestmatrix` or `HOME/.config/nestmatrix`, whichever is set first.
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = variable("NESTMATRIX_CONFIG")
        .or_else(|| variable("XDG_CONFIG_HOME").map(|folder| folder.join("nestmatrix")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".config/nestmatrix")))?;
    Some(config.join(name))
}

/// The TOML files of such a folder, by name. A folder that does not exist has none.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = entries(folder)?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    Ok(files)
}

/// Name of a file, without its ending.
pub(crate) fn file_stem(name: &str, isa: Isa) -> String {
    format!("{name}-{isa}")
}

/// `rhel` and `9.4` of `rhel-9.4`. Both become parts of paths.
pub(crate) fn split(name: &str) -> Option<(&str, &str)> {
    let (system, version) = name.rsplit_once('-')?;
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let mut parts = version.split('.');
    let is_version = parts.clone().count() <= 2 && parts.all(digits);
    let is_system = system.starts_with(|c: char| c.is_ascii_lowercase()) && system.chars().all(word);
    (is_version && is_system).then_some((system, version))
}

/// Whether a version is the other one, or a more exact form of it: an image may only say `7`, or even `9.4.0`.
pub(crate) fn is_part(exact: &str, version: &str) -> bool {
    exact.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_system_and_a_version() {
        for (name, parts) in [
            ("rhel-9.4", Some(("rhel", "9.4"))),
            ("centos-stream-9", Some(("centos-stream", "9"))),
            ("fedora-42", Some(("fedora", "42"))),
            ("rhel", None),
            ("rhel-", None),
            ("rhel-9.4.1", None),
            ("rhel-9.", None),
            ("../x-9", None),
            ("-9.4", None),
            ("RHEL-9.4", None),
        ] {
            assert_eq!(split(name), parts, "{name}");
        }
    }

    #[test]
    fn versions_may_be_more_or_less_exact() {
        assert!(is_part("9.4", "9.4") && is_part("9.4.0", "9.4") && is_part("7.9", "7"));
        assert!(!is_part("9.40", "9.4") && !is_part("9.4", "9.5"));
    }
}
