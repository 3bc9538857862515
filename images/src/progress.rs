//! What a build tells while it runs: typed events, so that a terminal, a log and a test each make of them what they need.

use crate::Product;

/// Listens to builds. Packages are unpacked by several threads at once, and each of them calls.
pub trait Progress: Sync {
    /// Something happened.
    fn event(&self, event: &ProgressEvent<'_>);
}

/// One event.
#[derive(Debug, Clone, Copy)]
pub struct ProgressEvent<'a> {
    /// Name of the recipe that is being made.
    pub recipe: &'a str,
    /// What happened.
    pub step: Step<'a>,
}

/// How far a recipe's images are.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Step<'a> {
    /// Another process builds this recipe; waiting for it.
    Waiting,
    /// The packages' current versions are being looked up.
    Resolving,
    /// Packages are being downloaded.
    Downloading {
        /// 0 to 100.
        percent: f32,
        /// apt's own words.
        detail: &'a str,
    },
    /// A package is being unpacked.
    Unpacking {
        /// Its name.
        package: &'a str,
        /// Which one it is, from 1.
        number: usize,
        /// Of how many.
        of: usize,
    },
    /// A product is being put together and written.
    Packing {
        /// Which.
        product: Product,
    },
    /// A product's files are there and have the recorded SHA-256.
    Verified {
        /// Which.
        product: Product,
    },
    /// Warning: a cached product is damaged. It is not used; it is built again, or offline given up.
    Corrupted {
        /// Which.
        product: Product,
        /// What differs.
        reason: &'a str,
    },
    /// All products of the recipe are built.
    Built {
        /// Wall-clock time from resolving to here.
        seconds: f64,
    },
}

/// Listens to nothing.
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
