//! How near an image is to the system that a document names.

use crate::word::Word;
use crate::word_traits;

/// How near an image is to the system that a document names, the nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fidelity {
    /// It is that system.
    Product,
    /// It is a rebuild of the same version, from the sources of that system.
    Rebuild,
    /// It is another system of the same generation.
    StandIn,
}

impl Fidelity {
    /// The mark behind the name of an image or a system, so that what is not the system itself is never taken for it.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Product => "",
            Self::Rebuild => "~",
            Self::StandIn => "*",
        }
    }
}

impl Word for Fidelity {
    const WHAT: &'static str = "fidelity";
    const ALL: &'static [Self] = &[Self::Product, Self::Rebuild, Self::StandIn];

    fn word(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Rebuild => "rebuild",
            Self::StandIn => "stand-in",
        }
    }
}
word_traits!(Fidelity);
