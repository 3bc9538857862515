//! All errors of building images, with advice on how to fix them.

use crate::{MediumError, Product, Undelivered};
use nestmatrix_model::{Firmware, Isa, PROGRAM};
use std::io;
use std::path::{Path, PathBuf};

/// Why an image is not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// The failed action: "open", "write" ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// No setting names the cache folder.
    #[error(
        "no cache folder: none of NESTMATRIX_CACHE, XDG_CACHE_HOME and HOME is set; set NESTMATRIX_CACHE"
    )]
    NoCache,
    /// apt's configuration syntax cannot hold a path.
    #[error(
        "apt cannot use the path {}: it contains a quote or a line break, or is not UTF-8; choose another path",
        .0.display()
    )]
    AptPath(PathBuf),
    /// The path of a keyring cannot be written in apt's list of sources.
    #[error(
        "apt cannot use the keyring {}: its path contains a blank, a comma or a bracket, or is not UTF-8; copy it to another path",
        .0.display()
    )]
    KeyringPath(PathBuf),
    /// The recipe does not make this product.
    #[error("recipe {recipe} has no product {product}")]
    NoSuchProduct {
        /// Name of the recipe.
        recipe: String,
        /// The product asked for.
        product: Product,
    },
    /// Images are missing from the cache, and the network may not be used.
    #[error("offline, and missing from the cache: {}; run once without --offline", .missing.join(", "))]
    Offline {
        /// All missing images, as `PRODUCT of RECIPE`, with the reason if one is damaged.
        missing: Vec<String>,
    },
    /// `apt-get` or `apt-config` could not be started.
    #[error("cannot start {program}, which downloads packages; install apt")]
    NoApt {
        /// Its name.
        program: &'static str,
        /// The error of the operating system or the wrapper.
        source: io::Error,
    },
    /// A tool that handles packages could not be started.
    #[error("cannot start {program}, which {does}; install {install}")]
    NoTool {
        /// Its name.
        program: &'static str,
        /// What it is needed for.
        does: &'static str,
        /// The packages to install.
        install: &'static str,
        /// The error of the operating system or the wrapper.
        source: io::Error,
    },
    /// A tool that fetches packages failed.
    #[error("{tool} could not {action} ({status}):\n{output}")]
    PackageTool {
        /// Its name: `apt-get`.
        tool: &'static str,
        /// What it was asked for.
        action: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// Its standard error.
        output: String,
    },
    /// The archive lists packages that it cannot deliver.
    #[error(
        "{0}; try again later, or choose another archive: with NESTMATRIX_ARCHIVE for Debian, with \
         `{program} sources add` for RPM packages",
        program = PROGRAM
    )]
    Undelivered(Box<Undelivered>),
    /// The host's apt configuration names no archive for the recipe.
    #[error(
        "the host's apt sources name no archive of {origin}; set NESTMATRIX_ARCHIVE to the address of one that has {suites}"
    )]
    NoArchive {
        /// The recipe's origin.
        origin: String,
        /// The recipe's suites.
        suites: String,
    },
    /// No tried archive has the recipe's suites with valid signatures.
    #[error("no archive has {suites}; set NESTMATRIX_ARCHIVE to another one. Tried:\n{tried}")]
    ArchiveFailed {
        /// The recipe's suites.
        suites: String,
        /// Each address with apt's error.
        tried: String,
    },
    /// The keyring that verifies the archive is not on this host.
    #[error(
        "no keyring {}; install its package (debian-archive-keyring for Debian), or set NESTMATRIX_KEYRING",
        .0.display()
    )]
    NoKeyring(PathBuf),
    /// apt printed something unexpected.
    #[error("apt-get printed {line:?} instead of {expected}")]
    AptAnswer {
        /// The line.
        line: String,
        /// The expected form.
        expected: &'static str,
    },
    /// This machine has neither apt nor a busybox for the images.
    #[error("no static busybox for {0}; install busybox (Fedora), or apt and debian-archive-keyring")]
    NoBusybox(Isa),
    /// A source of RPM packages cannot be read.
    #[error(
        "source {name} cannot be read; if `{program} sources list` shows an old place, add it again. Tried:\n{tried}",
        program = PROGRAM
    )]
    SourceFailed {
        /// Its name.
        name: String,
        /// Its place with dnf's error.
        tried: String,
    },
    /// A source's settings are wrong.
    #[error("{}: {message}", path.display())]
    Source {
        /// The file of the settings, or the folder of all sources.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A source cannot be added.
    #[error("cannot add the source {name}: {reason}")]
    NewSource {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A medium cannot be added.
    #[error("cannot add the medium {name}: {reason}")]
    NewMedium {
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A disk image cannot be used.
    #[error("{0}")]
    Medium(Box<MediumError>),
    /// A disk has not been prepared to be a level.
    #[error("{recipe} is not prepared; prepare it with `{program} media prepare {medium}`", program = PROGRAM)]
    NotPrepared {
        /// Name of the recipe.
        recipe: String,
        /// Name of the medium.
        medium: String,
    },
    /// The preparation of a disk failed.
    #[error("the medium {medium} could not be prepared: {reason}")]
    Preparation {
        /// Name of the medium.
        medium: String,
        /// What the system inside reported.
        reason: String,
    },
    /// A disk holds another system than its name says.
    #[error(
        "the medium {medium} holds {system} {version}, as that system itself says; \
         add it as {system}-{version} with `{program} media add`",
        program = PROGRAM
    )]
    OtherSystem {
        /// Name of the medium.
        medium: String,
        /// `ID` of its os-release(5).
        system: String,
        /// `VERSION_ID` of its os-release(5).
        version: String,
    },
    /// There is no firmware for a disk.
    #[error("{recipe} boots with the firmware {firmware}, and no recipe makes that for its architecture")]
    NoFirmware {
        /// Name of the recipe.
        recipe: String,
        /// The firmware.
        firmware: Firmware,
    },
    /// A file is not an installation image.
    #[error("{} is not an installation image: {reason}", path.display())]
    NotADvd {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The metadata of a repository is missing or damaged.
    #[error("the repository metadata in {}: {message}", path.display())]
    Metadata {
        /// The repository's folder.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Packages do not have a valid signature of the source's key.
    #[error(
        "{} not signed by a key in {}, or damaged: {}; the key is set with `{program} sources add --key FILE`",
        if let [_] = .packages.as_slice() { "a package is" } else { "packages are" },
        key.display(),
        some(.packages),
        program = PROGRAM
    )]
    Signature {
        /// The file of the keys.
        key: PathBuf,
        /// The packages, each with what rpmkeys says.
        packages: Vec<String>,
    },
    /// A download succeeded without a package that it should have brought.
    #[error("source {name} did not deliver {file}")]
    PackageMissing {
        /// Name of the source.
        name: String,
        /// Name of the package's file.
        file: String,
    },
    /// A downloaded package differs from the archive's signed index.
    #[error("package file {} has SHA-256 {found}, but the archive's index has {expected}", path.display())]
    PackageDigest {
        /// The file.
        path: PathBuf,
        /// The file's SHA-256.
        found: String,
        /// The index's SHA-256.
        expected: String,
    },
    /// A repository lists a package under another package's name.
    #[error("package file {} holds {found}; its repository lists it wrongly, so use another one", path.display())]
    OtherPackage {
        /// The file.
        path: PathBuf,
        /// The package in it.
        found: String,
    },
    /// A package cannot be unpacked.
    #[error("cannot unpack {}: {message}", path.display())]
    Package {
        /// The package's file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Something cannot replace a component of an image.
    #[error("{what}: {message}")]
    Replacement {
        /// The given replacement.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// A kernel is for another architecture than the recipe's images.
    #[error("{what}: it is a kernel for {kernel}, but {recipe} is for {wanted}")]
    OtherArchitecture {
        /// The kernel's files.
        what: String,
        /// What it is for.
        kernel: Isa,
        /// Name of the recipe.
        recipe: String,
        /// What that one is for.
        wanted: Isa,
    },
    /// Packages of an image are missing from the cache, so nothing can be derived from it.
    #[error(
        "packages of {recipe} are missing from the cache ({}); download current ones with \
         `{program} images build --refresh {recipe}`", .files.join(", "), program = PROGRAM
    )]
    PackagesGone {
        /// The recipe.
        recipe: String,
        /// Some of the missing files.
        files: Vec<String>,
    },
    /// Something that the recipe needs is missing from its packages.
    #[error("recipe {recipe}: {message}")]
    Assemble {
        /// Name of the recipe.
        recipe: String,
        /// What is missing or unreadable, and what needs it.
        message: String,
    },
    /// A unified kernel image can't be made.
    #[error("cannot make a unified kernel image with {}: {why}", stub.display())]
    UnifiedKernel {
        /// The UEFI program that starts the kernel.
        stub: PathBuf,
        /// Why not.
        why: String,
    },
    /// A file is too large for a FAT volume.
    #[error("{name} has {size} bytes, but a file on a FAT volume has at most {} (4 GiB - 1)", u32::MAX)]
    TooLargeForFat {
        /// Its name on the volume.
        name: String,
        /// Its size.
        size: u64,
    },
    /// A file that a Windows role needs from the user.
    #[error(
        "the role {role} of {medium} needs the file {file}; add the medium again with `--file {file}=PATH` (docs/windows.md)"
    )]
    MissingUserFile {
        /// The medium.
        medium: String,
        /// The role.
        role: String,
        /// The file's name.
        file: String,
    },
    /// An image in the cache has changed since it was built.
    #[error("image {} is damaged: {reason}", path.display())]
    Damaged {
        /// Folder of the image.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// An image was damaged right after it was built.
    #[error("image {} is damaged right after it was built: {reason}", path.display())]
    Corrupted {
        /// Folder of the image.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A path can't be used as a test suite or a program, or the record of one is wrong.
    #[error("cannot use {} as a payload: {reason}", path.display())]
    Suite {
        /// The path or the record.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Another process uses the cache, so nothing may be removed from it.
    #[error("another process uses the cache {}; try again when it has ended", .0.display())]
    InUse(PathBuf),
}

/// The first of many, and the number of the others.
fn some(words: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = words.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match words.len().saturating_sub(SHOWN) {
        0 => shown,
        others => format!("{shown}, and {others} more"),
    }
}

impl Error {
    /// Makes the error of a file operation: `.map_err(Error::io("open", path))`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { action, path: path.to_owned(), cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_of_many_packages_are_named() {
        let packages = |number| ["a", "b", "c", "d", "e"].map(str::to_owned)[..number].to_vec();
        assert_eq!(some(&packages(3)), "a, b, c");
        assert_eq!(some(&packages(5)), "a, b, c, and 2 more");
    }
}
