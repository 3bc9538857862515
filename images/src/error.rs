//! Everything that can go wrong between a recipe and an image, with what the reader can do about it.

use crate::{Product, Undelivered};
use nestmatrix_model::Isa;
use std::io;
use std::path::{Path, PathBuf};

/// Why a recipe could not be read or an image not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe file is not what a recipe has to be.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Recipe {
        /// The recipe's file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: "open", "write" ...
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// There is no folder to keep images in.
    #[error(
        "no cache folder: none of NESTMATRIX_CACHE, XDG_CACHE_HOME and HOME is set; set NESTMATRIX_CACHE"
    )]
    NoCache,
    /// A path does not fit into apt's configuration syntax.
    #[error("{} cannot be told to apt: it holds a quote, a line break or is not UTF-8; choose another path", .0.display())]
    UnspeakablePath(PathBuf),
    /// The recipe does not make this product.
    #[error("recipe {recipe} has no product {product}")]
    NoSuchProduct {
        /// Name of the recipe.
        recipe: String,
        /// The product asked for.
        product: Product,
    },
    /// Images are wanted that the cache lacks, and the network may not be used.
    #[error("offline, and the cache lacks {}; run once with the network", .missing.join(", "))]
    Offline {
        /// Every missing image, as `recipe (product)`, with the reason if it is there but damaged.
        missing: Vec<String>,
    },
    /// `apt-get` or `apt-config` could not be started.
    #[error("cannot start {program}: packages are fetched with the host's apt; install it")]
    NoApt {
        /// The program, or the wrapper that starts it.
        program: String,
        /// What the system answered.
        source: io::Error,
    },
    /// A tool that fetches packages failed.
    #[error("{tool} could not {action} ({status}):\n{output}")]
    PackageTool {
        /// Its name: `apt-get`.
        tool: &'static str,
        /// What it was asked for.
        action: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote on standard error.
        output: String,
    },
    /// The archive lists packages that it cannot deliver: it has to be tried again later, or another one.
    #[error("{0}; try again later, or name another archive with NESTMATRIX_ARCHIVE")]
    Undelivered(Box<Undelivered>),
    /// The host's apt configuration names no archive that could be the recipe's.
    #[error(
        "the host's apt sources name no archive of {origin}: set NESTMATRIX_ARCHIVE to the address of one that has {suites}"
    )]
    NoArchive {
        /// The recipe's origin.
        origin: String,
        /// The recipe's suites.
        suites: String,
    },
    /// None of the archives that were tried has the recipe's suites, properly signed.
    #[error("no archive gave {suites}; NESTMATRIX_ARCHIVE names another one. Tried:\n{tried}")]
    ArchiveFailed {
        /// The recipe's suites.
        suites: String,
        /// Each address with apt's words.
        tried: String,
    },
    /// The keyring that vouches for the archive is not on this host.
    #[error(
        "no keyring {}: install the package that has it (debian-archive-keyring for Debian), or set NESTMATRIX_KEYRING",
        .0.display()
    )]
    NoKeyring(PathBuf),
    /// apt answered in a form that this program does not understand.
    #[error("apt-get answered {line:?} where {expected} was expected")]
    AptAnswer {
        /// The line.
        line: String,
        /// What a line there should have been.
        expected: &'static str,
    },
    /// A downloaded package is not the one that the archive's signed index names.
    #[error("package file {} has SHA-256 {found}, the archive's index says {expected}", path.display())]
    PackageDigest {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// A package cannot be unpacked.
    #[error("cannot unpack {}: {message}", path.display())]
    Package {
        /// The package's file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Something can't take the place of a part of an image.
    #[error("{what}: {message}")]
    Replacement {
        /// What was given.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// A kernel can't be booted by what the recipe's images are for.
    #[error("{what}: it is a kernel for {kernel}, and {recipe} is for {wanted}")]
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
    /// Packages are gone that an image was made of, so nothing can be derived from it.
    #[error(
        "the cache lacks packages that {recipe} was made of ({}); `cargo xtask images build --refresh {recipe}` brings \
         current ones", .files.join(", ")
    )]
    PackagesGone {
        /// The recipe.
        recipe: String,
        /// The files of some of them.
        files: Vec<String>,
    },
    /// The packages do not hold what the recipe takes from them.
    #[error("recipe {recipe}: {message}")]
    Assemble {
        /// Name of the recipe.
        recipe: String,
        /// What is missing or unreadable, and who wanted it.
        message: String,
    },
    /// An image in the cache is not what it was when it was built.
    #[error("image {} is damaged: {reason}", path.display())]
    Damaged {
        /// Folder of the image.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// An image was damaged while it was being handed out, just after it had been built.
    #[error("image {} does not verify just after it was built: {reason}", path.display())]
    Corrupted {
        /// Folder of the image.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The cache is in use by another process, so nothing may be removed from it.
    #[error("cache {} is in use by another process; try again when it has ended", .0.display())]
    InUse(PathBuf),
}

impl Error {
    /// Makes the error of a file operation: `.map_err(Error::io("open", path))`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
