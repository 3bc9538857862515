//! Kinds of operating systems that nestmatrix treats differently from an ordinary Linux.

use nestmatrix_model::{Word, word_traits};

/// What a system is, if it is not an ordinary Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// A Windows: it has no POSIX shell, and starts guests with its own hypervisor.
    Windows,
    /// A Linux without its own kernel that runs in WSL2 alone.
    Wsl,
}

impl Word for Family {
    const WHAT: &'static str = "family of systems";
    const ALL: &'static [Self] = &[Self::Windows, Self::Wsl];

    fn word(self) -> &'static str {
        match self {
            Self::Windows => "windows",
            Self::Wsl => "wsl",
        }
    }
}
word_traits!(Family);
