//! Closed sets of words, such as tiers or architectures. Each value has one word, for reading, for printing and for the list of
//! known words in an error.

/// A word that is not in its set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{given}`")]
pub struct UnknownWord {
    /// What a word of the set is: "architecture", "tier".
    pub what: &'static str,
    /// The word as given.
    pub given: String,
    /// The words of the set.
    pub known: Vec<String>,
}

impl UnknownWord {
    /// The words of the set, as the end of a message: ``expected one of `kvm`, `tcg` ``.
    pub fn expected(&self) -> String {
        format!("expected one of `{}`", self.known.join("`, `"))
    }
}

/// A type whose values are each written as one fixed word.
pub trait Word: Copy + 'static {
    /// What a word of the set is, for errors: "architecture", "tier".
    const WHAT: &'static str;
    /// Every value.
    const ALL: &'static [Self];

    /// The word for this value.
    fn word(self) -> &'static str;

    /// All the words.
    fn words() -> Vec<String> {
        Self::ALL.iter().map(|value| value.word().to_owned()).collect()
    }

    /// The value with the word `text`.
    fn parse(text: &str) -> Result<Self, UnknownWord> {
        Self::ALL.iter().copied().find(|value| value.word() == text).ok_or_else(|| UnknownWord {
            what: Self::WHAT,
            given: text.to_owned(),
            known: Self::words(),
        })
    }
}

/// Implements `Display`, `FromStr` and serde for a [`Word`](crate::Word), all of them by the word. The calling crate needs serde.
#[macro_export]
macro_rules! word_traits {
    ($type:ty) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad($crate::Word::word(*self))
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::Word::parse(text)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(|unknown: $crate::UnknownWord| {
                    serde::de::Error::custom(format_args!("{unknown}, {}", unknown.expected()))
                })
            }
        }
    };
}
