//! The progress of a build, as events for a terminal, a log or a test.

use crate::Product;

/// Receives the events of builds. Several threads unpack packages and call it at once.
pub trait Progress: Sync {
    /// Receives an event.
    fn event(&self, event: &ProgressEvent<'_>);
}

/// One event.
#[derive(Debug, Clone, Copy)]
pub struct ProgressEvent<'a> {
    /// Name of the recipe that is being built.
    pub recipe: &'a str,
    /// What happened.
    pub step: Step<'a>,
}

/// A step of a recipe's build.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Step<'a> {
    /// Waiting for another process that builds this recipe.
    Waiting,
    /// The packages' current versions are being resolved.
    Resolving,
    /// Packages are being downloaded.
    Downloading {
        /// 0 to 100.
        percent: f32,
        /// apt's message.
        detail: &'a str,
    },
    /// A package is being unpacked.
    Unpacking {
        /// The package's name.
        package: &'a str,
        /// The package's number, from 1.
        number: usize,
        /// The number of packages.
        of: usize,
    },
    /// A product is being assembled and written.
    Packing {
        /// The product.
        product: Product,
    },
    /// A product's files match their recorded SHA-256.
    Verified {
        /// The product.
        product: Product,
    },
    /// Warning: a cached product is damaged. It is built again; offline, it is an error.
    Corrupted {
        /// The product.
        product: Product,
        /// What differs.
        reason: &'a str,
    },
    /// A medium is being read.
    Hashing {
        /// The bytes that have been read.
        done: u64,
        /// The size of its file in bytes.
        of: u64,
    },
    /// The metadata of a medium are being checked.
    Checking,
    /// The system of a disk prepares itself.
    Preparing {
        /// What it does now, in its own words.
        what: &'a str,
    },
    /// All products of the recipe are built.
    Built {
        /// The duration of the build.
        seconds: f64,
    },
}

/// Ignores all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: &ProgressEvent<'_>) {}
}

/// The listener of one recipe's build.
#[derive(Clone, Copy)]
pub(crate) struct Reporter<'a> {
    pub(crate) recipe: &'a str,
    pub(crate) to: &'a dyn Progress,
}

impl Reporter<'_> {
    pub(crate) fn step(&self, step: Step<'_>) {
        self.to.event(&ProgressEvent { recipe: self.recipe, step });
    }
}
