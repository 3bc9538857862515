//! The speed of the clocks in a stack's levels.

use crate::word::Word;
use crate::word_traits;

/// The speed of the clocks in a stack's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Clock {
    /// The speed with which a stack boots fastest. On some emulated metal the clocks are then several times too slow.
    #[default]
    Fastest,
    /// That of this machine's clock.
    Real,
}

impl Word for Clock {
    const WHAT: &'static str = "clock";
    const ALL: &'static [Self] = &[Self::Fastest, Self::Real];

    fn word(self) -> &'static str {
        match self {
            Self::Fastest => "fastest",
            Self::Real => "real",
        }
    }
}
word_traits!(Clock);
