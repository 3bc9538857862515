//! Reads RPM packages into memory, without root, files on disk and scriptlets.

use crate::deb::LEFT_OUT;
use crate::package_source::PackageFormat;
use crate::tree::{File, Node, Tree, merged};
use crate::{Error, Package};
use rpm::FileType;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// Digits of the digest in a file's name.
const DIGITS: usize = 12;

/// The format of RPM packages.
#[derive(Debug)]
pub(crate) struct Rpm;

impl PackageFormat for Rpm {
    /// Rebuilds of one distribution have packages of the same name and version with different contents, so the name has a part of
    /// the digest.
    fn file_name(&self, package: &Package) -> String {
        let Package { name, version, architecture, sha256 } = package;
        let digits = sha256.as_str();
        let start = start_of_name(name, version, architecture);
        format!("{start}.{}.rpm", digits.get(..DIGITS).unwrap_or(digits))
    }

    fn compare_versions(&self, a: &str, b: &str) -> Ordering {
        rpm_version::rpm_evr_compare(a, b)
    }

    fn is_package(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension == "rpm")
    }

    fn read(&self, path: &Path, number: usize) -> Result<Tree, Error> {
        unless_damaged(|| read(path, number))
            .map_err(|e| Error::Package { path: path.to_owned(), message: e.to_string() })
    }
}

/// Reads a part of a package. The crate calculates with the sizes that a header claims, and panics where they overflow.
fn unless_damaged<T>(read: impl FnOnce() -> Result<T, rpm::Error>) -> Result<T, rpm::Error> {
    let damaged = |_| Err(io::Error::other("its header is damaged").into());
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(damaged)
}

fn start_of_name(name: &str, version: &str, architecture: &str) -> String {
    format!("{name}-{}.{architecture}", version.replace(':', "%3a"))
}

/// Makes sure that a file in the cache holds the package that it is named after. Nobody signs a repository's metadata, so it may list
/// one package under the name of another, such as an older kernel. Both have valid signatures.
///
/// # Errors
/// [`Error::OtherPackage`] if it holds another one, [`Error::Package`] if it cannot be read.
pub(super) fn check_name(path: &Path) -> Result<(), Error> {
    let unreadable = |e: rpm::Error| Error::Package { path: path.to_owned(), message: e.to_string() };
    let header = unless_damaged(|| rpm::PackageMetadata::open(path)).map_err(unreadable)?;
    let field = |field: Result<&str, rpm::Error>| field.map(str::to_owned).map_err(unreadable);
    let epoch = header.get_epoch().ok().filter(|epoch| *epoch != 0).map(|epoch| format!("{epoch}:"));
    let (version, release) = (field(header.get_version())?, field(header.get_release())?);
    let version = format!("{}{version}-{release}", epoch.unwrap_or_default());
    let found = start_of_name(&field(header.get_name())?, &version, &field(header.get_arch())?);
    let file = path.file_stem().unwrap_or_default().to_string_lossy();
    let named_after = file.rsplit_once('.').map_or(&*file, |(start, _)| start);
    if found == named_after {
        return Ok(());
    }
    Err(Error::OtherPackage { path: path.to_owned(), found: found.replace("%3a", ":") })
}

/// The files of a package, marked as coming from package number `number`.
fn read(path: &Path, number: usize) -> Result<Tree, rpm::Error> {
    let package = rpm::Package::open(path)?;
    let mut tree = Tree::default();
    // Only one of several hard links has the contents; the digest of all of them is the same.
    let mut linked = Vec::new();
    let mut contents = HashMap::new();
    for file in package.files()? {
        let file = file?;
        let path = file.metadata.path().to_string_lossy().trim_start_matches('/').to_owned();
        let plain = merged(&path);
        if LEFT_OUT.iter().any(|folder| plain.starts_with(folder)) {
            continue;
        }
        match file.metadata.file_type() {
            FileType::Regular => {
                let executable = file.metadata.permissions() & 0o111 != 0;
                let digest = file.metadata.digest().cloned();
                let Some(data) = content(&file) else {
                    // Files that only the installed system creates have no digest.
                    linked.extend(digest.map(|digest| (path, executable, digest)));
                    continue;
                };
                let data: Arc<[u8]> = Arc::from(data);
                contents.extend(digest.map(|digest| (digest, Arc::clone(&data))));
                tree.insert(&path, Node::File(File { data, executable, package: Some(number) }));
            }
            FileType::SymbolicLink => {
                tree.insert(&path, Node::Link(file.metadata.linkto().unwrap_or_default().to_owned()));
            }
            // Files create their folders, and images need no devices or pipes from packages.
            _ => {}
        }
    }
    for (path, executable, digest) in linked {
        if let Some(data) = contents.get(&digest) {
            let file = File { data: Arc::clone(data), executable, package: Some(number) };
            tree.insert(&path, Node::File(file));
        }
    }
    Ok(tree)
}

/// The contents of a file, if the package has them at this name.
fn content(file: &rpm::RpmFile<'_>) -> Option<Vec<u8>> {
    let content = file.content()?;
    (content.len() == file.metadata.size()).then(|| content.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_the_package_that_it_is_named_after() {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = rpm::PackageBuilder::new("kernel-core", "5.14.0", "GPLv2", "x86_64", "a kernel");
        let package = builder.epoch(3).release("427.el9").build().unwrap();
        let checked = |name: &str| {
            let path = folder.path().join(name);
            package.write_file(&path).unwrap();
            check_name(&path)
        };
        checked("kernel-core-3%3a5.14.0-427.el9.x86_64.0123456789ab.rpm").unwrap();
        for other in [
            "kernel-core-3%3a5.14.0-503.el9.x86_64.0123456789ab.rpm",
            "kernel-core-5.14.0-427.el9.x86_64.0123456789ab.rpm",
            "kernel-core-3%3a5.14.0-427.el9.noarch.0123456789ab.rpm",
        ] {
            let error = checked(other).unwrap_err().to_string();
            assert!(error.contains("holds kernel-core-3:5.14.0-427.el9.x86_64;"), "{error}");
        }
    }

    #[test]
    fn versions_are_in_the_order_of_rpm() {
        let versions = [
            "5.14.0-427.el9",
            "5.14.0-427.13.1.el9_4",
            "5.14.0-503.el9",
            "6.12.0~rc1-1.el10",
            "6.12.0-1.el10",
            "17:1.0-1",
        ];
        for pair in versions.windows(2) {
            assert_eq!(Rpm.compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
    }

    /// A package of one file.
    fn package() -> &'static [u8] {
        static PACKAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        PACKAGE.get_or_init(|| {
            let mut builder =
                rpm::PackageBuilder::new("kernel-core", "5.14.0", "GPLv2", "x86_64", "a kernel");
            builder.with_file_contents("text", rpm::FileOptions::new("/usr/bin/tool")).unwrap();
            let mut bytes = Vec::new();
            builder.build().unwrap().write(&mut bytes).unwrap();
            bytes
        })
    }

    #[test]
    fn sizes_in_a_header_that_overflow_are_an_error() {
        // The number of entries and the size of the header that follow the signature's magic number.
        let magic = [0x8e, 0xad, 0xe8, 0x01];
        let at = package().windows(4).position(|four| four == magic).unwrap() + 8;
        let mut bytes = package().to_vec();
        bytes[at..at + 4].fill(0xff);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernel-core-5.14.0-1.x86_64.rpm");
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(check_name(&path), Err(Error::Package { .. })));
        assert!(matches!(Rpm.read(&path, 0), Err(Error::Package { .. })));
    }

    proptest::proptest! {
        #[test]
        fn a_damaged_package_is_refused_or_read(at in 0..package().len(), byte: u8, length in 0..=package().len()) {
            let folder = tempfile::tempdir().unwrap();
            let mut bytes = package().to_vec();
            bytes.truncate(length);
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
            let path = folder.path().join("kernel-core-5.14.0-1.x86_64.rpm");
            std::fs::write(&path, bytes).unwrap();
            let _ = (check_name(&path), Rpm.read(&path, 0));
        }
    }
}
