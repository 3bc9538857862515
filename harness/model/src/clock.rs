//! How the clocks of a stack's levels must go.

use crate::word::Word;
use crate::word_traits;

/// How the clocks of a stack's levels must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Clock {
    /// However the metal lets a stack boot fastest: on some emulated metal several times too slow.
    #[default]
    Fastest,
    /// As this machine's.
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
